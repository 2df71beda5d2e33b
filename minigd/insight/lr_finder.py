"""The learning-rate finder: one short run with a growing rate, on a copy of the model.

The loss falls, falls fastest, and blows up; a good rate lies well below the last. Batches differ,
so the loss of each is compared with that of the untrained model on the same rows.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from minigd.backends.frames import check_source
from minigd.checks.passes import from_epochs
from minigd.data.batches import as_batches
from minigd.errors import DivergenceError, check_integer, check_number, given_once, validated
from minigd.execution.threads import Threads
from minigd.insight.plots.axes import COLORS, MARKERS, axes_or_new
from minigd.nn.losses import LossLike
from minigd.nn.sequential import Sequential
from minigd.optim.updaters import SGD, Updater, get_updater
from minigd.progress import warn, with_progress
from minigd.training.trainer import Trainer

SKIPPED = 10
"""The first steps, which do not count: their smoothed loss is a mean of few batches."""

FALLEN = 0.99
"""A loss below this share of the first one has fallen, and does not just vary."""

FALL = 0.8
"""A rate works if the loss has made this part of its whole fall by then."""

TINY = float(np.finfo("float64").tiny)


class RateCurve(NamedTuple):
    """The loss while the learning rate grew.

    Attributes
    ----------
    rates : list of float
        The learning rate of each update.
    losses : list of float
        The batch's loss before it, smoothed over some ten updates.
    suggestion : float or None
        A tenth of the rate at which the loss had made four fifths of its fall, within the rates
        that were tried. The loss is taken as a share of the untrained model's on the same batches,
        both smoothed. The first steps do not count. None if the loss did not fall.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float | None

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss against the learning rate, and mark the suggestion.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; the axes of a new figure unless given.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If Matplotlib is missing.

        Examples
        --------
        >>> ax = RateCurve([0.01, 0.1, 1.0], [2.0, 1.0, 5.0], 0.01).plot()
        >>> ax.get_xlabel(), ax.get_xscale()
        ('learning rate', 'log')
        """
        ax = axes_or_new(ax)
        every = max(1, len(self.rates) // 10)
        ax.plot(self.rates, self.losses, color=COLORS[0], marker=MARKERS[0], markevery=every)
        if self.suggestion is not None:
            label = f"suggestion: {self.suggestion:.2g}"
            ax.axvline(self.suggestion, linestyle=":", color="black", zorder=1, label=label)
            ax.legend(fontsize="small")
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
        ax.grid(alpha=0.3)
        return ax


@validated
def find_learning_rate(
    model: Sequential,
    data: Any,
    y: Any = None,
    *,
    loss: LossLike,
    updater: str | Updater | None = None,
    batch_size: int | None = 100,
    lowest: float = 1e-7,
    highest: float = 10.0,
    updates: int = 100,
    optimizer: str | Updater | None = None,
    **options: Any,
) -> RateCurve:
    """Train a copy of the model with a rate that grows from `lowest` to `highest`.

    At update i of N the rate is lowest · (highest / lowest)^(i / (N − 1)). The run ends early when
    the smoothed loss, as a share of the untrained model's on the same batches, is above four times
    its lowest. The model, the updater and the batches given stay as they are, to the bit: a copy of
    the model is trained, with a copy of the updater. BLAS has as many threads as in `fit`.

    Parameters
    ----------
    model : Sequential
    data : Batches, source or array-like
    y : array-like, optional
    loss : str or Loss
    updater : str or Updater, default "adam"
    batch_size : int or None, default 100
        For arrays and sources.
    lowest, highest : float, defaults 1e-7 and 10
        The first rate and the last.
    updates : int, default 100
        The number of updates, on the first epochs of the batches.
    optimizer : str or Updater, optional
        Another name for `updater`.
    **options
        Settings of `minigd.Trainer`, such as `l2` or `clip_norm`.

    Returns
    -------
    RateCurve
        If no rate made the loss fall, it has no suggestion, and there is a warning.

    Raises
    ------
    ValueError
        If a number is out of range.
    DataError
        If columns have names other than those that the model was trained on.
    DivergenceError
        If the loss is not finite at the lowest rate.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> X = np.linspace(-1, 1, 1000).reshape(-1, 1)
    >>> model = gd.Sequential([gd.Dense(10), gd.Tanh(), gd.Dense(1)], inputs=1)
    >>> curve = gd.find_learning_rate(model, X, np.sin(3 * X), loss="mse")
    >>> round(curve.suggestion, 2)
    0.01

    Source: Smith (2017), "Cyclical learning rates for training neural networks", section 3.3.
    """
    lowest, highest = check_number("lowest", lowest), check_number("highest", highest)
    if not 0 < lowest < highest:
        raise ValueError(f"lowest must be above 0 and below highest, not {lowest:g}, {highest:g}")
    updates = check_integer("updates", updates, 2)
    batches = as_batches(data, y, batch_size, shuffle=True, seed=model.seed)
    check_source(batches.source, model.names)
    given = get_updater(given_once("updater", updater, "optimizer", optimizer, "adam"))
    twin = type(given)(**given.config())
    twin.schedule, twin.learning_rate = None, lowest
    trainer = Trainer(model.copy(), loss, twin, **options)
    # The untrained model gets the same rows and draws the same masks of Dropout.
    still = Trainer(model.copy(), loss, SGD(0.0))
    rates: list[float] = []
    losses: list[float] = []
    shares: list[float] = []
    mean = first = 0.0
    found = with_progress(
        from_epochs(batches, updates),
        "find_learning_rate",
        share=lambda batch: len(losses) / updates,
    )
    with Threads().limited(trainer.model, batches):
        for i, batch in enumerate(found):
            rate = lowest * (highest / lowest) ** (i / (updates - 1))
            trainer.updater.learning_rate = rate
            backend = trainer.model.backend
            try:
                arrays = backend.asarray(batch.x), backend.asarray(batch.y)
                before = float(still.step(*arrays, batch.weight))
                value = float(trainer.step(*arrays, batch.weight))
            except DivergenceError:
                break
            if not math.isfinite(value):
                break
            mean, first = 0.9 * mean + 0.1 * value, 0.9 * first + 0.1 * before
            rates.append(rate)
            # The running mean starts at 0; a correction as in Adam makes up for that.
            losses.append(mean / (1 - 0.9 ** (i + 1)))
            # This also works as a share if a user's loss is below 0.
            shares.append(1 + (mean - first) / max(abs(first), TINY))
            if shares[-1] > min(shares) + 3 * abs(min(shares)):
                break
    if not losses:
        raise DivergenceError(f"the loss is not finite at the lowest rate, {lowest:g}")
    return RateCurve(rates, losses, _suggest(rates, shares, updates))


def _suggest(rates: list[float], shares: list[float], updates: int) -> float | None:
    """Return a tenth of the first rate with a small share of the first loss, None if there is none.

    The smallest share itself often comes from batches that happen to be easy.
    """
    skipped = min(SKIPPED, updates // 5)
    counted = np.array(shares[skipped:])
    if counted.min(initial=1.0) < FALLEN:
        low = counted.min() + (1 - FALL) * (1 - counted.min())
        return max(rates[skipped + int(np.argmax(counted <= low))] / 10, rates[skipped])
    warn(
        f"no learning rate from {rates[0]:.2g} to {rates[-1]:.2g} made the loss fall: "
        "try other bounds with lowest= and highest=, more updates=, or a larger "
        "batch_size=; a trained model may have no such rate",
        stacklevel=3,
    )
    return None
