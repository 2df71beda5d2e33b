"""Files without pickle: arrays with a description, written completely or not at all.

It may import `errors`, `progress`, `types` and `formulas`, and nothing else from the package.
Start with `npz.py`, and `atomic_files.py` for how it replaces a file.
"""
