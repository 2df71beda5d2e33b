"""Targets: the ways a Program is run, or printed.

It may import `execution`, and what that may; Numba is imported where it is needed.
Start with `numpy.py`.
"""
