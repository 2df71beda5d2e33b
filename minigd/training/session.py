"""One call of `fit`: its batches, its callbacks and its progress."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from minigd.data.batches import Batches
from minigd.execution.profiler import Profiler
from minigd.execution.targets.compiler import format_compile_time
from minigd.execution.threads import describe
from minigd.progress import Progress, log
from minigd.training.events import Callback, Event, Run, wanted_events
from minigd.training.interrupts import Deadline, Interrupt, Terminated


class Session(NamedTuple):
    """The parts of one `fit` that its epochs use."""

    run: Run
    batches: Batches  # on the model's device, if they fit there
    validation: Batches | None
    callbacks: list[tuple[Callback, frozenset[str] | None]]  # each with the events it wants
    progress: Progress | None
    profiler: Profiler | None
    interrupt: Interrupt

    @property
    def by_epoch(self) -> bool:
        """Whether no callback wants to be called within an epoch."""
        return all(e is not None and not e & {"update", "batch"} for _, e in self.callbacks)

    @property
    def repeatable(self) -> bool:
        """Whether batches can be repeated: rows are in memory, and no callback saw the model."""
        # For the exact class, because a subclass may do more.
        looking = [c for c in self.callbacks if "only_saves" not in vars(type(c[0]))]
        return self._replace(callbacks=looking).by_epoch and not self.batches.source.one_shot

    def call(self, event: Event) -> None:
        """Call the callbacks that want this event."""
        for callback, events in self.callbacks:
            if events is None or event.name in events:
                callback(event)

    def send(self, name: str, loss: Any = None) -> None:
        """Call the callbacks with an event that does not belong to a batch."""
        self.call(Event(name, self.run, loss))

    def send_last(self, *names: str) -> None:
        """Call the callbacks with the loss of the last epoch."""
        history = self.run.history
        loss = history["loss"][-1] if history else None
        for name in names:
            self.send(name, loss)

    def end_early(self, error: BaseException) -> None:
        """Let callbacks end an interrupted run. After another error, pass on a waiting signal."""
        if not isinstance(error, KeyboardInterrupt | Terminated):
            self.interrupt.done()
            return
        # A second Ctrl-C, or one that a callback raised, came in the middle of an update.
        whole, self.interrupt.busy = not self.interrupt.busy, True
        for callback, events in self.callbacks:
            if whole and events is not None and "interrupt" in events:
                callback(Event("interrupt", self.run))
        # After Ctrl-C, the user continues with the final model.
        self.send_last("done")

    def close(self) -> None:
        """Close the bar."""
        if self.progress is not None:
            self.progress.close()

    def report_compile_time(self) -> None:
        """Print how long Numba compiled, if it did."""
        compiled = format_compile_time()
        if compiled is not None:
            log(compiled)

    def report_profile(self, threads: int | None, not_compiled: str | None) -> None:
        """Print a profile if requested: times, BLAS threads, and why nothing was compiled."""
        if self.profiler is not None:
            line = self.profiler.line(self.run.model.dtype)
            line += "" if threads is None else f"; {describe(threads)}"
            log(line if not_compiled is None else f"{line}; not compiled: {not_compiled}")


def open_session(
    run: Run,
    batches: Batches,
    validation: Batches | None,
    callbacks: Mapping[str, Callback],
    shown: int,
    profile: bool,
    time_limit: float | None,
) -> Session:
    """Return the session of a run. A bar shows this many epochs, if any."""
    backend = run.model.backend
    return Session(
        run,
        batches.on(backend),
        None if validation is None else validation.on(backend),
        [(callback, wanted_events(callback)) for callback in callbacks.values()],
        _progress(run, batches, shown) if shown > 0 else None,
        Profiler() if profile else None,
        Interrupt() if time_limit is None else Deadline(run, time_limit),
    )


def _progress(run: Run, batches: Batches, epochs: int) -> Progress:
    accumulate = run.options["accumulate"]
    known = batches.source.rows is not None
    each = (len(batches.at(run.epoch + k)) for k in range(epochs)) if known else ()
    updates = sum(-(-count // accumulate) for count in each)
    return Progress(
        epochs,
        updates=updates - run.batch // accumulate if known else None,
        left_out=batches.dropped if known else 0,
        before=0 if run.until_epoch is None else run.epoch,
    )
