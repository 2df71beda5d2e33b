"""Scikit-learn estimators on top of the engine.

It may import what `interop` may; scikit-learn is an extra.
Start with `estimators.py`.
"""
