"""Batch sizes against the clock: loss by second, with a learning rate tuned for each of them.

With batches of 1, an epoch has a hundred times as many updates as with batches of 100.
"""

import contextlib
import copy
import inspect
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.base import backend_of
from minigd.data.batches import Batches, as_batches
from minigd.data.row_weights import drop_zero_weights, row_scale
from minigd.errors import (
    DivergenceError,
    check_integer,
    check_list,
    check_number,
    find_by_name,
    given_once,
    validated,
)
from minigd.insight.plots.axes import COLORS, LINES, axes_or_new
from minigd.nn.layers.base import like
from minigd.nn.losses import CategoricalCrossEntropy, Hinge, Loss, LossLike, Poisson
from minigd.nn.objective import Objective, default_loss
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import UPDATERS, Updater
from minigd.progress import RowProgress, format_duration, log, warn
from minigd.training.events import Event
from minigd.training.trainer import Trainer
from minigd.types import Array

RATES = tuple(10.0 ** (k / 2) for k in range(-8, 2))
"""Learning rates that are tried: two per decade, from 0.0001 to about 3."""

AXES = {"seconds": "seconds of training", "rows": "rows seen", "updates": "updates"}
"""Units in which a race is drawn, and in which the way to the target is counted."""

clock = time.perf_counter


class Curve(NamedTuple):
    """One run: its loss at several moments.

    Attributes
    ----------
    batch_size : int or None
    seed : int
    learning_rate : float
    seconds, rows, updates, loss : Array of float, shape (points,)
        Seconds of training, rows seen, updates made, and the loss over the rows that are evaluated;
        infinite where the run diverged. The first point is before the first update.
    """

    batch_size: int | None
    seed: int
    learning_rate: float
    seconds: Array
    rows: Array
    updates: Array
    loss: Array

    def reached(self, target: float, what: str = "seconds") -> float:
        """Return the seconds from which on the loss stays at or below a target.

        Between the last point above it and the next one, the loss is interpolated linearly.

        Parameters
        ----------
        target : float
        what : {"seconds", "rows", "updates"}

        Returns
        -------
        float
            Infinite if the run ended above the target.
        """
        values: Array = getattr(self, what)
        above = np.flatnonzero(~(self.loss <= target))
        if len(above) == 0:
            return float(values[0])
        i = int(above[-1])
        if i == len(values) - 1:
            return math.inf
        before, after = self.loss[i], self.loss[i + 1]
        share = (before - target) / (before - after) if math.isfinite(before) else 1.0
        return float(values[i] + share * (values[i + 1] - values[i]))


class Standing(NamedTuple):
    """A batch size in the table: its place, and the seconds to the target of each seed."""

    place: int
    batch_size: int | None
    learning_rate: float
    seconds: list[float]
    rows: list[float]
    updates: list[float]


class Race:
    """What `race` measured. Printing it gives the table; `plot` draws the curves.

    Parameters
    ----------
    curves : sequence of Curve
    target : float, optional
    constant : float, default infinity
        The lowest loss of a prediction that is the same for all rows.

    Attributes
    ----------
    curves : list of Curve
    target : float
        The loss that the table is about. By default it is the lowest that all runs reached by their
        end, ignoring sizes of which any run ended no lower than a constant prediction.
    constant : float
    learned : bool
        Whether any size ended below the loss of a constant prediction, with all its seeds.
    standings : list of Standing
        The fastest first, by the median of its seeds. A size shares a place with those before it
        only if the seeds separate it from none of them: some seed of one is as fast as some seed of
        the other.
    """

    def __init__(
        self, curves: Sequence[Curve], target: float | None = None, constant: float = math.inf
    ) -> None:
        self.curves, self.constant = list(curves), constant
        sizes = list(dict.fromkeys(curve.batch_size for curve in curves))
        ends = [max(c.loss[-1] for c in curves if c.batch_size == size) for size in sizes]
        learned = [float(end) for end in ends if end < constant]
        self.learned = bool(learned)
        self.target = max(learned, default=constant) if target is None else target
        self.standings = self._rank([self._standing(size) for size in sizes])

    def summary(self) -> dict[str, Any]:
        """Return the table as data, for JSON; a seed that did not reach the target has infinity.

        Returns
        -------
        dict
            ``target``, ``constant``, ``learned``, and ``standings``: a dict for each batch size.
        """
        return {
            "target": self.target,
            "constant": self.constant,
            "learned": self.learned,
            "standings": [standing._asdict() for standing in self.standings],
        }

    def at(self, target: float) -> "Race":
        """Return the same runs, and a table of the time to another loss.

        Parameters
        ----------
        target : float

        Returns
        -------
        Race

        Raises
        ------
        ValueError
            If the target is not a finite number.

        Warns
        -----
        UserWarning
            If a constant prediction has a loss as low as the target.
        """
        target = check_number("target", target, -math.inf)
        _warn_if_constant(target, self.constant)
        return Race(self.curves, target, self.constant)

    def _standing(self, size: int | None) -> Standing:
        own = [curve for curve in self.curves if curve.batch_size == size]
        to = {what: [curve.reached(self.target, what) for curve in own] for what in AXES}
        return Standing(0, size, own[0].learning_rate, **to)

    def _rank(self, standings: list[Standing]) -> list[Standing]:
        ranked: list[Standing] = []
        for one in sorted(standings, key=lambda s: (float(np.median(s.seconds)), min(s.seconds))):
            place = len(ranked) + 1
            tied = [s for s in ranked if s.place == ranked[-1].place]
            # With all before it, and not with one: ties do not chain.
            if tied and not any(_separated(one.seconds, s.seconds) for s in tied):
                place = ranked[-1].place
            ranked.append(one._replace(place=place))
        return ranked

    def __str__(self) -> str:
        head = f"training time (s) to reach loss {self.target:.4g}, each at its best learning rate"
        lines = [head, "", f"{'place':>7}  {'batch':>7}  {'rate':>8}  {'seconds':>26}"]
        lines[-1] += f"  {'rows':>11}  {'updates':>9}"
        places = [s.place for s in self.standings]
        for s in self.standings:
            tie = "tie " if places.count(s.place) > 1 else ""
            low, middle, high = min(s.seconds), float(np.median(s.seconds)), max(s.seconds)
            seconds = "not reached"
            if math.isfinite(middle):
                seconds = f"{middle:.3g} ({low:.3g} to {high:.3g})"
            rows, updates = (
                f"{float(np.median(v)):,.0f}" if math.isfinite(np.median(v)) else ""
                for v in (s.rows, s.updates)
            )
            lines.append(
                f"{tie}{s.place:>{7 - len(tie)}}  {_name(s.batch_size):>7}  "
                f"{s.learning_rate:>8.2g}  {seconds:>26}  {rows:>11}  {updates:>9}"
            )
        seeds = len({curve.seed for curve in self.curves})
        lines += ["", f"median of {seeds} seed{'s' * (seeds != 1)}, and the smallest and largest"]
        if not self.learned and math.isfinite(self.constant):
            lines.append(
                "no batch size ended below the loss of a constant prediction, "
                f"{self.constant:.4g}: allow more seconds, or try other rates"
            )
        return "\n".join(lines)

    def plot(self, against: str = "seconds", ax: Any = None) -> Any:
        """Draw the loss against seconds, rows or updates: the median of seeds and their band.

        Parameters
        ----------
        against : {"seconds", "rows", "updates"}
        ax : matplotlib Axes, optional
            A new one by default.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ValueError
            If `against` is another word.
        ImportError
            If Matplotlib is missing. The message says what to install.
        """
        if against not in AXES:
            raise ValueError(f"against must be 'seconds', 'rows' or 'updates', not {against!r}")
        ax = axes_or_new(ax)
        for i, size in enumerate(dict.fromkeys(curve.batch_size for curve in self.curves)):
            own = [curve for curve in self.curves if curve.batch_size == size]
            grid, losses = _together(own, against)
            color, line = COLORS[i % len(COLORS)], LINES[i % len(LINES)]
            label = f"batch {_name(size)}, rate {own[0].learning_rate:.2g}"
            ax.plot(grid, np.median(losses, axis=0), color=color, linestyle=line, label=label)
            ax.fill_between(grid, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.15)
        ax.axhline(self.target, color="0.5", linewidth=0.8, linestyle=":")
        ax.set(xscale="log", yscale="log", xlabel=AXES[against], ylabel="loss")
        ax.legend()
        return ax


@validated
def race(
    build: Callable[..., Sequential],
    data: Any,
    batch_sizes: Iterable[int | None] = (1, 32, 500, None),
    *,
    loss: LossLike | None = None,
    updater: str | Callable[[float], Updater] | None = None,
    seconds: float = 2.0,
    tuning: float | None = None,
    rates: Iterable[float] = RATES,
    seeds: int = 5,
    points: int = 40,
    target: float | None = None,
    validation_data: Any = None,
    progress: bool = False,
    optimizer: str | Callable[[float], Updater] | None = None,
) -> Race:
    """Train with each batch size for the same seconds, and return loss by second.

    Each batch size first chooses its learning rate: all rates get an equal part of the same time,
    and the lowest loss wins. Then it trains once from each seed, the sizes taking turns. The clock
    stops while the loss is evaluated.

    Parameters
    ----------
    build : callable
        ``build(seed)``, or ``build()``, returns a new model; the seed draws its weights.
    data : (X, y), (X, y, weight), Batches or source
        The rows to train on, shuffled again for each epoch; a stream needs a Batches with a buffer
        for that, and keeps its order otherwise.
    batch_sizes : iterable of int or None
        None takes all rows as one batch.
    loss : str or Loss, optional
        By default what fits the last layer: a cross-entropy after Sigmoid or Softmax, otherwise
        the mean squared error.
    updater : str or callable, default "adam"
        A name, or a function of the learning rate.
    seconds : float, default 2.0
        Of training, for each run.
    tuning : float, optional
        Seconds for all rates of a batch size together; as many as `seconds` by default.
    rates : iterable of float, default two per decade from 0.0001 to 3
    seeds : int, default 5
        The number of runs of each batch size.
    points : int, default 40
        How often the loss is evaluated in a run, at times in a geometric sequence.
    target : float, optional
        The loss that the table is about. By default it is the lowest that all runs reach by their
        end, ignoring sizes that end no lower than a constant prediction. A target that a constant
        prediction reaches causes a warning.
    validation_data : (X, y), Batches or source, optional
        The rows that are evaluated; those of the training by default.
    progress : bool, default False
        Print on stderr how long it will take, and its progress.
    optimizer : str or callable, optional
        Another name for `updater`.

    Returns
    -------
    Race

    Raises
    ------
    ValueError
        If a number is out of range, or there is nothing to race.

    Warns
    -----
    UserWarning
        If a constant prediction has a loss as low as the target, before anything is trained.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> def build(seed):
    ...     return gd.Sequential([gd.Dense(1)], inputs=2, seed=seed)
    >>> found = gd.race(build, (X, X @ [1.0, 2.0]), [10, None], seconds=0.05, seeds=2, target=0.01)
    >>> sorted(str(s.batch_size) for s in found.standings)
    ['10', 'None']
    """
    updater = given_once("updater", updater, "optimizer", optimizer, "adam")
    given = check_list("batch_sizes", batch_sizes, "batch size")
    also = ", or None for all rows at once"
    sizes = [
        None if size is None else check_integer("batch_sizes", size, 1, also) for size in given
    ]
    sizes = list(dict.fromkeys(sizes))
    rates = [check_number("rates", rate) for rate in check_list("rates", rates, "rate")]
    if not sizes or not rates:
        raise ValueError("there is nothing to race: pass batch_sizes and rates")
    seconds = check_number("seconds", seconds)
    tuning = seconds if tuning is None else check_number("tuning", tuning)
    for name, value in (("seconds", seconds), ("tuning", tuning)):
        if value == 0:
            raise ValueError(f"{name} must be above 0")
    seeds = check_integer("seeds", seeds)
    runner = _Runner(
        build, data, validation_data, loss, updater, check_integer("points", points, 2)
    )
    constant = runner.constant()
    if target is not None:
        _warn_if_constant(check_number("target", target, -math.inf), constant)
    part = tuning / len(rates)
    chosen = {}
    if progress:
        runner.total_seconds = len(sizes) * (seeds * seconds + (tuning if len(rates) > 1 else 0.0))
        log(
            f"{len(sizes)} batch sizes, {len(rates)} learning rates, {seeds} seeds: about "
            f"{format_duration(runner.total_seconds)} of training, plus evaluating the loss"
        )
    curves = []
    with contextlib.closing(runner.bar):
        for size in sizes:
            chosen[size] = rates[0] if len(rates) == 1 else runner.tune(size, rates, part)
            if progress:
                log(f"batch {_name(size)}: learning rate {chosen[size]:.2g}")
        for seed in range(seeds):
            for size in sizes:
                curves.append(runner.run(size, chosen[size], seed, seconds))
            if progress:
                log(f"seed {seed + 1} of {seeds}")
    return Race(curves, target, constant)


class _Runner:
    """Trains one model for some seconds at a time, by a clock that stops in between."""

    def __init__(
        self,
        build: Callable[..., Sequential],
        data: Any,
        validation: Any,
        loss: LossLike | None,
        updater: str | Callable[[float], Updater],
        points: int,
    ) -> None:
        self.build, self.loss, self.points = build, loss, points
        self.data = data if isinstance(data, tuple) else (data,)
        evaluated = self.data if validation is None else validation
        evaluated = evaluated if isinstance(evaluated, tuple) else (evaluated,)
        self.evaluated = _batches(evaluated, 1024, 0, shuffle=False)
        if isinstance(updater, Updater):
            raise TypeError(
                f"each rate needs its own updater: pass updater=lambda rate: "
                f"gd.{type(updater).__name__}(rate) instead of {updater!r}"
            )
        self.updater: Callable[[float], Updater] = (
            updater if callable(updater) else find_by_name("updater", updater, UPDATERS)
        )
        self.bar = RowProgress("race")
        self.total_seconds: float | None = None  # of all runs, if progress is shown
        self._spent = 0.0

    def model(self, seed: int) -> Sequential:
        """Return a new model with weights of this seed."""
        parameters = inspect.signature(self.build).parameters.values()
        if any(p.name == "seed" or p.default is p.empty for p in parameters):
            return self.build(seed)
        model = self.build()
        for layer in model.all_layers:
            if callable(getattr(layer, "initializer", None)):
                raise ValueError(
                    f"{layer.name} has its own initializer, but build() takes no seed: let "
                    "build take a seed, and pass it to Sequential(..., seed=seed)"
                )
        layers = [like(layer) for layer in model.layers]
        fresh = Sequential(
            layers, inputs=model.n_in, backend=model.backend, dtype=model.dtype, seed=seed
        )
        for layer, old in zip(fresh.layers, model.layers, strict=True):
            for name in layer.buffers:
                layer.buffers[name] = old.buffers[name]
        return fresh

    def tune(self, size: int | None, rates: Sequence[float], seconds: float) -> float:
        """Return the rate that reaches the lowest loss in these seconds."""
        found = [self.run(size, rate, -1, seconds, points=2).loss[-1] for rate in rates]
        return rates[int(np.argmin(found))]

    def run(
        self,
        size: int | None,
        rate: float,
        seed: int,
        seconds: float,
        points: int | None = None,
    ) -> Curve:
        """Train for some seconds, and return the loss over time."""
        # The seed of the tuning differs from those of the race.
        seed_of_all = seed + 1
        model = self.model(seed_of_all)
        trainer = Trainer(model, self._loss(model), self.updater(rate))
        batches = _batches(self.data, size, seed_of_all, shuffle=True)
        times = [*np.geomspace(seconds / 200, seconds, (points or self.points) - 1)[:-1], seconds]
        found: list[tuple[float, int, int, float]] = []
        rows = 0

        def record(at: float) -> None:
            value = trainer.evaluate(self.evaluated)["loss"]
            if self.total_seconds is not None and at:
                share = (self._spent + min(at, seconds)) / self.total_seconds
                self.bar.advance(rows - (found[-1][1] if found else 0), share)
            found.append((at, rows, trainer.updates, value if math.isfinite(value) else math.inf))

        record(0.0)
        paused = 0.0
        started = clock()

        def tick(event: Event) -> None:
            nonlocal rows, paused
            if event.name != "update" or event.x is None:
                return
            rows += len(event.x)
            if clock() - started - paused < times[0]:
                return
            # Work queued on a GPU is part of the training: the clock waits for it.
            model.backend.synchronize()
            now = clock()
            spent = now - started - paused
            while len(times) > 1 and spent >= times[0]:
                times.pop(0)
            record(spent)
            if spent >= times[-1]:
                event.trainer.stop()
            paused += clock() - now

        try:
            trainer.fit(batches, epochs=_FOR_EVER, callbacks=[tick])
        except DivergenceError:
            found.append((seconds, rows, trainer.updates, math.inf))
        self._spent += seconds
        columns = [np.asarray(column, dtype="float64") for column in zip(*found, strict=True)]
        return Curve(size, seed, rate, *columns)

    def constant(self) -> float:
        """Return the lowest loss of predictions that are the same for all rows, or near it.

        It predicts the mean for a cross-entropy and a squared error; the median may be better for
        other losses.
        """
        model = self.model(0)
        objective = Objective(model, self._loss(model))
        parts = []
        for batch in self.evaluated.in_order():
            y = None if batch.y is None else backend_of(batch.y).to_numpy(batch.y)
            weight = np.ones(len(batch.x)) if batch.weight is None else batch.weight
            weight, y = drop_zero_weights(weight, y)
            if len(weight):
                objective.check(batch.x[: len(weight)], y)
                parts.append((y, weight))
        y, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
        y = model.backend.to_numpy(objective.targets(model.backend.asarray(y)))
        loss = copy.copy(objective.loss)
        z = np.zeros((len(y), model.n_out))
        targets = loss.targets(y, z)
        if targets.shape != z.shape:
            targets = np.eye(model.n_out)[targets]
        found = []
        for constant in (np.average(targets, axis=0, weights=weight), np.median(targets, axis=0)):
            z[...] = _outputs(loss, constant)
            found.append(float(loss.mean(z, y, row_scale(weight))))
        return min([value for value in found if math.isfinite(value)], default=math.inf)

    def _loss(self, model: Sequential) -> LossLike:
        return default_loss(model.layers[-1]) if self.loss is None else self.loss


def _separated(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether all seeds of one contender are faster than all seeds of the other."""
    return max(one) < min(other) or max(other) < min(one)


def _outputs(loss: Loss, target: Array) -> Array:
    """Return the outputs that predict a mean or median target, finite ones for 0 and 1."""
    if isinstance(loss, Poisson):
        return np.log(np.maximum(target, 1e-15))
    if not loss.from_logits or isinstance(loss, Hinge):
        return target
    p = np.clip(target, 1e-15, 1 - 1e-15)
    return np.log(p) if isinstance(loss, CategoricalCrossEntropy) else np.log(p / (1 - p))


def _warn_if_constant(target: float, constant: float) -> None:
    if constant <= target:
        warn(
            f"a constant prediction already has a loss of {constant:.4g}, and a target of "
            f"{target:.4g} needs no learning: choose a lower target",
            stacklevel=3,
        )


_FOR_EVER = 10**9


def _batches(data: tuple[Any, ...], size: int | None, seed: int, shuffle: bool) -> Batches:
    first, y, weight = [*data, None, None][:3]
    if isinstance(first, Batches):
        batches = copy.copy(first)
        batches.batch_size, batches.seed = size, seed
        batches.shuffle = shuffle and (first.source.random_access or first.buffer is not None)
        return batches
    shuffle = shuffle and getattr(first, "random_access", True)
    return as_batches(first, y, size, shuffle=shuffle, seed=seed, sample_weight=weight)


def _name(size: int | None) -> str:
    return "all" if size is None else str(size)


def _together(curves: list[Curve], against: str) -> tuple[Array, Array]:
    """Return the losses of several runs at the same seconds, rows or updates."""
    xs = [getattr(curve, against)[1:] for curve in curves]
    low, high = max(x[0] for x in xs), min(x[-1] for x in xs)
    grid = np.geomspace(max(low, 1e-12), max(high, low, 1e-12), 200)
    losses = [
        np.interp(np.log(grid), np.log(x), curve.loss[1:])
        for x, curve in zip(xs, curves, strict=True)
    ]
    return grid, np.asarray(losses)
