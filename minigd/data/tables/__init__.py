"""What the columns of a table become: the grammar of cells, the schema, and how it is inferred.

It may import what `data` may, but nothing from `data.sources`, which uses it.
Start with `schema.py`.
"""
