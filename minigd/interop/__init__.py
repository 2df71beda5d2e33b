"""minigd in other libraries: scikit-learn's estimators, and ONNX files.

It may import everything but the commands.
Start with `sklearn/estimators.py`.
"""
