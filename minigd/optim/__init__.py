"""From the mean gradient of a batch to new parameters.

It may import `backends` and `storage`, and what those may; it knows nothing of layers.
Start with `updaters/sgd.py`.
"""
