"""Layers, losses, metrics, and the network made of them.

It may import `data` and `optim`, and what those may.
Start with `layers/dense.py`, then `sequential.py` and `objective.py`.
"""
