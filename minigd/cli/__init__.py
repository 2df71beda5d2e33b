"""The commands, such as `minigd train`, and the models with a table that they write.

It may import everything, and nothing but `minigd` itself imports it.
Start with `main.py`.
"""
