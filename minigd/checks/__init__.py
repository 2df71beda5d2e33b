"""Is a gradient right? Checks by numbers, what an error looks like, and slow twins to compare with.

It may import `training` and `execution`, and what those may.
Start with `gradients.py`.
"""
