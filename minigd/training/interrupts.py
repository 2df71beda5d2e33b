"""Ctrl-C between two updates and never in the middle of one.

An interrupted run can then be resumed: no batch was half applied, or applied and not counted.
"""

import signal
import threading
from types import FrameType
from typing import TypeVar

_Handler = TypeVar("_Handler", bound="Handler")


class Handler:
    """While this is entered, it handles Ctrl-C; a subclass says how, in `handle`.

    It does nothing outside the main thread, and nothing where the program handles Ctrl-C itself.
    """

    _installed = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Do what Ctrl-C is to do."""
        raise KeyboardInterrupt

    def __enter__(self: _Handler) -> _Handler:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.handle)
            self._installed = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class Interrupt(Handler):
    """While this is entered, Ctrl-C during `busy` waits until `busy` is over.

    Attributes
    ----------
    busy : bool
        Set around what must not be cut in two.
    """

    def __init__(self) -> None:
        self.busy = False
        self._waiting = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Interrupt at once, or when `busy` is over."""
        # A second Ctrl-C does not wait: whoever presses it twice means it.
        if self.busy and not self._waiting:
            self._waiting = True
            return
        raise KeyboardInterrupt

    def done(self) -> None:
        """End `busy`, and pass on an interrupt that came meanwhile."""
        self.busy = False
        if self._waiting:
            self._waiting = False
            raise KeyboardInterrupt
