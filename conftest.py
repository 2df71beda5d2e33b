"""The package is imported whole before any file of it is collected for its examples.

`minigd.explain` is a function that has the name of its module, which pytest would put in its place.
"""

import minigd  # noqa: F401
