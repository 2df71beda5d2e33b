"""The loop: epochs of updates, evaluation, callbacks, history, checkpoints.

It may import `execution`, and what that may.
Start with `trainer.py`.
"""
