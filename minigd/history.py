"""The history of a run: one float an epoch for the loss, each metric, the seconds, the updates."""

import math
from collections.abc import Iterator, Mapping
from typing import Any


class History(Mapping[str, list[float]]):
    """What each epoch came to, by name.

    Keys are ``loss`` and the metrics, the same with ``val_`` in front where there are validation
    data, and

    - ``seconds``: what the epoch's training took, evaluation and callbacks left out;
    - ``updates``: how many updates had been made when it ended, counted from the start of the run.

    ``loss`` and the metrics are means over the rows of the epoch, each row taken as the model was
    before the update it was part of; ``val_loss`` is taken after the epoch.

    Examples
    --------
    >>> history = History()
    >>> history.append({"loss": 0.5, "updates": 12})
    >>> history.append({"loss": 0.25, "updates": 24})
    >>> history["loss"], history.epochs
    ([0.5, 0.25], 2)
    """

    def __init__(self, columns: Mapping[str, list[float]] | None = None) -> None:
        self._columns = {name: list(values) for name, values in (columns or {}).items()}

    @property
    def epochs(self) -> int:
        """How many epochs it holds."""
        return max((len(values) for values in self._columns.values()), default=0)

    def append(self, values: Mapping[str, float]) -> None:
        """Add an epoch; what an epoch did not measure is NaN."""
        done = self.epochs
        for name in [*self._columns, *values]:
            column = self._columns.setdefault(name, [math.nan] * done)
            if len(column) == done:
                column.append(float(values.get(name, math.nan)))

    def __getitem__(self, name: str) -> list[float]:
        if name not in self._columns:
            raise KeyError(f"{name!r}; the history holds {', '.join(self._columns) or 'nothing'}")
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def state_dict(self) -> dict[str, Any]:
        """Return the columns."""
        return {name: list(values) for name, values in self._columns.items()}

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self._columns.items())
        return f"History({self.epochs} epochs{'; last: ' + last if last else ''})"
