"""Rows of Parquet files, as pyarrow reads them."""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from minigd.backends.on_demand import optional
from minigd.data.sources.csv_layout import unnamed_among, warn_of_unnamed
from minigd.data.sources.file_kinds import opened
from minigd.data.sources.iterable import IterableSource
from minigd.data.sources.parquet_files import find_parquet_files
from minigd.data.tables.missing import Missing
from minigd.data.tables.schema import Schema
from minigd.errors import DataError, check_integer, validated


class ParquetSource(IterableSource):
    """Rows of Parquet files, a row group or a part of one at a time.

    The index of a frame that pandas wrote is a column like others; one without a name,
    ``__index_level_0__``, is warned of.

    Parameters
    ----------
    path : path, or a list of them
        Several files have the same columns and follow one another. A pattern, ``data/*.parquet``,
        means several, and so does a folder: those in it that end in .parquet or .pq, by name.
    target, features, exclude, missing, categories, min_count, hashed, dates, logs, leave_out, \
classes, schema, dtype
        As `CsvSource`.
    block_rows : int, default 65,536
        Rows read at a time; it changes nothing but speed and memory.

    Raises
    ------
    DataError
        As `CsvSource`, with the row in place of the line.
    ImportError
        If pyarrow is missing; it says what to install.
    """

    @validated
    def __init__(
        self,
        path: Any,
        target: str | Sequence[str] | None = None,
        *,
        features: Sequence[str] | None = None,
        exclude: Collection[str] | None = (),
        missing: Missing = "error",
        categories: Mapping[str, Sequence[Any] | None] | None = None,
        min_count: int | None = None,
        hashed: Mapping[str, int] | None = None,
        dates: Mapping[str, str] | None = None,
        logs: Collection[str] = (),
        leave_out: bool = False,
        classes: Sequence[Any] | None = None,
        schema: Schema | None = None,
        dtype: Any = "float32",
        block_rows: int = 65_536,
    ) -> None:
        arrow_errors = optional("pyarrow.lib", "a Parquet file").ArrowException
        parquet = optional("pyarrow.parquet", "a Parquet file")
        block_rows = min(check_integer("block_rows", block_rows), 2**31 - 1)
        paths = find_parquet_files(path)

        def pieces() -> Iterator[Any]:
            for one in paths:
                try:
                    with opened(one) as rows, parquet.ParquetFile(rows) as file:
                        # Without what pandas noted, its index is a column like others.
                        for batch in file.iter_batches(batch_size=block_rows):
                            yield batch.replace_schema_metadata(None)
                except (arrow_errors, OSError) as error:
                    # An error of the system has a number, such as that of a file that isn't there.
                    if getattr(error, "errno", None) is not None:
                        raise
                    raise DataError(
                        f"{one} is not a Parquet file, or is damaged: {error}"
                    ) from error

        # Any other file is refused by the first pass, in words.
        with contextlib.suppress(arrow_errors, OSError):
            self._whole = sum(parquet.read_metadata(one).num_rows for one in paths)
        super().__init__(
            pieces,
            target,
            features=features,
            exclude=exclude,
            missing=missing,
            categories=categories,
            min_count=min_count,
            hashed=hashed,
            dates=dates,
            logs=logs,
            leave_out=leave_out,
            classes=classes,
            schema=schema,
            dtype=dtype,
            name=", ".join(str(one) for one in paths),
        )
        if schema is None and self.schema is not None:
            unnamed = unnamed_among(self.schema.features, () if features is None else features)
            warn_of_unnamed(unnamed, self._name, stacklevel=3)
