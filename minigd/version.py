"""The version of minigd. It stands alone so that packaging can read it without importing NumPy."""

__version__ = "0.2.0"
