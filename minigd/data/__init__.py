"""Rows from any source, cut into batches; row weights; prefetching.

It may import `storage`, `backends` and what they may import; it knows nothing about layers.
Start with `batches.py`, then `sources/base.py`.
"""
