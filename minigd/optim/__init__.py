"""From the mean gradient of a batch to new parameters.

It may import `backends` and `storage`, and what those may. It does not depend on layers. Start with
`updaters/sgd.py`.
"""
