"""Ctrl-C while a command trains: the run stops between two updates.

What was learned is in a checkpoint then, from which the run can go on.
"""

from types import FrameType

from minigd.cli.messages import counted
from minigd.training.events import Event
from minigd.training.interrupts import Handler


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; the run is saved and can go on."""

    def __init__(self, checkpoint: str, updates: int) -> None:
        super().__init__(
            f"interrupted after {counted(updates, 'update')}, which {checkpoint} holds"
        )


class CtrlC(Handler):
    """While this is entered, the first Ctrl-C ends a fit after its update, the second one at once.

    It is one of the callbacks of the fit.
    """

    def __init__(self) -> None:
        self.pressed = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note it, so that the fit stops; a second one interrupts at once."""
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def __call__(self, event: Event) -> None:
        """Stop if Ctrl-C was pressed."""
        if self.pressed:
            event.trainer.stop()
