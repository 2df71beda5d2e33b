"""How a training step runs: through the layers, or faster with the same numbers.

It may import `nn`, and what that may.
Start with `plain.py`.
"""
