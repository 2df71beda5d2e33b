"""Targets: the ways a Program is run.

It may import `execution`, and what that may; Numba is imported by the modules that need it alone.
Start with `vector_math.py`.
"""
