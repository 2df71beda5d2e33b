"""What a training run does and costs: explanations, races, plots, learning rates, summaries.

It may import `checks` and `training`, and what they may import.
Start with `summary.py`.
"""
