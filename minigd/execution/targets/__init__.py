"""Targets: the ways in which a Program is run or printed.

It may import `execution`, and what that may; Numba and CuPy are imported only where they are
needed. Start with `numpy.py`.
"""
