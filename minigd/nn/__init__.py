"""Layers, losses, metrics, and the network that they make.

It may import `data` and `optim`, and what those may.
Start with `layers/dense.py`, then `sequential.py` and `objective.py`.
"""
