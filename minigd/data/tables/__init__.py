"""What the columns of a table become: the grammar of cells, the schema, and how it is inferred.

It may import what `data` may, and nothing of `data.sources`, which reads tables by it.
Start with `schema.py`.
"""
