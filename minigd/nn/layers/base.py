"""What every layer is: `build`, `forward`, `backward`, and parameters with names.

A layer of your own needs those three methods and nothing else; `docs/own_layer.md` writes one.
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
    """A parameter or buffer that `build` has asked for and the model will allocate."""

    name: str
    shape: tuple[int, ...]
    initializer: Initializer


def like(layer: "Layer") -> "Layer":
    """Return a new layer with the same arguments, and as trainable, which is in no model yet."""
    made = type(layer)(**layer.config())
    made.trainable = layer.trainable
    return made


def with_inner(layers: Iterable["Layer"]) -> list["Layer"]:
    """Return layers, each followed by all that it holds."""
    return [each for layer in layers for each in (layer, *layer.inner_layers)]


def check_layers(layers: Sequence["Layer"], holder: str) -> list["Layer"]:
    """Refuse what is not a list of layers that are in no model yet."""
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
    """Return an argument with new layers in the place of layers, which are in no model yet."""
    if isinstance(value, Layer):
        return like(value)
    return _mapped(_free, value)


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """Return lists, tuples and dicts with what they hold changed, and all else as it is."""
    if type(value) is dict:
        return {key: change(item) for key, item in value.items()}
    return type(value)(map(change, value)) if type(value) in (list, tuple) else value


class Layer:
    """A function of a batch, with its gradient.

    A subclass defines `forward` and `backward`, and `build` if it has parameters or changes the
    width. The contract of the mean over the batch, for every layer: row i of `dy` is the gradient
    of example i's own loss with respect to row i of `y`, never divided by n; a parameter's
    gradient is the mean over the n rows.

    Attributes
    ----------
    name : str
        Given by the model: the class and a count from 1, ``dense1``, ``tanh1``, ``dense2``.
    n_in, n_out : int
        Width of the input and of the output.
    params, grads : dict of str to Array
        By short name: ``params["W"]``, ``grads["W"]``; views into the model's flat vectors, of the
        model's dtype. ``self.grads["W"] = ...`` writes into the view.
    buffers : dict of str to Array
        What is saved with the model but not trained.
    inner_layers : tuple of Layer
        All layers that it holds, by `hold`, and that these hold. Theirs is also in `params`,
        `grads` and `buffers`, ``params["dense1.W"]``.
    backend : Backend
        Where the arrays live; ``backend.xp`` is NumPy or CuPy.
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
    """Names of the buffers that hold no number below 0, such as a variance."""

    draws: bool = False
    """Whether a training pass draws random numbers; they must follow from ``key(passes)``."""

    couples: bool = False
    """Whether a training pass takes sums over the rows of a batch, so that the rows of all
    processes belong to them: `communicator` adds them up."""

    communicator: Communicator = ALONE
    """The processes that have the rows of a batch; those of a run where the layer `couples`."""

    first_row: int = 0
    """How many rows of the batch other processes have before those here; kept up where it `draws`,
    for the draws of a row are those that it has in the whole batch."""

    place: tuple[int, ...] = (0, 0)
    """The model's seed, and the layer's number in the model, and those in the layers around it."""

    passes: int = 0
    """How many training passes the model has made, this one included; kept up where it `draws`."""

    # True where the model wants the gradient with respect to this layer's input; the first layer
    # with parameters may skip that product and return None.
    wants_dx: bool = True

    is_frozen: bool = False
    """Whether training leaves the parameters as they are; set by `trainable`."""

    inner_layers: tuple["Layer", ...] = ()
    """All layers that it holds, and that these hold; `hold` adds to them."""

    _model: weakref.ref[Any]

    declared_params: list[Declared]
    declared_buffers: list[Declared]
    _workspace: Workspace
    _dtype: Any
    _kept: tuple[Array, ...] | None = None

    @property
    def trainable(self) -> bool:
        """Whether training changes the layer's parameters; saved with the model.

        With ``layer.trainable = False`` they stay as they are: no gradient reaches
        ``model.grads``, no update, penalty, clipping or decay counts them, and no layer below the
        first trainable one is run backward. Updaters and trainers are made after it is set. Of a
        layer that holds layers it is set for all of them.
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
        """Declare parameters for rows of width `n_in` and return the width of the output."""
        return n_in

    def forward(self, x: Array, train: bool = False) -> Array:
        """Return y, of shape (n, n_out), for x of shape (n, n_in); keep nothing unless `train`."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, train=False)")

    def backward(self, dy: Array) -> Array | None:
        """Return dx, of shape (n, n_in), for dy of shape (n, n_out), and fill `grads`."""
        raise NotImplementedError(f"{type(self).__name__} must define backward(dy)")

    def row_squares(self, dy: Array) -> Array:
        """Return Σ over this layer's parameters of what each row alone gives as gradient, squared.

        Called before `backward`, with the same dy; of shape (n,). It may be float64, which has room
        for squares that the model's dtype can't hold.

        Raises
        ------
        ValueError
            If the layer does not say.
        """
        raise ValueError(
            f"{self.name} cannot compute the gradient of each row: give {type(self).__name__} "
            "a method row_squares(dy), or train without per_example and clip_rows"
        )

    @property
    def held(self) -> tuple[Array, ...] | None:
        """What is kept for `backward`, without using it up."""
        return self._kept

    def key(self, passes: int) -> Any:
        """Return the number that the draws of a training pass follow from."""
        raise NotImplementedError(f"{type(self).__name__} is random and must define key(passes)")

    def add_param(
        self, name: str, shape: tuple[int, ...], initializer: str | Initializer = "zeros"
    ) -> None:
        """Declare a trained array; call it in `build`.

        Parameters
        ----------
        name : str
            ``"W"`` gives ``self.params["W"]`` and ``self.grads["W"]``.
        shape : tuple of int
            A matrix counts as weights; a vector counts as biases, scales and shifts, which come
            after all weights in the flat vector and which a penalty leaves alone.
        initializer : str or callable
            A name, or a function of (rng, shape).
        """
        self._declare("declared_params", name, shape, initializer)

    def hold(self, layers: Sequence["Layer"], n_in: int) -> int:
        """Take up layers that run one after the other, and return the width of the last one.

        Call it in `build`, once for each chain. The model then names, trains, saves and checks
        these layers too; `run_inner` and `run_inner_back` go through such a chain.

        Parameters
        ----------
        layers : sequence of Layer
            New ones, which this layer keeps as an attribute.
        n_in : int
            Width of what the first of them is given.
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
        """Return what x becomes in a chain of layers that `hold` has taken up."""
        model: Any = self._model()
        n = len(x)
        for layer in layers:
            x = layer.forward(x, train)
            if not model._fits(x, (n, layer.n_out)):
                raise result_error(model, layer.name, "forward", x, (n, layer.n_out))
        return x

    def run_inner_back(self, layers: Sequence["Layer"], dy: Array) -> Array | None:
        """Return the chain's dx, and fill the gradients of its layers; None where not wanted."""
        model: Any = self._model()
        dx: Array | None = model.run_backward(layers, dy, self.wants_dx)
        return dx

    def inner_row_squares(self, layers: Sequence["Layer"], dy: Array) -> Array:
        """Return `row_squares` of a chain, whose layers keep what they kept for `backward`."""
        kept = [(layer, layer.held) for layer in self.inner_layers]
        copies = [(each, tuple(map(copy.copy, arrays))) for each, arrays in kept if arrays]
        squares = [self.backend.zeros((len(dy),), "float64")]
        model: Any = self._model()
        model.run_backward(layers, dy, squares=squares)
        for layer, arrays in copies:
            layer.keep(*arrays)
        return sum(squares[1:], squares[0])

    def show_inner(self) -> None:
        """Show the arrays of the inner layers as its own, but no gradients that nobody reads."""
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
        """Hold other layers in the place of those held, by their `id`, as a copy must."""

        def other(value: Any) -> Any:
            return others[id(value)] if id(value) in others else _mapped(other, value)

        vars(self).update({name: other(value) for name, value in vars(self).items()})

    def release(self) -> None:
        """Be free again, for another model."""
        for layer in (self, *self.inner_layers):
            layer.name = ""

    def add_buffer(
        self, name: str, shape: tuple[int, ...], initializer: str | Initializer = "zeros"
    ) -> None:
        """Declare an array that is saved but not trained; it becomes ``self.buffers[name]``."""
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
        """Return an array to write a result into: fresh, or in the trainer the same each step."""
        return self._workspace.empty(f"{self.name}.{name}", shape, self._dtype)

    def keep(self, *arrays: Array) -> None:
        """Keep arrays of a training pass for `backward`."""
        self._kept = arrays

    def kept(self) -> tuple[Array, ...]:
        """Return what was kept, once.

        Raises
        ------
        RuntimeError
            If there was no ``forward(x, train=True)``, or its arrays were used already.
        """
        if self._kept is None:
            raise no_forward(self.name or type(self).__name__)
        kept, self._kept = self._kept, None
        return kept

    def forget(self) -> None:
        """Drop what was kept, inside as well."""
        for layer in (self, *self.inner_layers):
            layer._kept = None

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, from which a copy or a saved model is made."""
        return {name: _free(value) for name, value in arguments(self).items()}

    def bind(
        self, name: str, backend: Backend, dtype: Any, workspace: Workspace, n_in: int
    ) -> None:
        """Give the layer its name and place in a model and let it declare its parameters."""
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
        """Go to another backend with the buffers; the model moves the parameters."""
        values = {name: self.backend.to_numpy(value) for name, value in self.buffers.items()}
        self.buffers = Views({name: backend.asarray(value) for name, value in values.items()})
        self.use(backend, workspace)
        self.forget()

    def use(self, backend: Backend, workspace: Workspace) -> None:
        """Work with this backend and this memory."""
        self.backend, self._workspace = backend, workspace

    def __repr__(self) -> str:
        try:
            values = ", ".join(f"{n}={value!r}" for n, value in arguments(self).items())
        except TypeError:  # arguments that were not kept
            values = "..."
        return f"{type(self).__name__}({values})"
