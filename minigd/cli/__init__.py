"""The commands: `minigd train`, `predict`, `evaluate`, `info`, `race`, `check` and `demo`.

It may import everything, and nothing imports it.
Start with `main.py`.
"""
