"""What a training run does and costs: explanations, races, plots, learning rates, summaries.

It may import `checks` and `training`, and what those may.
Start with `summary.py`.
"""
