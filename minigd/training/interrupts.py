"""Ctrl-C, signals and a time limit, which end a run only between two updates.

So an interrupted run can be resumed: no batch is half applied, or applied and not counted. For the
same reason a second thread is refused.
"""

import signal
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any, TypeVar

from minigd.errors import check_number
from minigd.progress import clock, log
from minigd.training.events import Run

_Handler = TypeVar("_Handler", bound="Handler")

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
"""Ctrl-C, and signals that end a process: `docker stop` and the time limit of a cluster send
SIGTERM, and a closed terminal sends SIGHUP. Windows has SIGBREAK instead of SIGHUP."""

_PYTHONS = (signal.SIG_DFL, signal.default_int_handler)
"""The handlers of a signal that the program has not set."""


class Terminated(SystemExit):
    """The process received SIGTERM or SIGHUP. ``code`` is the usual exit code, 143 or 129."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def interruption(number: int) -> BaseException:
    """Return what a signal raises.

    >>> interruption(signal.SIGINT), interruption(signal.SIGTERM)
    (KeyboardInterrupt(), Terminated(143))
    """
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


class Handler:
    """A context that handles `SIGNALS` by the method `handle` of a subclass.

    It does nothing outside the main thread, or for a signal that the program handles or ignores, as
    with `nohup`.
    """

    _before: Mapping[int, Any] = {}

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        raise interruption(number)

    def __enter__(self: _Handler) -> _Handler:
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self.handle) for n in SIGNALS if _is_free(n)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            # A handler that the program has set in the meantime stays.
            if signal.getsignal(number) == self.handle:
                signal.signal(number, before)


def _is_free(number: int) -> bool:
    """Return whether Python, or a handler that only raises, handles a signal."""
    now = signal.getsignal(number)
    return now in _PYTHONS or type(getattr(now, "__self__", None)) is Handler


class Interrupt(Handler):
    """A context in which a signal during `busy` waits until `busy` ends.

    Attributes
    ----------
    busy : bool
        True while the work must not be interrupted.
    """

    def __init__(self) -> None:
        self.busy = False
        self._waiting: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Interrupt at once, or at the end of `busy`."""
        # A second Ctrl-C does not wait, because it is meant. The other signals often come twice,
        # from the terminal and from its shell.
        if self.busy and not number == self._waiting == signal.SIGINT:
            self._waiting = number
            return
        raise interruption(number)

    def done(self) -> None:
        """End `busy`, and pass on a signal that arrived in the meantime."""
        self.busy = False
        if self._waiting is not None:
            self._pass_on(self._waiting)

    def _pass_on(self, number: int) -> None:
        self._waiting = None
        raise interruption(number)


class Deadline(Interrupt):
    """Also stops the run at the end of the step, or chunk of steps, in which its time is up.

    Parameters
    ----------
    run : Run
    seconds : float
        The time from now, at least 0. At least one step is made.
    """

    def __init__(self, run: Run, seconds: float) -> None:
        super().__init__()
        self._run, self._over = run, False
        self._seconds, self._started = check_number("time_limit", seconds), clock()

    def done(self) -> None:
        """End `busy`, pass on a signal, and check the time."""
        super().done()
        self.stop_after(clock() - self._started)

    def stop_after(self, seconds: float) -> None:
        """Stop the run, once, if its time is up after this many seconds."""
        if seconds >= self._seconds and not self._over:
            self._over = True
            self._run.stop()
            log(
                f"the time limit of {self._seconds:g} s was reached after {self._run.updates:,} "
                f"updates, in epoch {self._run.epoch + 1}: another fit continues from here"
            )


class OneThread:
    """A context for one thread: it may enter repeatedly, and other threads are refused."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise _second_thread()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def _second_thread() -> RuntimeError:
    return RuntimeError(
        "another thread is using this trainer: give each thread its own trainer and model, or "
        "wait until the other thread is done"
    )
