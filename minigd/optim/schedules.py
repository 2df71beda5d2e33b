"""Learning-rate schedules: the rate as a function of the progress of training.

Each counts updates or epochs, depending on which of its arguments `updates` and `epochs` is given.
A schedule that counts epochs can also be the batch size of a `Batches`.
"""

import bisect
import math
from collections.abc import Callable, Iterable
from typing import Any

from minigd.errors import check_integer, check_list, check_number, check_takes
from minigd.storage.describe import arguments


class Schedule:
    """A learning rate that changes. A subclass defines `rate`.

    An updater takes a schedule instead of a number,
    ``SGD(learning_rate=CosineDecay(0.1, epochs=20))``, and calls it before each update.

    Parameters
    ----------
    updates, epochs : int
        One of the two: the unit of time, as a number of updates or epochs. If it counts epochs, the
        rate is constant within an epoch. In your own loop, set the number of finished epochs:
        ``updater.epoch = 3``.
    """

    updates: Any
    epochs: Any

    def __init__(self, updates: int | None, epochs: int | None) -> None:
        if (updates is None) == (epochs is None):
            raise ValueError(
                f"{type(self).__name__} counts in updates or in epochs: give either "
                f"updates=... or epochs=..., not {'neither' if updates is None else 'both'}"
            )
        self.updates = None if updates is None else check_integer("updates", updates)
        self.epochs = None if epochs is None else check_integer("epochs", epochs)

    def rate(self, t: float) -> float:
        """Return the learning rate at time t, in units of `updates` or `epochs`."""
        raise NotImplementedError(f"{type(self).__name__} must define rate(t)")

    def __call__(self, updates: int, epochs: int) -> float:
        """Return the learning rate after these numbers of updates and whole epochs.

        Parameters
        ----------
        updates, epochs : int
            The number of finished updates and epochs, from 0.
        """
        if self.updates is not None:
            return self.rate(updates / self.updates)
        return self.rate(epochs / self.epochs)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return arguments(self)

    def __repr__(self) -> str:
        values = {n: value for n, value in self.config().items() if value is not None}
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in values.items())})"


class Constant(Schedule):
    """A constant rate, η_t = η₀, to use after a warm-up.

    Parameters
    ----------
    learning_rate : float
        η₀, at least 0.

    Examples
    --------
    >>> Constant(0.1)(updates=1000, epochs=3)
    0.1
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__(1, None)
        self.learning_rate = check_number("learning_rate", learning_rate)

    def rate(self, t: float) -> float:
        """Return η₀."""
        return self.learning_rate


class StepDecay(Schedule):
    """The rate falls by a factor in regular steps, η_t = η₀ γ^⌊t⌋.

    t is the number of updates, or of epochs, divided by `updates` or `epochs`.

    Parameters
    ----------
    learning_rate : float
        η₀, at least 0.
    factor : float, default 0.1
        γ, above 0 and at most 1.
    updates, epochs : int
        One of the two: the number after which the rate falls.

    Examples
    --------
    >>> schedule = StepDecay(1.0, factor=0.5, epochs=10)
    >>> [schedule(0, epochs) for epochs in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]

    Source: He et al. (2016), "Deep residual learning for image recognition", section 3.4.
    """

    def __init__(
        self,
        learning_rate: float,
        factor: float = 0.1,
        *,
        updates: int | None = None,
        epochs: int | None = None,
    ) -> None:
        super().__init__(updates, epochs)
        self.learning_rate = check_number("learning_rate", learning_rate)
        self.factor = check_number("factor", factor)
        if not 0 < self.factor <= 1:
            raise ValueError(f"factor must be above 0 and at most 1, not {factor!r}")

    def rate(self, t: float) -> float:
        """Return η₀ γ^⌊t⌋."""
        return self.learning_rate * float(self.factor ** math.floor(t))


class ExponentialDecay(StepDecay):
    """The rate falls by the same share per unit of time, η_t = η₀ γ^t.

    t is the number of updates, or of epochs, divided by `updates` or `epochs`.

    Parameters
    ----------
    learning_rate : float
        η₀, at least 0.
    factor : float, default 0.1
        γ, above 0 and at most 1.
    updates, epochs : int
        One of the two: the number in which the rate falls by the factor.

    Examples
    --------
    >>> schedule = ExponentialDecay(1.0, factor=0.25, updates=100)
    >>> [schedule(updates, 0) for updates in (0, 50, 100)]
    [1.0, 0.5, 0.25]

    Source: Abadi et al. (2015), "TensorFlow", ``tf.train.exponential_decay``; in continuous form
    Bengio (2012), "Practical recommendations for gradient-based training", section 3.1.1.
    """

    def rate(self, t: float) -> float:
        """Return η₀ γ^t."""
        return self.learning_rate * float(self.factor**t)


class InverseTimeDecay(Schedule):
    """The rate falls as one over the time, η_t = η₀ / (1 + t).

    t is the number of updates, or of epochs, divided by `updates` or `epochs`.

    Parameters
    ----------
    learning_rate : float
        η₀, at least 0.
    updates, epochs : int
        One of the two: the number after which the rate is half of the initial one.

    Examples
    --------
    >>> schedule = InverseTimeDecay(1.0, updates=100)
    >>> [schedule(updates, 0) for updates in (0, 100, 300)]
    [1.0, 0.5, 0.25]

    Source: Robbins and Monro (1951), "A stochastic approximation method", section 2, which asks for
    Σ η_t = ∞ and Σ η_t² < ∞; in this form Bottou (2012), "Stochastic gradient descent tricks",
    section 5.2.
    """

    def __init__(
        self, learning_rate: float, *, updates: int | None = None, epochs: int | None = None
    ) -> None:
        super().__init__(updates, epochs)
        self.learning_rate = check_number("learning_rate", learning_rate)

    def rate(self, t: float) -> float:
        """Return η₀ / (1 + t)."""
        return self.learning_rate / (1 + t)


class PolynomialDecay(Schedule):
    """The rate falls to its end value as a power of the remaining time, and stays there.

    ::

        η_t = η_end + (η₀ − η_end) (1 − min(t, 1))^p

    t is the number of updates, or of epochs, divided by `updates` or `epochs`; p = 1 is linear.

    Parameters
    ----------
    learning_rate : float
        η₀, at least 0.
    end : float, default 0.0
        η_end.
    power : float, default 1.0
        p, at least 0.
    updates, epochs : int
        One of the two: when the end is reached.

    Examples
    --------
    >>> schedule = PolynomialDecay(1.0, end=0.5, updates=100)
    >>> [schedule(updates, 0) for updates in (0, 50, 100, 1000)]
    [1.0, 0.75, 0.5, 0.5]

    Source: Chen et al. (2018), "DeepLab", IEEE PAMI 40(4), section 4.1.1, the "poly" policy.
    """

    def __init__(
        self,
        learning_rate: float,
        end: float = 0.0,
        power: float = 1.0,
        *,
        updates: int | None = None,
        epochs: int | None = None,
    ) -> None:
        super().__init__(updates, epochs)
        self.learning_rate = check_number("learning_rate", learning_rate)
        self.end = check_number("end", end)
        self.power = check_number("power", power)

    def rate(self, t: float) -> float:
        """Return η_end + (η₀ − η_end) (1 − min(t, 1))^p."""
        left = float((1 - min(t, 1.0)) ** self.power)
        return self.end + (self.learning_rate - self.end) * left


class CosineDecay(Schedule):
    """The rate falls to its end value along half a cosine, and stays there.

    ::

        η_t = η_end + ½ (η₀ − η_end) (1 + cos(π min(t, 1)))

    t is the number of updates, or of epochs, divided by `updates` or `epochs`.

    Parameters
    ----------
    learning_rate : float
        η₀, at least 0.
    end : float, default 0.0
        η_end.
    updates, epochs : int
        One of the two: when the end is reached.

    Examples
    --------
    >>> schedule = CosineDecay(1.0, epochs=10)
    >>> [round(schedule(0, epochs), 4) for epochs in (0, 5, 10, 11)]
    [1.0, 0.5, 0.0, 0.0]

    Source: Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts",
    equation 5, without a restart.
    """

    def __init__(
        self,
        learning_rate: float,
        end: float = 0.0,
        *,
        updates: int | None = None,
        epochs: int | None = None,
    ) -> None:
        super().__init__(updates, epochs)
        self.learning_rate = check_number("learning_rate", learning_rate)
        self.end = check_number("end", end)

    def rate(self, t: float) -> float:
        """Return η_end + ½ (η₀ − η_end) (1 + cos(π min(t, 1)))."""
        return self.end + 0.5 * (self.learning_rate - self.end) * (
            1 + math.cos(math.pi * min(t, 1.0))
        )


class CosineRestarts(CosineDecay):
    """The rate repeatedly falls along half a cosine and starts again at the top.

    In a cycle that begins at time s and has length l, for a time t in it::

        η_t = η_end + ½ (η₀ − η_end) (1 + cos(π (t − s) / l))

    t is the number of updates, or of epochs, divided by `updates` or `epochs`, so the first cycle
    has s = 0 and l = 1. Each later one is `growth` times as long as the one before.

    Parameters
    ----------
    learning_rate : float
        η₀, at least 0.
    end : float, default 0.0
        η_end.
    growth : int, default 1
        How many times as long each cycle is.
    updates, epochs : int
        One of the two: the length of the first cycle.

    Examples
    --------
    >>> schedule = CosineRestarts(1.0, growth=2, epochs=4)
    >>> [round(schedule(0, epochs), 4) for epochs in (0, 2, 3, 4, 8, 11, 12)]
    [1.0, 0.5, 0.1464, 1.0, 0.5, 0.0381, 1.0]

    Source: Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts",
    equation 5.
    """

    def __init__(
        self,
        learning_rate: float,
        end: float = 0.0,
        growth: int = 1,
        *,
        updates: int | None = None,
        epochs: int | None = None,
    ) -> None:
        super().__init__(learning_rate, end, updates=updates, epochs=epochs)
        self.growth = check_integer("growth", growth)

    def rate(self, t: float) -> float:
        """Return the rate of `CosineDecay` for the finished share of this cycle."""
        length = 1
        if self.growth == 1:
            t %= 1
        while t >= length:
            t -= length
            length *= self.growth
        return super().rate(t / length)


class OneCycle(Schedule):
    """The rate rises to a peak and falls to its end value, each along half a cosine.

    With the rates η_start, η₀ at the peak and η_end, and the share r of the time in which it
    rises::

        η_t = η_start + ½ (η₀ − η_start) (1 − cos(π t / r))                      for t < r
        η_t = η_end + ½ (η₀ − η_end) (1 + cos(π (t − r) / (1 − r)))              for t < 1

    and η_end from then on. t is the number of updates, or of epochs, divided by `updates` or
    `epochs`. The paper has straight lines. The cosines are those of fastai and PyTorch. The
    momentum does not change.

    Parameters
    ----------
    learning_rate : float
        η₀, the highest, at least 0.
    start : float, optional
        η_start; by default a 25th of the peak.
    end : float, default 0.0
        η_end.
    rise : float, default 0.3
        r, in (0, 1).
    updates, epochs : int
        One of the two: when the end is reached.

    Examples
    --------
    >>> schedule = OneCycle(1.0, updates=10)
    >>> [round(schedule(updates, 0), 4) for updates in (0, 1, 3, 6, 10, 11)]
    [0.04, 0.28, 1.0, 0.6113, 0.0, 0.0]

    Source: Smith and Topin (2018), "Super-convergence: very fast training of neural networks using
    large learning rates".
    """

    def __init__(
        self,
        learning_rate: float,
        start: float | None = None,
        end: float = 0.0,
        rise: float = 0.3,
        *,
        updates: int | None = None,
        epochs: int | None = None,
    ) -> None:
        super().__init__(updates, epochs)
        self.learning_rate = check_number("learning_rate", learning_rate)
        self.start = None if start is None else check_number("start", start)
        self.end = check_number("end", end)
        self.rise = check_number("rise", rise, 0.0, 1.0)
        if self.rise == 0:
            raise ValueError("rise must be above 0: CosineDecay is the schedule without a rise")

    def rate(self, t: float) -> float:
        """Return the rate on the way up, or on the way down."""
        edge = self.learning_rate / 25 if self.start is None else self.start
        share = t / self.rise
        if t >= self.rise:
            edge, share = self.end, 1 - min((t - self.rise) / (1 - self.rise), 1.0)
        return edge + 0.5 * (self.learning_rate - edge) * (1 - math.cos(math.pi * share))


class Piecewise(Schedule):
    """The rate takes one value after the other, each up to a given time.

    η_k is the rate with index i, if i of the times have been reached after k updates or epochs.

    Parameters
    ----------
    learning_rates : list of float
        The rates, each at least 0.
    updates, epochs : list of int
        One of the two: the numbers after which the second rate begins, the third, and so on.

    Examples
    --------
    >>> schedule = Piecewise([0.1, 0.01, 0.001], epochs=[30, 60])
    >>> [schedule(0, epochs) for epochs in (0, 29, 30, 60, 90)]
    [0.1, 0.1, 0.01, 0.001, 0.001]

    As a batch size, with 128 rows for five epochs and then 512:

    >>> import numpy as np, minigd as gd
    >>> batches = gd.Batches(np.ones((1000, 2)), batch_size=Piecewise([128, 512], epochs=[5]))
    >>> batches.at(4).sizes[-1], batches.at(5).sizes
    (104, [512, 488])

    Source: He et al. (2016), "Deep residual learning for image recognition", section 4.2.
    """

    def __init__(
        self,
        learning_rates: Iterable[float],
        *,
        updates: Iterable[int] | None = None,
        epochs: Iterable[int] | None = None,
    ) -> None:
        super().__init__(None if updates is None else 1, None if epochs is None else 1)
        unit, given = ("epochs", epochs) if updates is None else ("updates", updates)
        times = [check_integer(unit, k) for k in check_list(unit, given, "number")]
        rates = check_list("learning_rates", learning_rates, "number")
        self.learning_rates = [check_number("learning_rates", rate) for rate in rates]
        if not rates or len(times) + 1 != len(rates) or times != sorted(set(times)):
            raise ValueError(
                f"learning_rates and {unit} must be the rates and the ascending times "
                f"at which each rate after the first begins, not {rates} and {times}"
            )
        setattr(self, unit, times)

    def __call__(self, updates: int, epochs: int) -> float:
        """Return the learning rate after these numbers of updates and whole epochs."""
        times, k = (self.epochs, epochs) if self.updates is None else (self.updates, updates)
        return self.learning_rates[int(bisect.bisect_right(times, k))]


class BatchGrowth(Schedule):
    """A batch size that grows by a factor in regular steps, B_e = B₀ γ^⌊e / epochs⌋.

    For `Batches` and `fit`, instead of a learning rate that falls by the same factor. The noise of
    a step is about η / B, so both reduce it equally, and larger batches are faster.

    Parameters
    ----------
    batch_size : int
        B₀, the first size.
    factor : float, default 2.0
        γ, at least 1.
    largest : int, optional
        The largest size.
    epochs : int
        The number of epochs after which the size grows.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> batches = gd.Batches(np.ones((1000, 2)), batch_size=BatchGrowth(100, 3, 500, epochs=10))
    >>> [batches.at(epoch).batch_size for epoch in (0, 9, 10, 20, 30)]
    [100, 100, 300, 500, 500]

    Source: Smith, Kindermans, Ying and Le (2018), "Don't decay the learning rate, increase the
    batch size".
    """

    def __init__(
        self, batch_size: int, factor: float = 2.0, largest: int | None = None, *, epochs: int
    ) -> None:
        super().__init__(None, epochs)
        self.batch_size = check_integer("batch_size", batch_size)
        self.factor = check_number("factor", factor, 1.0)
        self.largest = None if largest is None else check_integer("largest", largest)
        if self.largest is not None and self.largest < self.batch_size:
            raise ValueError(f"largest={largest} is below batch_size={batch_size}: it can't grow")

    def rate(self, t: float) -> float:
        """Return B₀ γ^⌊t⌋, or the largest size."""
        most = float(min(self.largest or 2**62, 2**62))
        try:
            return min(self.batch_size * float(self.factor ** math.floor(t)), most)
        except OverflowError:
            return most


class WarmUp(Schedule):
    """A linear rise to the first rate of another schedule, which then begins.

    At time k of a warm-up over T updates, or epochs, both counted from 0::

        η_k = η'_0 (k + 1) / (T + 1)    for k < T,        η_k = η'_(k − T)    from then on

    So no update has a rate of 0, and after T steps comes the first rate of the schedule itself.

    Parameters
    ----------
    schedule : float or Schedule
        What follows. A number means `Constant`. If both count the same unit, its time begins after
        the warm-up, and otherwise with the training.
    updates, epochs : int
        One of the two: T.

    Examples
    --------
    >>> schedule = WarmUp(1.0, updates=3)
    >>> [schedule(updates, 0) for updates in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]

    Source: Goyal et al. (2017), "Accurate, large minibatch SGD", section 2.2, gradual warm-up.
    """

    def __init__(
        self,
        schedule: float | Schedule,
        *,
        updates: int | None = None,
        epochs: int | None = None,
    ) -> None:
        super().__init__(updates, epochs)
        self.schedule = (
            schedule
            if isinstance(schedule, Schedule)
            else Constant(check_number("schedule: learning_rate", schedule))
        )

    def __call__(self, updates: int, epochs: int) -> float:
        """Return the learning rate after these numbers of updates and whole epochs."""
        length: int
        if self.updates is not None:
            done, length = updates, self.updates
            later = updates - length, epochs
        else:
            done, length = epochs, self.epochs
            later = updates, epochs - length
        if done < length:
            return self.schedule(0, 0) * (done + 1) / (length + 1)
        return self.schedule(*later)


class FunctionSchedule(Schedule):
    """The rate of a function, η = f(updates, epochs).

    A plain function given as a schedule means ``FunctionSchedule(function)``.

    Parameters
    ----------
    function : callable
        From the numbers of finished updates and epochs, from 0, to the rate.

    Examples
    --------
    >>> def halved(updates, epochs):
    ...     return 0.1 * 0.5**epochs
    >>> FunctionSchedule(halved)(updates=1000, epochs=2)
    0.025
    """

    def __init__(self, function: Callable[[int, int], float]) -> None:
        check_takes("function", function, "updates", "epochs")
        super().__init__(1, None)
        self.function = function

    def __call__(self, updates: int, epochs: int) -> float:
        """Return the rate after these numbers of updates and whole epochs."""
        return check_number("the rate that a schedule returns", self.function(updates, epochs))


def schedule_of(given: Any) -> Schedule:
    """Return the given schedule, or that of a plain function."""
    if isinstance(given, type):
        raise ValueError(
            f"learning_rate is the class {given.__name__}: pass an instance, {given.__name__}(...)"
        )
    return given if isinstance(given, Schedule) else FunctionSchedule(given)


SCHEDULES: dict[str, type[Schedule]] = {
    schedule.__name__: schedule
    for schedule in (
        Constant,
        StepDecay,
        ExponentialDecay,
        InverseTimeDecay,
        PolynomialDecay,
        CosineDecay,
        CosineRestarts,
        OneCycle,
        Piecewise,
        BatchGrowth,
        WarmUp,
    )
}
