"""The model: layers in a row, run forward and backward, trained, copied and saved."""

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from minigd.backends.base import Backend, check_where_free, get_backend, numbers
from minigd.backends.frames import check_names, names_of
from minigd.backends.on_demand import call
from minigd.backends.workspace import Workspace
from minigd.errors import (
    ShapeError,
    UnknownArgument,
    check_dtype,
    check_flag,
    check_integer,
    given_once,
    no_forward,
    renamed,
    with_known_names,
)
from minigd.nn.layers import Layer
from minigd.nn.layers.base import check_layers
from minigd.nn.layers.scaling import Adapted, adapt
from minigd.nn.losses import Loss, LossLike
from minigd.nn.metrics import Metric, MetricLike
from minigd.nn.parameters import (
    FlatParameters,
    arrays_of,
    check_arrays,
    draw_first_values,
    load_arrays,
    load_layers,
    take_first_values,
)
from minigd.nn.shape_errors import gradient_error, result_error, rows_error
from minigd.optim.schedules import Schedule
from minigd.optim.updaters import Updater
from minigd.storage import npz
from minigd.storage.describe import Arrays, Description, describe
from minigd.types import Array

# The first word of a seed sequence says what is drawn: weights and orders never coincide.
_WEIGHTS = 1


class Sequential:
    """Layers in a row: each one's output is the next one's input.

    Parameters
    ----------
    layers : sequence of Layer
    inputs : int
        Width of a row of x.
    backend : {"numpy", "cupy"} or Backend, default "numpy"
        Where parameters and gradients live, and where the work is done.
    dtype : {"float32", "float64"}, default "float32"
        Of every array inside; x and y are converted once, where they come in.
    seed : int, default 0
        Decides the first weights, on every backend alike.

    Attributes
    ----------
    layers : list of Layer
    all_layers : list of Layer
        Each followed by the layers that it holds, as a `Residual` does.
    flat_params, flat_grads : Array, 1-d
        All parameters and their mean gradients: first the weights of all layers, after them all
        biases, scales and shifts. Those of a layer with ``layer.trainable = False`` are not in
        them.
    params, grads : dict of str to Array
        By name, layer by layer: ``model.params["dense1.W"]``. Views into the two; what is not
        trained is in `params` alone.
    n_weights : int
        How many of the numbers are weights: ``flat_params[:n_weights]``.
    trained_names : tuple of str
        Of the parameters in `flat_params`, in their order.
    n_in, n_out : int
        Width of a row of input and of output.
    passes : int
        Training passes made, from which Dropout draws; saved with the model.
    names : list of str, or None
        Of the columns it was trained on, where a frame or a file named them; saved with the model.
        Columns that come by name must be these, in this order.
    schema : Schema, or None
        What the columns of the table that it was trained on became; saved with the model. It
        encodes the frames that the model is given later.

    Raises
    ------
    ValueError, TypeError
        If a layer is not one, is used twice, or the dtype, the width or the seed make no sense.

    Examples
    --------
    >>> import minigd as gd
    >>> model = gd.Sequential([gd.Dense(10), gd.Tanh(), gd.Dense(1), gd.Sigmoid()], inputs=2)
    >>> list(model.params)
    ['dense1.W', 'dense1.b', 'dense2.W', 'dense2.b']
    >>> model.flat_params.size, model.n_weights
    (41, 30)
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        inputs: int,
        *,
        backend: str | Backend = "numpy",
        dtype: Any = "float32",
        seed: int = 0,
    ) -> None:
        self._set_up(layers, inputs, backend, dtype, seed)

    def _set_up(
        self,
        layers: Sequence[Layer],
        inputs: int,
        backend: str | Backend,
        dtype: Any,
        seed: int,
        arrays: Arrays | None = None,
    ) -> None:
        """Do what `__init__` does; take the first values from arrays if they are given."""
        self.n_in = check_integer("inputs", inputs)
        self.seed = check_integer("seed", seed, 0)
        self.dtype = check_dtype(dtype, ("float32", "float64", "complex128"))
        self.backend = get_backend(backend)
        self.workspace = Workspace(self.backend)
        self.layers = check_layers(layers, "Sequential")
        self.loss: Loss | None = None
        self.metrics: dict[str, Metric] = {}
        self.passes = 0
        self.names: list[Any] | None = None
        self.schema: Any = None
        self._pending: tuple[int, ...] | None = None
        try:
            self._build(arrays)
        except BaseException:
            for layer in self.layers:
                layer.release()
            raise

    def _build(self, arrays: Arrays | None) -> None:
        count: dict[str, int] = {}
        self.n_out = self.n_in
        for i, layer in enumerate(self.layers):
            kind = type(layer).__name__.lower()
            count[kind] = count.get(kind, 0) + 1
            layer.place, layer._model = (self.seed, i), weakref.ref(self)
            layer.bind(f"{kind}{count[kind]}", self.backend, self.dtype, self.workspace, self.n_out)
            self.n_out = layer.n_out
        self.all_layers = [one for layer in self.layers for one in (layer, *layer.inner_layers)]
        self._drawing = [layer for layer in self.all_layers if layer.draws]

        if arrays is not None:
            check_arrays(self.all_layers, arrays)  # before anything is made as large as they say
        self._vectors = FlatParameters(self.all_layers, self.backend, self.dtype)
        self.n_weights, self.trained_names = self._vectors.n_weights, self._vectors.names
        self.params, self.grads = self._vectors.params, self._vectors.grads
        if arrays is None:
            rng = np.random.default_rng([self.seed, _WEIGHTS])
            draw_first_values(self.all_layers, rng, self.backend, self.dtype)
        else:
            take_first_values(self.all_layers, arrays, self.backend, self.dtype)
        for layer in filter(_holds, self.all_layers):
            layer.show_inner()

    def lay_out(self) -> None:
        """Put the parameters of the trainable layers together again, and keep the values of all."""
        before = {name: value.copy() for name, value in self.params.items()}
        self._vectors = FlatParameters(self.all_layers, self.backend, self.dtype)
        self.n_weights, self.trained_names = self._vectors.n_weights, self._vectors.names
        self.params, self.grads = self._vectors.params, self._vectors.grads
        for name, value in before.items():
            self.params[name] = value
        for layer in filter(_holds, self.all_layers):
            layer.show_inner()

    @property
    def flat_params(self) -> Array:
        """All trained parameters; assigning writes into the vector."""
        return self._vectors.flat_params

    @flat_params.setter
    def flat_params(self, values: Array) -> None:
        self._vectors.flat_params[...] = values

    @property
    def flat_grads(self) -> Array:
        """All their gradients; assigning writes into the vector."""
        return self._vectors.flat_grads

    @flat_grads.setter
    def flat_grads(self, values: Array) -> None:
        self._vectors.flat_grads[...] = values

    @property
    def trainable(self) -> bool:
        """Whether any layer is trained; assigning sets `minigd.Layer.trainable` of all of them."""
        return any(layer.trainable for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    # Forward and backward -------------------------------------------------------------------

    def forward(self, x: Any, train: bool = False) -> Array:
        """Return the output of the last layer.

        Parameters
        ----------
        x : array-like, shape (n, n_in)
            Real numbers, on the model's backend; converted to the model's dtype.
        train : bool, default False
            Keep what `backward` needs.

        Returns
        -------
        Array, shape (n, n_out)
            Fresh memory, of the model's dtype.

        Raises
        ------
        ShapeError
            If x is not of shape (n, n_in).
        DataError
            If x is empty, or holds text, NaN or infinity.
        BackendError
            If x lives on another device.
        """
        check_names(names_of(x), self.names, "x")
        x = self.backend.here(x, "x")
        check_where_free(self.backend, x, "x")
        return self.run_forward(self.layers, self.convert(x), check_flag("train", train))

    def backward(self, dy: Any, input_gradient: bool = False) -> Array | None:
        """Fill `grads` with the mean gradients of the last ``forward(x, train=True)``.

        Parameters
        ----------
        dy : array-like, shape (n, n_out)
            Row i is the gradient of example i's own loss with respect to its output; a loss's
            `backward` gives it.
        input_gradient : bool, default False
            Also go through layers left of the first one with parameters, and return dx.

        Returns
        -------
        Array of shape (n, n_in), or None
            dx, whose row i is the gradient of example i's own loss; None unless asked for.

        Raises
        ------
        RuntimeError
            If there was no ``forward(x, train=True)``, or it was used already.
        ShapeError
            If dy does not have the shape of the output.
        """
        if self._pending is None:
            raise no_forward("the model")
        dy = self.backend.here(dy, "dy")
        if dy.shape != self._pending:
            raise ShapeError(f"dy has shape {dy.shape} but the output had shape {self._pending}")
        dy = numbers(dy, "dy").astype(self.dtype, copy=False)
        return self.run_backward(self.layers, dy, check_flag("input_gradient", input_gradient))

    def convert(self, x: Any, what: str = "x", rows: Any = None) -> Array:
        """Return x in the model's dtype, and refuse what does not fit the first layer."""
        x = self.backend.here(x, what)
        if x.ndim != 2 or x.shape[1] != self.n_in or len(x) == 0:
            raise rows_error(x, self.n_in, what)
        if x.dtype == self.dtype and x.flags.c_contiguous:
            return x
        return self.backend.convert(x, self.dtype, what, rows)

    def run_forward(self, layers: Sequence[Layer], x: Array, train: bool) -> Array:
        """Run x, converted before, through the first of the model's layers."""
        n = len(x)
        if train:
            self.passes += 1
            for layer in self._drawing:
                layer.passes = self.passes
        for layer in layers:
            x = layer.forward(x, train)
            if not self._fits(x, (n, layer.n_out)):
                raise result_error(self, layer.name, "forward", x, (n, layer.n_out))
        self._pending = x.shape if train else self._pending
        return x

    def run_backward(
        self,
        layers: Sequence[Layer],
        dy: Array,
        input_gradient: bool = False,
        squares: list[Array] | None = None,
    ) -> Array | None:
        """Run dy back through the same layers; take their `row_squares` down where asked to."""
        self._pending = None
        n = len(dy)
        trained = [i for i, layer in enumerate(layers) if layer.grads and not layer.is_frozen]
        stop = 0 if input_gradient else (trained[0] if trained else len(layers))
        for i in reversed(range(stop, len(layers))):
            layer = layers[i]
            layer.wants_dx = input_gradient or i > stop
            if squares is not None and layer.grads and not layer.is_frozen:
                squares.append(layer.row_squares(dy))
            dx = layer.backward(dy)
            if not layer.wants_dx:
                break
            if not self._fits(dx, (n, layer.n_in)):
                raise result_error(self, layer.name, "backward", dx, (n, layer.n_in))
            dy = dx
        for layer in layers[:stop]:
            layer.forget()
        return dy if input_gradient else None

    def check_gradient(self, dz: Any, shape: tuple[int, ...], loss: Loss) -> None:
        """Refuse the gradient of a loss that does not have the shape of its outputs."""
        if not self._fits(dz, shape):
            raise gradient_error(self, dz, shape, loss)

    def _fits(self, x: Any, shape: tuple[int, ...]) -> bool:
        return self.backend.holds(x) and x.shape == shape and bool(x.dtype == self.dtype)

    def predict(self, X: Any, batch_size: int = 1024) -> Array:
        """Return the outputs for all rows, computed a batch at a time.

        Parameters
        ----------
        X : array-like, shape (n, n_in)
            On the host or on the model's device; the columns of a frame in the order of `fit`.
        batch_size : int, default 1024
            Rows at a time: memory for the layers' outputs is held for no more.

        Returns
        -------
        array, shape (n, n_out)
            Where X is: on the host for a host array. For a model that ends in Sigmoid or Softmax
            these are probabilities.

        Raises
        ------
        ShapeError, DataError
            As `forward`.

        Examples
        --------
        >>> import numpy as np, minigd as gd
        >>> model = gd.Sequential([gd.Dense(3), gd.Softmax()], inputs=2)
        >>> model.predict(np.zeros((4, 2))).shape
        (4, 3)
        """
        return self.run_rows(self.layers, X, batch_size)

    def run_rows(self, layers: Sequence[Layer], X: Any, batch_size: int = 1024) -> Array:
        """Run rows through the first of the model's layers, a batch at a time, as in `predict`.

        Parameters
        ----------
        layers : sequence of Layer
            ``model.layers``, or those up to one of them.
        X, batch_size
            As for `predict`.

        Returns
        -------
        Array, shape (n, width of the last of these layers)

        Raises
        ------
        ShapeError, DataError
            As `predict`.
        """
        step = check_integer("batch_size", batch_size)
        from minigd.data.sources.given import rows_to_predict
        from minigd.nn.pieces import run_piece

        if (pieces := rows_to_predict(X, self, step)) is not None:
            return np.concatenate([run_piece(self, layers, *piece) for piece in pieces])
        check_names(names_of(X), self.names)
        on_device, sparse = self.backend.holds(X), hasattr(X, "tocsr")
        home = self.backend if on_device else get_backend("numpy")
        X = X.tocsr() if sparse else home.here(X, "X")
        if X.ndim != 2 or X.shape[0] == 0 or X.shape[1] != self.n_in:
            self.convert(self.backend.zeros(X.shape, self.dtype), "X")
        out = home.empty((X.shape[0], layers[-1].n_out), self.dtype)
        for start in range(0, X.shape[0], step):
            rows = slice(start, start + step)
            x = X[rows].toarray() if sparse else X[rows]
            out[rows] = run_piece(self, layers, x, "X", rows)
        return out

    # Training, through the trainer -----------------------------------------------------------

    @with_known_names
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        loss: LossLike,
        updater: str | Updater | None = None,
        batch_size: int | Schedule | None = 100,
        epochs: int = 1,
        validation_data: Any = None,
        metrics: Iterable[MetricLike] | Mapping[str, MetricLike] | None = (),
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Any = None,
        time_limit: float | None = None,
        callbacks: Iterable[Any] | None = (),
        per_example: bool = False,
        progress: bool = False,
        profile: bool = False,
        plain: bool = False,
        optimizer: str | Updater | None = None,
        receipt: bool | None = None,
        **options: Any,
    ) -> Any:
        """Train for some epochs with a new trainer.

        Parameters
        ----------
        X, y : array-like
            Rows and targets; or a Batches or a source in place of X, and no y.
        loss : str or Loss
            ``"mse"``, ``"binary_crossentropy"``, ``"categorical_crossentropy"``, or an object.
            A final Sigmoid or Softmax is paired with its cross-entropy, which is then computed
            from the logits; see `minigd.Objective`.
        updater : str or Updater, default "adam"
            Its state is reset.
        batch_size : int, Schedule or None, default 100
            Rows per update; None for all of them. A schedule gives each epoch its own.
        epochs : int, default 1
            Passes over the rows.
        validation_data : (X, y), Batches or source, optional
            Evaluated after each epoch: ``val_loss`` and so on in the history.
        metrics : iterable of str or Metric, or dict of them by name
            A dict's keys are their names in the history.
        shuffle : bool, default True
            A new order of the rows each epoch, decided by the model's seed.
        sample_weight : array-like, shape (rows,), optional
            How much each row counts; one of weight 0 is left out, whatever numbers it holds.
        class_weight : dict from class to float, or "balanced", optional
            How much the rows of each class count, times their own weight.
        time_limit : float, optional
            Seconds after which to stop, at the end of the step; a line on stderr says so.
        callbacks : iterable of callable
            Each is called with every event; see `minigd.Trainer.fit`.
        per_example : bool, default False
            Tell callbacks the norm of each row's own gradient, as ``event.norms``.
        progress : bool, default False
            A bar in a terminal, a few lines elsewhere.
        profile : bool, default False
            End with a line on stderr that says where the time went.
        optimizer : str or Updater, optional
            Another name for `updater`.
        plain : bool, default False
            Run each step through the layers' own methods; see `minigd.Trainer.fit`.
        receipt : bool, optional
            The old name of `profile`.
        **options
            `accumulate`, `l1`, `l2`, `clip_norm` and the other settings of `minigd.Trainer`.

        Returns
        -------
        History
            ``history["loss"]`` and so on, one float per epoch.

        Raises
        ------
        ShapeError, DataError
            If the data do not fit the model, the loss or each other.
        DivergenceError
            If the loss or a gradient is no longer finite.

        Examples
        --------
        >>> import numpy as np, minigd as gd
        >>> X = np.linspace(-1, 1, 230).reshape(-1, 1)
        >>> model = gd.Sequential([gd.Dense(1)], inputs=1)
        >>> history = model.fit(X, 3 * X + 1, loss="mse", updater=gd.SGD(0.5), batch_size=50,
        ...                     epochs=20)
        >>> model.params["dense1.W"].round(3), model.params["dense1.b"].round(3)
        (array([[3.]], dtype=float32), array([1.], dtype=float32))
        """
        updater = given_once("updater", updater, "optimizer", optimizer, "adam")
        return self._trainer(loss, updater, metrics, **options).fit(
            X, y, batch_size=batch_size, epochs=epochs, validation_data=validation_data,
            shuffle=shuffle, sample_weight=sample_weight, class_weight=class_weight,
            time_limit=time_limit, callbacks=callbacks, per_example=per_example, plain=plain,
            progress=progress, profile=renamed("receipt", receipt, "profile", profile),
        )  # fmt: skip

    def evaluate(
        self, X: Any, y: Any = None, batch_size: int = 1024, sample_weight: Any = None
    ) -> dict[str, float]:
        """Return the loss and metrics of `fit` over all rows, in order, without an update.

        Parameters
        ----------
        X, y : array-like
            Or a Batches or a source in place of X, and no y.
        batch_size : int, default 1024
        sample_weight : array-like, shape (rows,), optional
            How much each row counts.

        Returns
        -------
        dict of str to float
            ``"loss"`` and each metric, over all rows.

        Raises
        ------
        RuntimeError
            If the model was never fitted and so has no loss.

        Examples
        --------
        >>> import numpy as np, minigd as gd
        >>> X = np.linspace(-1, 1, 230).reshape(-1, 1)
        >>> model = gd.Sequential([gd.Dense(1)], inputs=1)
        >>> history = model.fit(X, X, loss="mse", metrics=["mae"])
        >>> sorted(model.evaluate(X, X))
        ['loss', 'mae']
        """
        if self.loss is None:
            raise RuntimeError(
                "evaluate uses the loss and metrics of fit, but this model was not fitted: call "
                "fit first, or use minigd.Trainer(model, loss, updater).evaluate(X, y)"
            )
        trainer = self._trainer(self.loss, "sgd", self.metrics)
        return dict(trainer.evaluate(X, y, batch_size, sample_weight))

    def _trainer(self, *given: Any, **options: Any) -> Any:
        try:
            return call("minigd.training.trainer", "Trainer", self, *given, **options)
        except UnknownArgument as error:
            raise error.inside(Sequential.fit, (self,)) from None

    def adapt(self, batches: Any) -> None:
        """Fit a first Standardize and a last Rescale to the data, in one pass that only reads.

        Parameters
        ----------
        batches : Batches
            Their order is that of the source, and no epoch is used up.

        Raises
        ------
        ValueError
            If the model has neither of the two layers.

        Examples
        --------
        >>> import numpy as np, minigd as gd
        >>> model = gd.Sequential([gd.Standardize(), gd.Dense(1), gd.Rescale()], inputs=1)
        >>> model.adapt(gd.Batches(np.array([[1.0], [3.0]]), np.array([10.0, 20.0])))
        >>> float(model.layers[0].buffers["mean"][0]), float(model.layers[2].buffers["mean"][0])
        (2.0, 15.0)
        """
        ends = [layer for layer in self.all_layers if isinstance(layer, Adapted)]
        if not ends:
            raise ValueError("nothing to adapt: the model has no Standardize or Rescale layer")
        for layer in ends:
            if layer is not self.layers[layer.end]:
                raise ValueError(
                    f"{layer.name} adapts to the raw data and must be the "
                    f"{'first' if layer.end == 0 else 'last'} layer"
                )
        adapt(ends, batches, self.names)
        self.names = batches.source.names or self.names

    # Copies, files, devices ------------------------------------------------------------------

    def copy(self, dtype: Any = None, backend: str | Backend | None = None) -> "Sequential":
        """Return an independent model with the same layers and values.

        Parameters
        ----------
        dtype, backend : optional
            Another dtype or backend for the copy.
        """
        _, (layers, (n_in, _, own, seed), *rest) = self.__reduce__()
        where = self.backend if backend is None else backend
        dtype = own if dtype is None else dtype
        return _rebuild(layers, (n_in, where, dtype, seed), *rest)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as `copy` does: the views stay views."""
        layers = [(type(layer), layer.config(), layer.trainable) for layer in self.layers]
        loss = None if self.loss is None else (type(self.loss), self.loss.config())
        settings = self.n_in, self.backend.name, str(self.dtype), self.seed
        rest = dict(self.metrics), self.passes, self.names, self.schema
        return _rebuild, (layers, settings, self.arrays(), loss, *rest)

    def arrays(self) -> dict[str, Array]:
        """Return all parameters and buffers by name, on the host."""
        return {n: self.backend.to_numpy(a).copy() for n, a in arrays_of(self.all_layers).items()}

    def load_arrays(self, arrays: Arrays) -> None:
        """Take the values of `arrays`.

        Raises
        ------
        CheckpointError
            If names or shapes are not those of this model; nothing is changed then.
        """
        load_arrays(self.all_layers, arrays, self.backend, self.dtype)

    def load_weights(self, model: "Sequential", layers: Sequence[str] | None = None) -> None:
        """Take parameters and buffers, such as running statistics, of another model by name.

        Parameters
        ----------
        model : Sequential
            Of any dtype and backend; ``gd.load(path)`` for one in a file.
        layers : sequence of str, optional
            Names of the layers to take, which both models have; by default all of this model's.

        Raises
        ------
        ShapeError
            If a layer is not in both, or its arrays have other shapes; nothing is changed then.

        Examples
        --------
        >>> import minigd as gd
        >>> trained = gd.Sequential([gd.Dense(8), gd.Tanh(), gd.Dense(1)], inputs=2, seed=0)
        >>> model = gd.Sequential([gd.Dense(8), gd.Tanh(), gd.Dense(3)], inputs=2, seed=1)
        >>> model.load_weights(trained, layers=["dense1"])
        >>> model.layers[0].trainable = False
        >>> float(abs(model.params["dense1.W"] - trained.params["dense1.W"]).max())
        0.0
        """
        load_layers(self, model, layers)

    def to(self, backend: str | Backend) -> "Sequential":
        """Move parameters and buffers to another backend, and return the model.

        Raises
        ------
        BackendError
            If CuPy or a GPU is missing; the model stays where it was.
        """
        target = get_backend(backend)
        if target.xp is self.backend.xp:
            return self
        arrays = self.arrays()
        self.backend = target
        self.workspace = Workspace(target)
        self._pending = None
        for layer in self.all_layers:
            layer.move(target, self.workspace)
        self._vectors.allocate(target, self.dtype)
        self.params, self.grads = self._vectors.params, self._vectors.grads
        for layer in filter(_holds, self.all_layers):
            layer.show_inner()
        self.load_arrays(arrays)
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one ``.npz`` file: layers, values, and the loss and metrics of `fit`.

        The file is written completely or not at all, and `minigd.load` reads it without pickle.

        Raises
        ------
        ValueError
            If the path ends as a file of another format does, ``.h5``.
        TypeError
            If a layer's argument can't be written.
        OSError
            If the file can't be written; one that was there stays as it was.
        """
        npz.write(npz.model_path(path), self.describe(), self.arrays())

    def describe(self) -> Description:
        """Return all but the arrays, for a file."""
        return {
            "kind": "model",
            "inputs": self.n_in,
            "dtype": str(self.dtype),
            "seed": self.seed,
            "passes": self.passes,
            "names": self.names,
            **({} if self.schema is None else {"schema": self.schema.state_dict()}),
            "layers": [describe(layer) for layer in self.layers],
            "loss": None if self.loss is None else describe(self.loss),
            "metrics": {name: describe(metric) for name, metric in self.metrics.items()},
        }

    def summary(
        self,
        batch_size: int = 100,
        updater: str | Updater | None = None,
        *,
        optimizer: str | Updater | None = None,
    ) -> str:
        """Return a table of layers, output shapes and parameters, with the bytes training takes.

        Where its value is not used, in a script or inside a cell, it is printed.

        Parameters
        ----------
        batch_size : int, default 100
            Decides the size of the work arrays.
        updater : str or Updater, default "adam"
            Decides the size of its state.
        optimizer : str or Updater, optional
            Another name for `updater`.

        Notes
        -----
        A GPU that keeps the data holds them too; where they stream, it holds three batches and
        not one. It also holds a snapshot, to go back to after a divergence. On the CPU, what a
        recorded step keeps between its operations comes on top.

        Examples
        --------
        >>> import minigd as gd
        >>> gd.Sequential([gd.Dense(10), gd.Tanh(), gd.Dense(1)], inputs=2).summary()
        layer                     output    parameters
        dense1                    (n, 10)           30
        tanh1                     (n, 10)            0
        dense2                    (n, 1)            11
        total                                       41   164 bytes of float32
        gradients                                   41   164 bytes
        state of Adam                               82   328 bytes
        work arrays, n = 100                             16,400 bytes
        the batch and its loss                           2,000 bytes
        total, without the data                         19,056 bytes
        """
        updater = given_once("updater", updater, "optimizer", optimizer, "adam")
        text: str = call("minigd.insight.summary", "summarize", self, batch_size, updater)
        return text

    def __repr__(self) -> str:
        layers = ", ".join(repr(layer) for layer in self.layers)
        return (
            f"Sequential([{layers}], inputs={self.n_in}, backend={self.backend.name!r}, "
            f"dtype={str(self.dtype)!r})"
        )


def with_arrays(
    arrays: Arrays,
    layers: Sequence[Layer],
    inputs: int,
    *,
    backend: str | Backend,
    dtype: Any,
    seed: int,
) -> Sequential:
    """Return a model that has these values from the start, as `Sequential.arrays` names them."""
    model = Sequential.__new__(Sequential)
    model._set_up(layers, inputs, backend, dtype, seed, arrays)
    return model


def _rebuild(
    layers: list[tuple[type[Layer], dict[str, Any], bool]],
    settings: tuple[Any, ...],
    arrays: Arrays,
    loss: tuple[type[Loss], dict[str, Any]] | None,
    metrics: dict[str, Metric],
    passes: int,
    names: list[Any] | None = None,
    schema: Any = None,
) -> Sequential:
    inputs, backend, dtype, seed = settings
    made = [kind(**config) for kind, config, _ in layers]
    for layer, (_, _, trainable) in zip(made, layers, strict=True):
        layer.trainable = trainable
    model = with_arrays(arrays, made, inputs, backend=backend, dtype=dtype, seed=seed)
    model.loss = None if loss is None else loss[0](**loss[1])
    model.metrics, model.passes, model.names, model.schema = metrics, passes, names, schema
    return model


_holds = attrgetter("inner_layers")
