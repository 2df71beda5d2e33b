"""Rows from any source, cut into batches; row weights; prefetching.

It may import `storage` and `backends`, and what those may; it knows nothing of layers.
Start with `batches.py`, then `sources/base.py`.
"""
