"""Ctrl-C while a command trains: the run stops between two updates, and can go on."""

import signal
import threading
from types import FrameType, TracebackType

from minigd.commands.words import counted
from minigd.trainer import Event


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; the run is saved and can go on."""

    def __init__(self, checkpoint: str, updates: int) -> None:
        super().__init__(
            f"interrupted after {counted(updates, 'update')}, which {checkpoint} holds"
        )


class CtrlC:
    """While this is entered, the first Ctrl-C ends a fit after its update, the second one at once.

    It is one of the callbacks of the fit.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._installed = False

    def __enter__(self) -> "CtrlC":
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def __call__(self, event: Event) -> None:
        """Stop if Ctrl-C was pressed."""
        if self.pressed:
            event.trainer.stop()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
