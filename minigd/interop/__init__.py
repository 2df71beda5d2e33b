"""minigd for other libraries: scikit-learn estimators, and ONNX files.

It may import everything but the commands.
Start with `sklearn/estimators.py`.
"""
