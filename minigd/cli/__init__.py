"""The commands, such as `minigd train`, and the table models that they write.

It may import everything; only `minigd` itself imports it.
Start with `main.py`.
"""
