"""Numerical checks of gradients, names for wrong ones, and slow twins to compare with.

It may import `training` and `execution`, and what those may.
Start with `gradients.py`.
"""
