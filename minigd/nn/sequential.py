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

# The first word of a seed sequence is for what is drawn: weights and orders never coincide.
_WEIGHTS = 1


class Sequential:
    """Layers in a row: the output of each layer is the input of the next.

    Parameters
    ----------
    layers : sequence of Layer
    inputs : int
        Width of a row of x.
    backend : {"numpy", "cupy"} or Backend, default "numpy"
        Where parameters and gradients are stored, and where everything is computed.
    dtype : {"float32", "float64"}, default "float32"
        Of all arrays in the model. x and y are converted once, at the entry.
    seed : int, default 0
        Determines the initial weights, the same on every backend.

    Attributes
    ----------
    layers : list of Layer
    all_layers : list of Layer
        Each is followed by the layers inside it, as in a `Residual`.
    flat_params, flat_grads : Array, 1-d
        All parameters and their mean gradients: first the weights of all layers, then all biases,
        scales and shifts. Those of a layer with ``layer.trainable = False`` are not included.
    params, grads : dict of str to Array
        By name, layer by layer: ``model.params["dense1.W"]``. They are views into the two vectors.
        Frozen parameters are only in `params`.
    n_weights : int
        How many of the numbers are weights: ``flat_params[:n_weights]``.
    trained_names : tuple of str
        Of the parameters in `flat_params`, in their order.
    n_in, n_out : int
        Number of inputs and outputs per row.
    passes : int
        Number of training passes, from which Dropout draws. Saved with the model.
    names : list of str, or None
        Names of the training columns, if a frame or a file had names. Saved with the model. Later
        columns with names must be the same, in this order.
    schema : Schema, or None
        What the columns of the training table became. Saved with the model. It encodes the frames
        that are passed later.

    Raises
    ------
    ValueError, TypeError
        If something is not a layer, a layer is used twice, or dtype, width or seed are invalid.

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
        """Do what `__init__` does, and take the initial values from arrays if there are any."""
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
            check_arrays(self.all_layers, arrays)  # before anything of their size is allocated
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
        """Lay out the parameters of the trainable layers again, and keep all values."""
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
        """All trained parameters. An assignment writes into the vector."""
        return self._vectors.flat_params

    @flat_params.setter
    def flat_params(self, values: Array) -> None:
        self._vectors.flat_params[...] = values

    @property
    def flat_grads(self) -> Array:
        """All their gradients. An assignment writes into the vector."""
        return self._vectors.flat_grads

    @flat_grads.setter
    def flat_grads(self, values: Array) -> None:
        self._vectors.flat_grads[...] = values

    @property
    def trainable(self) -> bool:
        """Whether any layer is trained. Assigning sets `minigd.Layer.trainable` of all layers."""
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
            A new array, of the model's dtype.

        Raises
        ------
        ShapeError
            If x is not of shape (n, n_in).
        DataError
            If x is empty, or contains text, NaN or infinity.
        BackendError
            If x is on another device.
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
            Also run the layers before the first one with parameters, and return dx.

        Returns
        -------
        Array of shape (n, n_in), or None
            dx, whose row i is the gradient of example i's own loss; None unless asked for.

        Raises
        ------
        RuntimeError
            If there was no ``forward(x, train=True)``, or it was already used.
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
        """Return x in the model's dtype, and refuse rows that do not fit the first layer."""
        x = self.backend.here(x, what)
        if x.ndim != 2 or x.shape[1] != self.n_in or len(x) == 0:
            raise rows_error(x, self.n_in, what)
        if x.dtype == self.dtype and x.flags.c_contiguous:
            return x
        return self.backend.convert(x, self.dtype, what, rows)

    def run_forward(self, layers: Sequence[Layer], x: Array, train: bool) -> Array:
        """Run x, already converted, through the first of the model's layers."""
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
        """Run dy back through the same layers, and record their `row_squares` if asked to."""
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
            Rows per pass, which limits the memory for the layers' outputs.

        Returns
        -------
        array, shape (n, n_out)
            On the device of X: on the host for a host array. If a model ends in Sigmoid or Softmax,
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
        """Run rows through the first of the model's layers, batch by batch, as in `predict`.

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
            Rows and targets, or a Batches or a source instead of X, and no y.
        loss : str or Loss
            ``"mse"``, ``"binary_crossentropy"``, ``"categorical_crossentropy"``, or an object. A
            final Sigmoid or Softmax is paired with its cross-entropy, which is then computed from
            the logits. See `minigd.Objective`.
        updater : str or Updater, default "adam"
            Its state is reset.
        batch_size : int, Schedule or None, default 100
            Rows per update. None means all rows. A schedule sets it for each epoch.
        epochs : int, default 1
            Passes over the rows.
        validation_data : (X, y), Batches or source, optional
            Evaluated after each epoch: ``val_loss`` and so on in the history.
        metrics : iterable of str or Metric, or dict of them by name
            The keys of a dict are the names in the history.
        shuffle : bool, default True
            A new order of the rows in each epoch, determined by the model's seed.
        sample_weight : array-like, shape (rows,), optional
            How much each row counts. Rows of weight 0 are left out.
        class_weight : dict from class to float, or "balanced", optional
            How much the rows of each class count, times their own weight.
        time_limit : float, optional
            Seconds after which to stop, at the end of the step. A line on stderr reports it.
        callbacks : iterable of callable
            Each is called with every event; see `minigd.Trainer.fit`.
        per_example : bool, default False
            Give callbacks the norm of each row's own gradient, as ``event.norms``.
        progress : bool, default False
            A bar in a terminal, a few lines elsewhere.
        profile : bool, default False
            At the end, print a line on stderr that says where the time went.
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
            If the loss or a gradient is not finite.

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
            Or a Batches or a source instead of X, and no y.
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
            If the model has no loss because it was never fitted.

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
        """Adapt a first Standardize and a last Rescale to the data, in one pass.

        Parameters
        ----------
        batches : Batches
            They are read in the order of the source, and no epoch is used up.

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
        """Copy and pickle like `copy`: views stay views."""
        layers = [(type(layer), layer.config(), layer.trainable) for layer in self.layers]
        loss = None if self.loss is None else (type(self.loss), self.loss.config())
        settings = self.n_in, self.backend.name, str(self.dtype), self.seed
        rest = dict(self.metrics), self.passes, self.names, self.schema
        return _rebuild, (layers, settings, self.arrays(), loss, *rest)

    def arrays(self) -> dict[str, Array]:
        """Return all parameters and buffers by name, on the host."""
        return {n: self.backend.to_numpy(a).copy() for n, a in arrays_of(self.all_layers).items()}

    def load_arrays(self, arrays: Arrays) -> None:
        """Set parameters and buffers to the values of `arrays`.

        Raises
        ------
        CheckpointError
            If names or shapes are not those of this model. Then nothing is changed.
        """
        load_arrays(self.all_layers, arrays, self.backend, self.dtype)

    def load_weights(self, model: "Sequential", layers: Sequence[str] | None = None) -> None:
        """Copy parameters and buffers, such as running statistics, from another model by name.

        Parameters
        ----------
        model : Sequential
            Of any dtype and backend. ``gd.load(path)`` loads one from a file.
        layers : sequence of str, optional
            Names of the layers to copy, which both models have. By default all of this model's.

        Raises
        ------
        ShapeError
            If a layer is not in both models, or its arrays have other shapes. Then nothing is
            changed.

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
            If CuPy or a GPU is missing. Then the model is not moved.
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
            If the path ends like a file of another format, such as ``.h5``.
        TypeError
            If a layer's argument can't be written.
        OSError
            If the file can't be written. An existing file stays unchanged.
        """
        npz.write(npz.model_path(path), self.describe(), self.arrays())

    def describe(self) -> Description:
        """Return everything except the arrays, for a file."""
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
        """Return a table of layers, output shapes, parameters, and the memory that training needs.

        If its value is not used, as in a script or inside a cell, it is printed.

        Parameters
        ----------
        batch_size : int, default 100
            Determines the size of the work arrays.
        updater : str or Updater, default "adam"
            Determines the size of the state.
        optimizer : str or Updater, optional
            Another name for `updater`.

        Notes
        -----
        On a GPU, the data need memory too if they fit. If they are streamed, three batches are in
        memory instead of one. There is also a snapshot, to return to after a divergence. On the
        CPU, a recorded step also keeps arrays between its operations.

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
    """Return a model with these initial values, named as in `Sequential.arrays`."""
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
