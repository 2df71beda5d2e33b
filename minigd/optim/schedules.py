"""Learning-rate schedules: the rate as a function of how far the training has come.

Each counts in updates or in epochs, whichever of its two arguments `updates` and `epochs` is given.
"""

import math
from collections.abc import Callable
from typing import Any

from minigd.errors import check_function, check_integer, check_number
from minigd.storage.describe import arguments


class Schedule:
    """A learning rate that changes; a subclass defines `rate`.

    An updater takes one in place of a number, ``SGD(learning_rate=CosineDecay(0.1, epochs=20))``,
    and asks it before each update.

    Parameters
    ----------
    updates, epochs : int
        One of the two: the unit of time, as many updates or as many epochs. Counted in epochs, the
        rate stays the same within an epoch; a loop by hand says how many are done,
        ``updater.epoch = 3``.
    """

    updates: int | None
    epochs: int | None

    def __init__(self, updates: int | None, epochs: int | None) -> None:
        if (updates is None) == (epochs is None):
            raise ValueError(
                f"{type(self).__name__} counts in updates or in epochs: give one of the two, "
                f"updates=... or epochs=..., and not {'neither' if updates is None else 'both'}"
            )
        self.updates = None if updates is None else check_integer("updates", updates)
        self.epochs = None if epochs is None else check_integer("epochs", epochs)

    def rate(self, t: float) -> float:
        """Return the learning rate at time t, in units of `updates` or `epochs`."""
        raise NotImplementedError(f"{type(self).__name__} must define rate(t)")

    def __call__(self, updates: int, epochs: int) -> float:
        """Return the learning rate after so many updates, and so many whole epochs.

        Parameters
        ----------
        updates, epochs : int
            How many have been made, from 0.
        """
        if self.updates is not None:
            return self.rate(updates / self.updates)
        assert self.epochs is not None
        return self.rate(epochs / self.epochs)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return arguments(self)

    def __repr__(self) -> str:
        values = {n: value for n, value in self.config().items() if value is not None}
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in values.items())})"


class Constant(Schedule):
    """The same rate throughout, η_t = η₀; for a warm-up in front of it.

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
    """The rate falls by a factor at once, again and again: η_t = η₀ γ^⌊t⌋.

    t is the number of updates, or of epochs, divided by `updates` or `epochs`.

    Parameters
    ----------
    learning_rate : float
        η₀, at least 0.
    factor : float, default 0.1
        γ, above 0 and at most 1.
    updates, epochs : int
        One of the two: after how many of them the rate falls.

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
    """The rate falls by the same share at each time, η_t = η₀ γ^t.

    t is the number of updates, or of epochs, divided by `updates` or `epochs`.

    Parameters
    ----------
    learning_rate : float
        η₀, at least 0.
    factor : float, default 0.1
        γ, above 0 and at most 1.
    updates, epochs : int
        One of the two: in how many of them the rate falls by the factor.

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
        One of the two: after how many of them the rate is half of the first.

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
    """The rate falls to its end as a power of the time left, and stays there.

    ::

        η_t = η_end + (η₀ − η_end) (1 − min(t, 1))^p

    t is the number of updates, or of epochs, divided by `updates` or `epochs`; p = 1 is a straight
    line.

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
    """The rate falls to its end along half a cosine, and stays there.

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


class WarmUp(Schedule):
    """A straight line up to the first rate of another schedule, which then begins.

    At time k of a warm-up over T updates, or epochs, both counted from 0::

        η_k = η'_0 (k + 1) / (T + 1)    for k < T,        η_k = η'_(k − T)    from then on

    so that no update has a rate of 0, and the rate of the schedule itself is the next after T.

    Parameters
    ----------
    schedule : float or Schedule
        What follows; a number stands for `Constant`. Its time begins after the warm-up where both
        count in the same unit, and with the training where they do not.
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
        """Return the learning rate after so many updates, and so many whole epochs."""
        if self.updates is not None:
            done, length = updates, self.updates
            later = updates - length, epochs
        else:
            assert self.epochs is not None
            done, length = epochs, self.epochs
            later = updates, epochs - length
        if done < length:
            return self.schedule(0, 0) * (done + 1) / (length + 1)
        return self.schedule(*later)


class FunctionSchedule(Schedule):
    """The rate of a function, η = f(updates, epochs).

    Wherever a schedule is given, a plain function stands for ``FunctionSchedule(function)``.

    Parameters
    ----------
    function : callable
        From how many updates and whole epochs have been made, from 0, to the rate.

    Examples
    --------
    >>> def halved(updates, epochs):
    ...     return 0.1 * 0.5**epochs
    >>> FunctionSchedule(halved)(updates=1000, epochs=2)
    0.025
    """

    def __init__(self, function: Callable[[int, int], float]) -> None:
        check_function("function", function)
        super().__init__(1, None)
        self.function = function

    def __call__(self, updates: int, epochs: int) -> float:
        """Return the rate after so many updates, and so many whole epochs."""
        return check_number("the rate that a schedule returns", self.function(updates, epochs))


def schedule_of(given: Any) -> Schedule:
    """Return the schedule that is given, or that of a plain function."""
    if isinstance(given, type):
        raise ValueError(
            f"learning_rate is the class {given.__name__}: make a schedule of it, "
            f"{given.__name__}(...)"
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
        WarmUp,
    )
}
