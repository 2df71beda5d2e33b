"""Progress of a run: a moving bar if possible, or a line now and then.

All output goes to standard error through `log` and `bar`. A failure there never ends a run.
"""

import contextlib
import contextvars
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from tqdm import tqdm

from minigd.errors import CHECKED, escape_controls

LINES = 10
"""About how many lines count the epochs of a fit."""

REFRESH = 0.2
"""Seconds between two drawings of a fit's bar."""

FIRST = 10.0
"""Seconds before a pass shows a bar or a line. The wait doubles after each line."""

clock = time.perf_counter

Item = TypeVar("Item")

_SPELLED = {
    **{"Σ": "Sum", "√": "sqrt ", "∂": "d", "ℓ": "l", "ᵢ": "_i", "ₖ": "_k", "ᵀ": "^T", "²": "^2"},
    **{"½": "1/2", "·": "*", "⊙": ".*", "−": "-", "≤": "<=", "→": "->", "←": "<-", "⋮": ":"},
    **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "η": "eta"},
    **{"λ": "lambda", "μ": "mu", "ρ": "rho", "σ": "sigma", "\u0302": "_hat", "…": "..."},
    **{"₀₁₂₃₄₅₆₇₈₉"[digit]: f"_{digit}" for digit in range(10)},
}
"""How signs of formulas are written in encodings that lack them."""


_QUIET = contextvars.ContextVar("minigd_quiet", default=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Print nothing inside this context: of several processes, only one prints."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


# One door ------------------------------------------------------------------------------------


def log(line: str) -> None:
    """Print a line on standard error. A failure to print is not an error of the caller."""
    if _QUIET.get():
        return
    line = escape_controls(line)
    if getattr(tqdm, "_instances", None):  # a bar is drawn, and makes room for the line
        with contextlib.suppress(Exception):
            tqdm.write(line, file=_STDERR)
    else:
        _STDERR.write(line + "\n")
    _STDERR.flush()


def _depth(stacklevel: int) -> int:
    """Return the stack level of a caller of `warn`, counting frames that only check arguments."""
    frame, depth = sys._getframe(2), 0
    while stacklevel > 1 and frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
        stacklevel -= frame.f_code is not CHECKED
    return depth


def warn(
    message: Warning | str, category: type[Warning] | None = None, stacklevel: int = 1
) -> None:
    """Warn as `warnings.warn` does, but ignore a failure to print on standard error."""
    if _QUIET.get():
        return
    message = escape_controls(message) if isinstance(message, str) else message
    # Not Exception: the user's filter may turn the warning itself into an error.
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, RuntimeError):
        warnings.warn(message, category, stacklevel=_depth(stacklevel) + 2)


def readable(text: str, stream: Any) -> str:
    r"""Return a text as a stream can show it: characters that its encoding lacks are spelled out.

    >>> import io
    >>> readable("dW1 = xᵀ·dz1 / n", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    'dW1 = x^T*dz1 / n'
    """
    encoding = str(getattr(stream, "encoding", None) or "utf-8")
    if _fits(text, encoding):
        return text
    return "".join(sign if _fits(sign, encoding) else _spell_out(sign) for sign in text)


def printable(text: str) -> str:
    """Return a text as standard output can show it, for callers that print it themselves."""
    text = escape_controls(text)
    try:
        return readable(text, sys.stdout)
    except Exception:
        return text


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def _spell_out(sign: str) -> str:
    return _SPELLED.get(sign) or sign.encode("ascii", "backslashreplace").decode()


class _Stderr:
    """The current standard error; its failures are ignored."""

    @property
    def encoding(self) -> str:
        """The encoding for a bar."""
        return str(getattr(sys.stderr, "encoding", None) or "ascii")

    def write(self, text: str) -> None:
        """Write as much as can be written."""
        with contextlib.suppress(Exception):
            sys.stderr.write(readable(text, sys.stderr))

    def flush(self) -> None:
        """Flush the stream."""
        with contextlib.suppress(Exception):
            sys.stderr.flush()


_STDERR = _Stderr()


def bar(**options: Any) -> Any:
    """Return a new tqdm bar if one can be drawn: in a terminal or in a notebook."""
    with contextlib.suppress(Exception):
        # The stream decides, not the kernel: standard error may be redirected.
        if type(sys.stderr).__module__ == "ipykernel.iostream":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # without ipywidgets the bar is a text bar
                from tqdm import auto

                return auto.tqdm(file=_STDERR, **options)
        if sys.stderr.isatty() and not _QUIET.get():
            return tqdm(file=_STDERR, ncols=shutil.get_terminal_size().columns, **options)
    return None


# How far it is -------------------------------------------------------------------------------


class Pace:
    """The speed of some work, and when to print a line about it."""

    def __init__(self) -> None:
        self.started = self._shown = clock()
        self._wait = FIRST

    def due(self) -> bool:
        """Return whether to print a line now: after ten seconds, then after growing intervals."""
        now = clock()
        if now - self._shown < self._wait:
            return False
        self._shown, self._wait = now, 2 * self._wait
        return True

    def text(self, done: float, share: float | None, unit: str = "rows") -> str:
        """Return the speed and the remaining time."""
        seconds = max(clock() - self.started, 1e-9)
        rate = done / seconds
        text = f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"
        if share:
            text += f"  about {format_duration(seconds * max(1 / share - 1, 0))} left"
        return text


def format_duration(seconds: float) -> str:
    """Return a time in words.

    >>> format_duration(44.6), format_duration(150), format_duration(9000)
    ('45 s', '2 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class RowProgress:
    """Shows the progress of a pass over rows if it takes longer than ten seconds.

    In a terminal and in a notebook it shows a bar, which disappears when the pass is done.
    Elsewhere it prints a line, and further lines after growing intervals.

    Parameters
    ----------
    what : str
        The name of the work.
    total : int, optional
        The number of rows, if known.
    unit : str, default "rows"
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "rows") -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self._pace = Pace()
        self._bar: Any = None
        self._undrawn = True

    def advance(self, rows: int, share: float | None = None) -> None:
        """Count rows; `share` is the share of the work that is done, if `total` is unknown."""
        self.done += rows
        if share:
            self.total = round(self.done / min(share, 1))
        if self._undrawn and clock() - self._pace.started >= FIRST:
            self._undrawn = False
            options = {
                "desc": escape_controls(self.what),
                "unit": f" {self.unit}",
                "unit_scale": True,
            }
            self._bar = bar(total=self.total, initial=self.done, leave=False, **options)
        elif self._bar is not None:
            with contextlib.suppress(Exception):
                self._bar.total = self.total
                self._bar.update(rows)
        if self._bar is None and self._pace.due():
            part = self.done / self.total if self.total else None
            shown = "" if part is None else f"  {part:.0%}"
            pace = self._pace.text(self.done, part, self.unit)
            log(f"{self.what}: {self.done:,} {self.unit}{shown}  {pace}")

    def close(self) -> None:
        """Remove the bar."""
        with contextlib.suppress(Exception):
            self._bar.close()


def with_progress(
    items: Iterable[Item],
    what: str,
    total: int | None = None,
    *,
    rows: Callable[[Any], int] = lambda item: len(item[0]),
    share: Callable[[Item], float | None] = lambda item: None,
    unit: str = "rows",
) -> Iterator[Item]:
    """Yield items unchanged, and show the progress if they take long.

    Parameters
    ----------
    items : iterable
    what, total, unit
        As in `RowProgress`.
    rows : callable, optional
        The number of rows of an item; by default the length of its first part.
    share : callable, optional
        The finished share of the work after an item, if `total` is unknown.
    """
    shown = RowProgress(what, total, unit)
    try:
        for item in items:
            yield item
            shown.advance(rows(item), share(item))
    finally:
        shown.close()


class Progress:
    """Shows the progress of a fit.

    Parameters
    ----------
    epochs : int
        The number of epochs of the fit.
    updates : int or None
        The number of updates in all epochs, or None if the number of rows is unknown.
    left_out : int, default 0
        Rows that each epoch leaves out. A line reports them.
    before : int, default 0
        Epochs done before, in a resumed run.
    """

    def __init__(
        self, epochs: int, updates: int | None, left_out: int = 0, before: int = 0
    ) -> None:
        self.epochs = before + epochs
        self._done, self._first = before, before + 1
        self._every = max(1, -(-epochs // LINES))
        self._pace = Pace()
        self._updates = self._rows = 0
        self._total = updates
        self._shown = 0.0
        if left_out:
            log(f"each epoch leaves out {left_out} rows (tail='drop')")
        self._bar = bar(total=updates, unit=" updates", leave=True)
        self._describe()

    def _describe(self) -> None:
        now = min(self._done + 1, self.epochs)
        with contextlib.suppress(Exception):
            self._bar.set_description_str(f"epoch {now}/{self.epochs}", refresh=False)

    def update(self, loss: Any, rows: int = 0, updates: int = 1) -> bool:
        """Count rows, and updates if there is a loss. Return whether the loss was read and shown.

        Reading the loss makes a GPU wait, so not every update reads it.
        """
        self._rows += rows
        if loss is None:
            return False
        self._updates += updates
        if self._bar is None:
            if not self._pace.due():
                return False
            share = self._updates / self._total if self._total else None
            made = f"{self._updates:,}" + (f"/{self._total:,}" if self._total else "")
            log(
                f"epoch {self._done + 1}/{self.epochs}  update {made}  batch loss "
                f"{float(loss):.4g}  {self._pace.text(self._rows, share)}"
            )
            return True
        now = clock()
        shows = now - self._shown >= REFRESH
        value = float(loss) if shows else 0.0
        with contextlib.suppress(Exception):
            self._bar.update(updates)
            if shows:
                self._shown = now
                self._bar.set_postfix_str(f"batch loss {value:.4g}", refresh=False)
        return shows

    def epoch(self, values: Mapping[str, float]) -> None:
        """Count an epoch and show its results."""
        self._done += 1
        if self._total is None:
            # The first epoch has counted the rows.
            self._total = self._updates * (self.epochs - self._first + 1)
        shown = {k: v for k, v in values.items() if k not in ("seconds", "updates")}
        text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if self._bar is not None:
            with contextlib.suppress(Exception):
                self._bar.total = self._total
                self._bar.set_postfix_str(escape_controls(text))
            self._describe()
        elif self._done % self._every == 0 or self._done in (self._first, self.epochs):
            seconds = clock() - self._pace.started
            log(f"epoch {self._done}/{self.epochs}  {text}  {seconds:.1f} s")

    def close(self) -> None:
        """Leave the bar on the screen and end its line."""
        with contextlib.suppress(Exception):
            self._bar.close()
