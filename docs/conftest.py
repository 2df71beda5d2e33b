"""What pytest leaves alone among the pages: Sphinx's settings, which need Sphinx.

The examples on the pages themselves are run.
"""

collect_ignore = ["conf.py"]
