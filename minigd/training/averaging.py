"""A moving average of the parameters, which the model gets at the end of `fit`."""

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigd.backends.base import backend_of
from minigd.data.batches import Batches
from minigd.errors import check_number
from minigd.nn.layers import BatchNorm, Layer
from minigd.nn.moments import Part, merged, of_columns
from minigd.nn.sequential import Sequential
from minigd.training.events import Event, Run
from minigd.training.rows import RowLoader
from minigd.types import Array


class AverageWeights:
    """Averages the parameters over the updates, and puts the average into the model at the end.

    After update t, with the parameters p_s after each update s so far::

        a_t = Σ_s dᵗ⁻ˢ p_s / Σ_s dᵗ⁻ˢ,        a_t = a_(t−1) + (1 − d) / (1 − dᵗ) (p_t − a_(t−1))

    When `fit` ends, stopped or not, the model has a_t, and `evaluate`, `predict` and `save` use it.
    A later `fit` continues from p_t, and so does a run that is resumed with this callback. The
    history is that of p_t. `applied` puts the average into the model for a while.

    The running statistics of `BatchNorm` do not fit the average. So each such layer gets the mean
    and the unbiased variance of its input over all training rows, with the layers before it as in a
    prediction. This takes a pass over the rows per layer. A frozen layer keeps its statistics.

    It is called after each update, so compiled steps are made one by one. The average is in
    float64. Only one callback may set the final parameters: a second average is refused, and
    `EarlyStopping` needs ``restore_best=False``.

    Parameters
    ----------
    decay : float, default 0.999
        d, in [0, 1): the weight of the old average at each update.

    Attributes
    ----------
    count : int
        t, the number of averaged updates.

    Raises
    ------
    ValueError
        If `decay` is out of range.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> X = np.linspace(-1, 1, 100).reshape(-1, 1)
    >>> model = gd.Sequential([gd.Dense(1, "zeros")], inputs=1, dtype="float64")
    >>> path = []
    >>> def note(event):
    ...     if event.name == "update":
    ...         path.append(event.trainer.model.params["dense1.W"].item())
    >>> history = model.fit(X, X[:, 0], loss="mse", updater=gd.SGD(0.5), batch_size=None, epochs=2,
    ...                     callbacks=[note, gd.AverageWeights(decay=0.5)])
    >>> round(model.params["dense1.W"].item(), 6), round((0.5 * path[0] + path[1]) / 1.5, 6)
    (0.489682, 0.489682)

    Source: Polyak and Juditsky (1992), "Acceleration of stochastic approximation by averaging"; as
    a moving average Tarvainen and Valpola (2017), "Mean teachers are better role models".
    """

    events = frozenset({"start", "update", "done"})
    averages = True

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = check_number("decay", decay, 0.0, 1.0)
        self._trainer: weakref.ref[Run] | None = None
        self.clear()

    def clear(self) -> None:
        """Drop the average."""
        self.count = 0
        self._average: Any = None
        self._left: dict[str, Any] = {}  # the final arrays of the model
        self._last: dict[str, Any] = {}  # and the arrays before

    def __call__(self, event: Event) -> None:
        """Average after each update, and put the average into the model at the end."""
        run, model = event.trainer, event.trainer.model
        if event.name == "start":
            if self._trainer is not None and run is not self._trainer():
                self.clear()
            self._trainer = weakref.ref(run)
            now = model.arrays()
            if self._last and all(np.array_equal(now[n], self._left[n]) for n in now):
                model.load_arrays(self._last)
            self._left, self._last = {}, {}
            if self.count:
                self._average = model.backend.asarray(_on_host(self._average))
        elif event.name == "update":
            self._add(model.flat_params)
        elif event.name == "done" and self.count:
            self._last = model.arrays()
            self._put_in(run)
            self._left = model.arrays()

    def _add(self, params: Any) -> None:
        self.count += 1
        if self.count == 1:
            self._average = params.astype("float64")
        else:
            share = (1 - self.decay) / (1 - self.decay**self.count)
            self._average += share * (params - self._average)

    def _put_in(self, run: Run) -> None:
        run.model.flat_params[...] = self._average.astype(run.model.dtype)
        renew_statistics(run, run.batches)

    @contextlib.contextmanager
    def applied(self, run: Run) -> Iterator[None]:
        """Put the average into the model within a ``with``, for example to evaluate it.

        Parameters
        ----------
        run : Trainer
            The trainer whose updates were averaged. In a callback, ``event.trainer``.
        """
        before = run.model.arrays()
        try:
            if self.count:
                self._put_in(run)
            yield
        finally:
            run.model.load_arrays(before)

    def state_dict(self) -> dict[str, Any]:
        """Return the average, and the final arrays of the model."""
        average = {} if self._average is None else {"average": _on_host(self._average)}
        arrays = {"left": dict(self._left), "last": dict(self._last)}
        return {"count": self.count, "arrays": {**average, **arrays}}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.count, arrays = values["count"], values["arrays"]
        self._average = arrays.get("average")
        self._left, self._last = dict(arrays["left"]), dict(arrays["last"])
        self._trainer = None


def _on_host(average: Any) -> Any:
    return backend_of(average).to_numpy(average).copy()


def renew_statistics(run: Run, batches: Batches) -> None:
    """Compute the running statistics of BatchNorm over all rows, for the current parameters."""
    model, loader = run.model, RowLoader(run.objective, {})
    for layer in model.all_layers:
        if not isinstance(layer, BatchNorm) or layer.is_frozen:
            continue
        part: Part | None = None
        with np.errstate(all="ignore"):
            for batch in batches.in_order():
                rows = loader.load(batch, batches.source)
                if rows is not None:
                    own = of_columns(_input_of(layer, model, rows.x))
                    part = own if part is None else merged(part, own)
        if part is not None and part.weight > 1:
            layer.buffers["mean"][...] = part.mean.astype(model.dtype)
            layer.buffers["variance"][...] = (part.squares / (part.weight - 1)).astype(model.dtype)


def _input_of(layer: Layer, model: Sequential, x: Array) -> Array:
    """Return the input of a layer anywhere in a model, in a prediction for x."""
    found: list[Array] = []

    def forward(x: Array, train: bool = False) -> Array:
        found.append(x.copy())
        return type(layer).forward(layer, x, train)

    vars(layer)["forward"] = forward
    try:
        model.run_forward(model.layers, x, train=False)
    finally:
        del vars(layer)["forward"]
    return found[0]
