"""One call of `fit`: its batches, its callbacks, and what it shows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from minigd.data.batches import Batches
from minigd.execution.numba_loops import format_compile_time
from minigd.execution.profiler import Profiler
from minigd.progress import Progress, log
from minigd.training.events import Callback, Event, Run
from minigd.training.interrupts import Interrupt


class Session(NamedTuple):
    """What one `fit` brings to its epochs."""

    run: Run
    batches: Batches  # on the model's device, where they fit there
    validation: Batches | None
    callbacks: list[Callback]
    progress: Progress | None
    profiler: Profiler | None
    interrupt: Interrupt

    def call(self, event: Event) -> None:
        """Call the callbacks with an event."""
        for callback in self.callbacks:
            callback(event)

    def send(self, name: str, loss: Any = None) -> None:
        """Call the callbacks with an event that is not of a batch."""
        self.call(Event(name, self.run, loss))

    def send_last(self, *names: str) -> None:
        """Call the callbacks with the loss of the last epoch."""
        history = self.run.history
        loss = history["loss"][-1] if history else None
        for name in names:
            self.send(name, loss)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.progress is not None:
            self.progress.close()

    def report_compile_time(self) -> None:
        """Print how long Numba compiled, if it did."""
        compiled = format_compile_time()
        if compiled is not None:
            log(compiled)

    def report_profile(self) -> None:
        """Print where the time went, if that was measured."""
        if self.profiler is not None:
            log(self.profiler.line(self.run.model.dtype))


def open_session(
    run: Run,
    batches: Batches,
    validation: Batches | None,
    callbacks: Mapping[str, Callback],
    shown: int,
    profile: bool,
) -> Session:
    """Return the session of a run; a bar shows so many epochs, if there are any to show."""
    backend = run.model.backend
    return Session(
        run,
        batches.on(backend),
        None if validation is None else validation.on(backend),
        list(callbacks.values()),
        _progress(run, batches, shown) if shown > 0 else None,
        Profiler() if profile else None,
        Interrupt(),
    )


def _progress(run: Run, batches: Batches, epochs: int) -> Progress:
    accumulate = run.options["accumulate"]
    known = batches.source.rows is not None
    updates = -(-len(batches) // accumulate) if known else 0
    return Progress(
        epochs,
        updates=epochs * updates - run.batch // accumulate if known else None,
        left_out=batches.dropped if known else 0,
        before=0 if run.until_epoch is None else run.epoch,
    )
