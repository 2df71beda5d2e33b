"""Progress of a run: a moving bar in a terminal, a few plain lines anywhere else."""

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

LINES = 10
"""Plain lines a fit, about."""

REFRESH = 0.2
"""Seconds between two drawings of the bar."""


class Progress:
    """Shows how far a fit has come, on stderr.

    Parameters
    ----------
    epochs : int
        How many epochs the fit will run.
    updates : int or None
        How many updates they make together; None where nobody has counted the rows.
    left_out : int, default 0
        Rows that each epoch leaves out, which is said.
    before : int, default 0
        Epochs made before, where a run goes on.
    """

    def __init__(
        self, epochs: int, updates: int | None, left_out: int = 0, before: int = 0
    ) -> None:
        self.epochs = before + epochs
        self._done, self._first = before, before + 1
        self._every = max(1, -(-epochs // LINES))
        self._started = time.perf_counter()
        self._shown = 0.0
        self._bar: Any = None
        if left_out:
            say(f"each epoch leaves out {left_out} rows (tail='drop')")
        if sys.stderr is not None and sys.stderr.isatty():
            columns = shutil.get_terminal_size().columns
            self._bar = tqdm(total=updates, unit=" updates", ncols=columns, leave=True)
            self._describe()

    def _describe(self) -> None:
        now = min(self._done + 1, self.epochs)
        self._bar.set_description_str(f"epoch {now}/{self.epochs}", refresh=False)

    def update(self, loss: Any) -> bool:
        """Count an update, and tell whether the bar was drawn anew, for which the loss is read."""
        if self._bar is None:
            return False
        self._bar.update()
        now = time.perf_counter()
        if now - self._shown < REFRESH:
            return False
        self._shown = now
        self._bar.set_postfix_str(f"batch loss {float(loss):.4g}", refresh=False)
        return True

    def epoch(self, values: Mapping[str, float]) -> None:
        """Count an epoch and show what it came to."""
        self._done += 1
        shown = {k: v for k, v in values.items() if k not in ("seconds", "updates")}
        text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            self._describe()
        elif self._done % self._every == 0 or self._done in (self._first, self.epochs):
            seconds = time.perf_counter() - self._started
            say(f"epoch {self._done}/{self.epochs}  {text}  {seconds:.1f} s")

    def close(self) -> None:
        """Leave the bar as it is and end its line."""
        if self._bar is not None:
            self._bar.close()


def say(line: str) -> None:
    """Print a line on stderr, if there is one."""
    # A program without a console has no stderr.
    if sys.stderr is not None:
        print(line, file=sys.stderr)
