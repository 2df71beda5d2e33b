"""Where arrays live, and how the rows that users pass become arrays.

It may import `errors`, `progress`, `types` and `formulas`, and nothing else of the package. Start
with `base.py`: the backend object, and NumPy's; `cupy.py` is loaded when a GPU is requested.
"""
