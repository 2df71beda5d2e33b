"""The base class of all layers: `build`, `forward`, `backward`, and named parameters.

A custom layer needs only these three methods. `docs/own_layer.md` shows how to write one.
"""

import copy
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from minigd.backends.base import Backend, Views
from minigd.backends.workspace import Workspace
from minigd.distributed.communicator import ALONE, Communicator
from minigd.errors import check_flag, check_list, no_forward, shown
from minigd.nn.initializers import Initializer, get_initializer
from minigd.nn.shape_errors import result_error
from minigd.storage.describe import arguments
from minigd.types import Array


class Declared(NamedTuple):
    """A parameter or buffer that `build` has declared and the model will allocate."""

    name: str
    shape: tuple[int, ...]
    initializer: Initializer


def like(layer: "Layer") -> "Layer":
    """Return a new layer with the same arguments and `trainable`, which is not in a model."""
    made = type(layer)(**layer.config())
    made.trainable = layer.trainable
    return made


def with_inner(layers: Iterable["Layer"]) -> list["Layer"]:
    """Return layers, each followed by all layers inside it."""
    return [each for layer in layers for each in (layer, *layer.inner_layers)]


def check_layers(layers: Sequence["Layer"], holder: str) -> list["Layer"]:
    """Refuse anything but a list of layers that are not in a model yet."""
    chosen = check_list("layers", layers, "layer")
    if not chosen:
        raise ValueError(f"a {holder} needs at least one layer")
    seen: set[int] = set()
    for i, layer in enumerate(chosen):
        if not isinstance(layer, Layer):
            hint = ": write it with parentheses" if isinstance(layer, type) else ""
            given = f"layers: layer {i} is {shown(layer)}"
            raise TypeError(f"{given}, which is not a minigd.Layer{hint}")
        if layer.name or id(layer) in seen:
            raise ValueError(
                f"{layer!r} is already in a model, and a layer can be in only one "
                "place: make a new layer, or use model.copy()"
            )
        seen.add(id(layer))
    return chosen


def _free(value: Any) -> Any:
    """Return an argument in which layers are replaced by new layers that are not in a model."""
    if isinstance(value, Layer):
        return like(value)
    return _mapped(_free, value)


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """Return lists, tuples and dicts with changed contents, and anything else unchanged."""
    if type(value) is dict:
        return {key: change(item) for key, item in value.items()}
    return type(value)(map(change, value)) if type(value) in (list, tuple) else value


class Layer:
    """A function of a batch, with its gradient.

    A subclass defines `forward` and `backward`, and `build` if it has parameters or changes the
    width. Every layer follows the contract of the mean over the batch: row i of `dy` is the
    gradient of example i's own loss with respect to row i of `y`, never divided by n. The gradient
    of a parameter is the mean over the n rows.

    Attributes
    ----------
    name : str
        Set by the model: the class and a number from 1, ``dense1``, ``tanh1``, ``dense2``.
    n_in, n_out : int
        Number of inputs and outputs.
    params, grads : dict of str to Array
        By short name: ``params["W"]``, ``grads["W"]``. They are views into the model's flat
        vectors, of the model's dtype. ``self.grads["W"] = ...`` writes into the view.
    buffers : dict of str to Array
        Arrays that are saved with the model but not trained.
    inner_layers : tuple of Layer
        All layers registered with `hold`, and the layers inside these. Their arrays are also in
        `params`, `grads` and `buffers`, ``params["dense1.W"]``.
    backend : Backend
        Where the arrays are stored. ``backend.xp`` is NumPy or CuPy.
    """

    name: str = ""
    n_in: int = 0
    n_out: int = 0
    backend: Backend
    params: Views
    grads: Views
    buffers: Views

    running: tuple[str, ...] = ()
    """Names of the buffers that a training pass changes."""

    nonnegative: tuple[str, ...] = ()
    """Names of the buffers without numbers below 0, such as a variance."""

    draws: bool = False
    """Whether a training pass draws random numbers. ``key(passes)`` must determine them."""

    couples: bool = False
    """Whether a training pass sums over the rows of a batch. With several processes, the sums must
    include the rows of all of them: `communicator` adds them up."""

    communicator: Communicator = ALONE
    """The processes that share the rows of a batch. Set in a run if the layer `couples`."""

    first_row: int = 0
    """The number of rows of the batch that processes before this one have. Updated if it `draws`,
    because a row must get the same draws as in the whole batch."""

    place: tuple[int, ...] = (0, 0)
    """The model's seed, the layer's number in the model, and those in the layers around it."""

    passes: int = 0
    """The number of training passes of the model, including this one. Updated if it `draws`."""

    # True if the model needs the gradient with respect to this layer's input. The first layer with
    # parameters may skip that product and return None.
    wants_dx: bool = True

    is_frozen: bool = False
    """Whether training leaves the parameters unchanged. Set by `trainable`."""

    inner_layers: tuple["Layer", ...] = ()
    """All layers inside it, and the layers inside these. `hold` adds to them."""

    _model: weakref.ref[Any]

    declared_params: list[Declared]
    declared_buffers: list[Declared]
    _workspace: Workspace
    _dtype: Any
    _kept: tuple[Array, ...] | None = None

    @property
    def trainable(self) -> bool:
        """Whether training changes the layer's parameters. Saved with the model.

        With ``layer.trainable = False`` they stay unchanged: they have no gradient in
        ``model.grads``, updates, penalties, clipping and decay do not include them, and no layer
        before the first trainable one is run backward. Set it before you create updaters and
        trainers. It is also set for all layers inside the layer.
        """
        return not self.is_frozen

    @trainable.setter
    def trainable(self, value: bool) -> None:
        frozen = not check_flag("trainable", value)
        holder = self.name.rpartition(".")[0]
        model = self._model() if self.name else None
        if model is not None and holder and not frozen:
            around = next(layer for layer in model.all_layers if layer.name == holder)
            if around.is_frozen:
                raise ValueError(
                    f"{holder} is not trainable, and holds {self.name}: set trainable = True of "
                    f"{holder}, and trainable = False of the inner layers that must not be trained"
                )
        both = (self, *self.inner_layers)
        changed = any(each.is_frozen != frozen for each in both)
        for each in both:
            each.is_frozen = frozen
        if model is not None and changed:
            model.lay_out()

    def build(self, n_in: int) -> int:
        """Declare parameters for rows of `n_in` numbers, and return the width of the output."""
        return n_in

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y, of shape (n, n_out), for x of shape (n, n_in); keep nothing unless `train`."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, train=False)")

    def backward(self, dy: Array) -> Array | None:
        """Return dx, of shape (n, n_in), for dy of shape (n, n_out), and fill `grads`."""
        raise NotImplementedError(f"{type(self).__name__} must define backward(dy)")

    def row_squares(self, dy: Array) -> Array:
        """Return the squared norm of each row's own gradient, over all parameters of this layer.

        It is called before `backward`, with the same dy, and has shape (n,). It may be float64,
        because squares may overflow in the model's dtype.

        Raises
        ------
        ValueError
            If the layer does not define it.
        """
        raise ValueError(
            f"{self.name} cannot compute the gradient of each row: give {type(self).__name__} "
            "a method row_squares(dy), or train without per_example and clip_rows"
        )

    @property
    def held(self) -> tuple[Array, ...] | None:
        """The arrays kept for `backward`, without using them up."""
        return self._kept

    def key(self, passes: int) -> Any:
        """Return the number that determines the draws of a training pass."""
        raise NotImplementedError(f"{type(self).__name__} is random and must define key(passes)")

    def add_param(
        self, name: str, shape: tuple[int, ...], initializer: str | Initializer = "zeros"
    ) -> None:
        """Declare a trained array. Call it in `build`.

        Parameters
        ----------
        name : str
            ``"W"`` gives ``self.params["W"]`` and ``self.grads["W"]``.
        shape : tuple of int
            A matrix counts as weights. A vector counts as biases, scales or shifts, which come
            after all weights in the flat vector and are not penalized.
        initializer : str or callable
            A name, or a function of (rng, shape).
        """
        self._declare("declared_params", name, shape, initializer)

    def hold(self, layers: Sequence["Layer"], n_in: int) -> int:
        """Register layers that run one after the other, and return the width of the last one.

        Call it in `build`, once for each chain. The model then names, trains, saves and checks
        these layers too. `run_inner` and `run_inner_back` run such a chain.

        Parameters
        ----------
        layers : sequence of Layer
            New layers, which this layer keeps as an attribute.
        n_in : int
            Number of inputs of the first of them.
        """
        if "declared_params" not in vars(self):
            raise TypeError(
                f"{type(self).__name__} calls hold too early: call it in "
                "build(self, n_in), where the width is known, not in __init__"
            )
        for layer in check_layers(layers, type(self).__name__):
            kind = type(layer).__name__.lower()
            like_it = [e for e in self.inner_layers if type(e).__name__.lower() == kind]
            count = 1 + sum(e.name.rpartition(".")[0] == self.name for e in like_it)
            layer.place = (*self.place, len(self.inner_layers))
            layer._model = self._model
            layer.is_frozen = layer.is_frozen or self.is_frozen
            self.inner_layers += (layer,)
            name = f"{self.name}.{kind}{count}"
            layer.bind(name, self.backend, self._dtype, self._workspace, n_in)
            self.inner_layers += layer.inner_layers
            n_in = layer.n_out
        return n_in

    def run_inner(self, layers: Sequence["Layer"], x: Array, train: bool) -> Array:
        """Return the output for x of a chain of layers that `hold` has registered."""
        model: Any = self._model()
        n = len(x)
        for layer in layers:
            x = layer.forward(x, train)
            if not model._fits(x, (n, layer.n_out)):
                raise result_error(model, layer.name, "forward", x, (n, layer.n_out))
        return x

    def run_inner_back(self, layers: Sequence["Layer"], dy: Array) -> Array | None:
        """Return the chain's dx, or None if not needed, and fill the gradients of its layers."""
        model: Any = self._model()
        dx: Array | None = model.run_backward(layers, dy, self.wants_dx)
        return dx

    def inner_row_squares(self, layers: Sequence["Layer"], dy: Array) -> Array:
        """Return `row_squares` of a chain. Its layers keep their arrays for `backward`."""
        kept = [(layer, layer.held) for layer in self.inner_layers]
        copies = [(each, tuple(map(copy.copy, arrays))) for each, arrays in kept if arrays]
        squares = [self.backend.zeros((len(dy),), "float64")]
        model: Any = self._model()
        model.run_backward(layers, dy, squares=squares)
        for layer, arrays in copies:
            layer.keep(*arrays)
        return sum(squares[1:], squares[0])

    def show_inner(self) -> None:
        """Add the arrays of the inner layers to its own, except gradients that are not used."""
        start = len(self.name) + 1
        for kind in ("params", "grads", "buffers"):
            getattr(self, kind).update(
                {
                    f"{layer.name}.{name}"[start:]: array
                    for layer in self.inner_layers
                    if kind != "grads" or not layer.is_frozen
                    for name, array in getattr(layer, kind).items()
                }
            )
        for what in ("running", "nonnegative"):
            names = [
                f"{layer.name}.{n}" for layer in self.inner_layers for n in getattr(layer, what)
            ]
            setattr(self, what, (*getattr(type(self), what), *[name[start:] for name in names]))

    def exchange_inner(self, others: dict[int, "Layer"]) -> None:
        """Replace the layers inside by others, found by their `id`, as a copy must."""

        def other(value: Any) -> Any:
            return others[id(value)] if id(value) in others else _mapped(other, value)

        vars(self).update({name: other(value) for name, value in vars(self).items()})

    def release(self) -> None:
        """Make the layer free again for another model."""
        for layer in (self, *self.inner_layers):
            layer.name = ""

    def add_buffer(
        self, name: str, shape: tuple[int, ...], initializer: str | Initializer = "zeros"
    ) -> None:
        """Declare an array that is saved but not trained: ``self.buffers[name]``."""
        self._declare("declared_buffers", name, shape, initializer)

    def _declare(
        self,
        where: str,
        name: str,
        shape: tuple[int, ...],
        initializer: str | Initializer,
    ) -> None:
        if where not in vars(self):
            raise TypeError(
                f"{type(self).__name__} declares {name!r} too early: call add_param and add_buffer "
                "in build(self, n_in), where the width is known, not in __init__"
            )
        declared: list[Declared] = vars(self)[where]
        if any(name == other.name for other in declared):
            raise ValueError(f"{self.name} declares {name!r} twice")
        declared.append(Declared(name, tuple(shape), get_initializer(initializer)))

    def empty(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return an array for a result: a new one, or in a trainer the same in each step."""
        return self._workspace.empty(f"{self.name}.{name}", shape, self._dtype)

    def keep(self, *arrays: Array) -> None:
        """Keep arrays of a training pass for `backward`."""
        self._kept = arrays

    def kept(self) -> tuple[Array, ...]:
        """Return the kept arrays, once.

        Raises
        ------
        RuntimeError
            If there was no ``forward(x, train=True)``, or its arrays were already used.
        """
        if self._kept is None:
            raise no_forward(self.name or type(self).__name__)
        kept, self._kept = self._kept, None
        return kept

    def forget(self) -> None:
        """Drop the kept arrays, also of inner layers."""
        for layer in (self, *self.inner_layers):
            layer._kept = None

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, for a copy or a saved model."""
        return {name: _free(value) for name, value in arguments(self).items()}

    def bind(
        self, name: str, backend: Backend, dtype: Any, workspace: Workspace, n_in: int
    ) -> None:
        """Give the layer its name and place in a model, and let it declare its parameters."""
        self.name, self.backend, self.n_in = name, backend, n_in
        self._dtype, self._workspace = dtype, workspace
        self.declared_params, self.declared_buffers, self.inner_layers = [], [], ()
        self.params, self.grads, self.buffers = Views(), Views(), Views()
        n_out = self.build(n_in)
        if not isinstance(n_out, int) or n_out < 1:
            raise TypeError(
                f"{type(self).__name__}.build({n_in}) returned {n_out!r}; it must return the width "
                "of the output, a positive int, or raise ValueError for an unsupported width"
            )
        self.n_out = n_out

    def move(self, backend: Backend, workspace: Workspace) -> None:
        """Move the buffers to another backend. The model moves the parameters."""
        values = {name: self.backend.to_numpy(value) for name, value in self.buffers.items()}
        self.buffers = Views({name: backend.asarray(value) for name, value in values.items()})
        self.use(backend, workspace)
        self.forget()

    def use(self, backend: Backend, workspace: Workspace) -> None:
        """Use this backend and this memory."""
        self.backend, self._workspace = backend, workspace

    def __repr__(self) -> str:
        try:
            values = ", ".join(f"{n}={value!r}" for n, value in arguments(self).items())
        except TypeError:  # arguments that were not stored
            values = "..."
        return f"{type(self).__name__}({values})"
