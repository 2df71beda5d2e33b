"""What pytest leaves alone among the pages: Sphinx's settings, and what notebooks import.

The examples on the pages themselves are run.
"""

collect_ignore = ["conf.py", "notebooks/helpers.py"]
