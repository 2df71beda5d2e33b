"""Ctrl-C, and other signals that end a process, in a training from the shell."""

import signal
from types import FrameType

from minigd.cli.messages import counted
from minigd.training.events import Event
from minigd.training.interrupts import Handler


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a signal ended the training.

    Parameters
    ----------
    checkpoint : str
    updates : int
        The number of updates done.
    held : int or None
        How many of them are in the checkpoint; None if this run has no checkpoint.
    number : int
        The signal.

    Attributes
    ----------
    code : int
        The exit code for it.
    resumable : bool
    in_all : bool
        Whether all processes of a run end at the same time, and none must be notified.
    """

    in_all = False

    def __init__(self, checkpoint: str, updates: int, held: int | None, number: int) -> None:
        made = f"interrupted after {counted(updates, 'update')}"
        if held == updates:
            super().__init__(f"{made}, all saved in {checkpoint}")
        elif held is not None:
            super().__init__(f"{made}, of which the first {held:,} are saved in {checkpoint}")
        else:
            super().__init__(f"{made}, which are lost: {checkpoint} could not be written")
        self.resumable, self.code = held is not None, 128 + number


class Stop(Handler):
    """In this context, the first Ctrl-C ends a fit after its update, the second one immediately.

    Other signals that end a process act like the first Ctrl-C each time. The object is one of the
    callbacks of the fit.

    Attributes
    ----------
    number : int or None
        The signal that was received.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Record it to stop the fit; a second Ctrl-C interrupts immediately."""
        if number == self.number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    def __call__(self, event: Event) -> None:
        """Stop if a signal was received."""
        if self.number is not None:
            event.trainer.stop()
