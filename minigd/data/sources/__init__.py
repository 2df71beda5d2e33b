"""Where rows come from, one file per kind of place.

It may import `data.tables`, `storage` and `backends`, and what they may import.
Start with `base.py`, then `array.py`; `csv.py` is the largest.
"""
