"""A pass over a table that is read with another table's schema, and its counts."""

from collections import Counter
from typing import Any

import numpy as np

from minigd.data.tables.first_pass import FirstPass
from minigd.data.tables.inference import Table, zero_categories
from minigd.data.tables.places import MissingWords, Place, describe, describe_dropped
from minigd.data.tables.schema import BadValue, Encoded, Schema


def apply_schema(schema: Schema, table: Table, name: str) -> FirstPass:
    """Read a table once with the schema of another table."""
    applied = Applied(schema, table)
    for frame in table.frames(schema.kinds):
        applied.add(frame)
    return applied.result(name)


class Applied:
    """What such a pass has found so far."""

    def __init__(self, schema: Schema, table: Place) -> None:
        self.schema, self.table = schema, table
        self.rows = self.dropped = 0
        self.gaps: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.first, self.words = "", MissingWords(table)

    def add(self, frame: Any) -> Encoded:
        """Encode a frame, and update the counts."""
        schema = self.schema
        try:
            x, y, kept = schema.encode(frame)
        except BadValue as bad:
            raise describe(self.table, bad) from None
        self.rows += len(x)
        self.dropped += len(frame) - len(x)
        kept_frame = frame if kept is None else frame[kept]
        missing = kept_frame[schema.features].isna().to_numpy().sum(axis=0)
        self.gaps.update(dict(zip(schema.features, missing.tolist(), strict=True)))
        self.unknown.update(schema.count_unknown(kept_frame))
        if kept is not None and not self.first:
            dropped = schema.first_bad_value(frame, int(np.argmin(kept)))
            self.first = describe_dropped(self.table, dropped)
        self.words.add(frame, schema.texts)
        return x, y, kept

    def result(self, name: str) -> FirstPass:
        """Return the result, and warn of words that were read as missing values."""
        schema, words = self.schema, self.words
        words.warn(name, schema.needed, zero_categories(schema))
        counts, gaps, unknown = dict(words.counts), dict(+self.gaps), dict(+self.unknown)
        return FirstPass(schema, self.rows, self.dropped, self.first, {}, counts, gaps, unknown)
