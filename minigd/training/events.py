"""The events of a run, the callbacks that receive them, and the state of callbacks."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from minigd.data.batches import Batches
from minigd.data.sources.base import Rows
from minigd.distributed.communicator import Communicator
from minigd.errors import check_list, shown
from minigd.nn.metrics import Metric
from minigd.nn.objective import Objective
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import Updater
from minigd.progress import warn
from minigd.storage.damage import damaged
from minigd.training.history import History
from minigd.types import Array


class Run(Protocol):
    """The part of a `minigd.Trainer` that callbacks and checkpoints use."""

    model: Sequential
    objective: Objective
    metrics: dict[str, Metric]
    updater: Updater
    history: History
    until_epoch: int | None
    communicator: Communicator

    @property
    def updates(self) -> int:
        """Updates made."""
        ...

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        ...

    @property
    def batch(self) -> int:
        """Batches made in the current epoch."""
        ...

    @property
    def batches(self) -> Batches:
        """The batches of the last `fit`."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """The settings of the trainer."""
        ...

    def stop(self) -> None:
        """End `fit` after this update."""
        ...

    def evaluate(
        self, data: Any, y: Any = None, batch_size: int = 1024, sample_weight: Any = None
    ) -> dict[str, float]:
        """Return the loss and the metrics over all rows."""
        ...

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the run to a file."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that determines the next update."""
        ...


EVENTS = ("start", "batch", "update", "epoch", "end", "done", "interrupt")


class Event(NamedTuple):
    """What a callback receives.

    Attributes
    ----------
    name : {"start", "batch", "update", "epoch", "end", "done", "interrupt"}
        What has just happened. ``"start"``: `fit` was called. ``"update"``: an update was made.
        ``"batch"``: a batch made no update, because it is part of a window of accumulation or all
        its weights are 0. ``"epoch"``: an epoch is complete and in the history. ``"end"``: the last
        update of this `fit` was made. ``"done"``: `fit` returns next, or Ctrl-C ends it. Callbacks
        that change the final model, such as early stopping, do it here. ``"interrupt"``: Ctrl-C,
        SIGTERM or SIGHUP ends `fit`, and the run can be saved. Only callbacks whose `events` name
        it receive it.
    trainer : Trainer
    loss : scalar or None
        The mean loss before the update, over its rows, or of the batch (scalars of the backend), or
        of the epoch.
    x, y : Array or None
        The batch. The next batch overwrites this memory.
    rows : slice, array of int or None
        The numbers of these rows in the source. None if an epoch ends in the middle of a window,
        and the update is made from the batches so far.
    norms : Array or None
        The norm of each row's own gradient, with ``fit(per_example=True)``.
    """

    name: str
    trainer: Run
    loss: Any = None
    x: Array | None = None
    y: Array | None = None
    rows: Rows | None = None
    norms: Array | None = None


Callback = Callable[[Event], object]


def wanted_events(callback: Callback) -> frozenset[str] | None:
    """Return the names of the events that a callback wants (its `events`), or None for all.

    A subclass with its own ``__call__`` gets all events, unless it also has its own `events`.

    Raises
    ------
    TypeError, ValueError
        If `events` is not a set of names of events, because the callback would never be called.

    >>> import minigd as gd
    >>> wanted_events(print), sorted(wanted_events(gd.EarlyStopping()))
    (None, ['done', 'epoch', 'start'])
    """
    places = (getattr(callback, "__dict__", {}), *map(vars, type(callback).__mro__))
    for place in places:
        if "events" in place:
            return _check_events(callback, callback.events)  # type: ignore[attr-defined]
        if "__call__" in place:
            return None
    return None


def _check_events(callback: Callback, events: Any) -> frozenset[str]:
    name = getattr(callback, "__name__", type(callback).__name__)
    # An empty list is probably one that the callback fills.
    listed = isinstance(events, set | frozenset) or (isinstance(events, list | tuple) and events)
    if not listed or not all(isinstance(event, str) for event in events):
        raise TypeError(
            f"callbacks: {name}.events must be a set of event names, such as "
            f"{{'epoch'}}, not {shown(events)}: if this attribute is something else, rename it"
        )
    unknown = sorted(set(events) - set(EVENTS))
    if unknown:
        raise ValueError(
            f"callbacks: {name}.events names {unknown[0]!r}, but the events are {', '.join(EVENTS)}"
        )
    return frozenset(events)


@runtime_checkable
class Stateful(Protocol):
    """A callback whose state is saved with the run, because it makes decisions."""

    def state_dict(self) -> dict[str, Any]:
        """Return numbers, strings, arrays on the host, and dicts of them."""
        ...

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        ...


def name_callbacks(callbacks: Iterable[Callback] | None) -> dict[str, Any]:
    """Return callbacks by name: that of the class or function, with a number if it repeats."""
    named: dict[str, Any] = {}
    for callback in check_list("callbacks", callbacks, "callback"):
        if not callable(callback) or isinstance(callback, type):
            raise _no_callback(callback)
        kind = getattr(callback, "__name__", type(callback).__name__)
        number = sum(name.partition(" ")[0] == kind for name in named) + 1
        named[kind if number == 1 else f"{kind} {number}"] = callback
    return _in_order(named) if len(named) > 1 else named


def _in_order(named: dict[str, Any]) -> dict[str, Any]:
    """Return callbacks with the saving one last. Refuse two that set the final parameters."""
    averages = [name for name, callback in named.items() if getattr(callback, "averages", False)]
    final = averages + [n for n, each in named.items() if getattr(each, "restore_best", False)]
    if averages and len(final) > 1:
        raise ValueError(
            f"callbacks: {final[0]} and {final[1]} both replace the model's parameters at the end "
            "of fit, and one would undo the other: remove one, or use EarlyStopping "
            "restore_best=False"
        )
    return dict(sorted(named.items(), key=lambda item: getattr(item[1], "last", False)))


def _no_callback(given: object) -> TypeError:
    if isinstance(given, type):
        return TypeError(
            f"callbacks: {given.__name__} is a class, not an instance: write it with parentheses"
        )
    return TypeError(
        f"callbacks: a callback must be callable with an event, but {shown(given)} is not"
    )


def callback_states(callbacks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states of callbacks that have one, by name."""
    return {
        name: callback.state_dict()
        for name, callback in callbacks.items()
        if isinstance(callback, Stateful)
    }


def load_callback_states(callbacks: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    """Restore the saved states of callbacks in a resumed run, by name."""
    for name, values in states.items():
        callback = callbacks.get(name)
        if isinstance(callback, Stateful):
            with damaged(f"the state of the callback {name!r} is"):
                callback.load_state_dict(values)
        else:
            warn(
                f"the resumed run had a callback {name!r} with a state, but this fit has "
                "no such callback: its state is ignored",
                stacklevel=4,
            )
