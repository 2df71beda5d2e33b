"""What every layer is: `build`, `forward`, `backward`, and parameters with names.

A layer of your own needs those three methods and nothing else; `docs/own_layer.md` writes one.
"""

import weakref
from typing import Any, NamedTuple

from minigd.backends.base import Backend, Views
from minigd.backends.workspace import Workspace
from minigd.errors import check_flag, no_forward
from minigd.nn.initializers import Initializer, get_initializer
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

    place: tuple[int, int] = (0, 0)
    """The model's seed, and the layer's number in the model."""

    passes: int = 0
    """How many training passes the model has made, this one included; kept up where it `draws`."""

    # True where the model wants the gradient with respect to this layer's input; the first layer
    # with parameters may skip that product and return None.
    wants_dx: bool = True

    is_frozen: bool = False
    """Whether training leaves the parameters as they are; set by `trainable`."""

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
        first trainable one is run backward. Updaters and trainers are made after it is set.
        """
        return not self.is_frozen

    @trainable.setter
    def trainable(self, value: bool) -> None:
        before, self.is_frozen = self.is_frozen, not check_flag("trainable", value)
        model = self._model() if self.name else None
        if model is not None and before != self.is_frozen:
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
            f"{self.name} does not say what each row adds to its gradient: give "
            f"{type(self).__name__} a method row_squares(dy), or train without per_example and "
            "clip_rows"
        )

    @property
    def held(self) -> tuple[Array, ...] | None:
        """What is kept for `backward`, without using it up."""
        return self._kept

    def key(self, passes: int) -> Any:
        """Return the number that the draws of a training pass follow from."""
        raise NotImplementedError(f"{type(self).__name__} draws, and must define key(passes)")

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
                f"{type(self).__name__} declares {name!r} too early: add_param and add_buffer are "
                "called in build(self, n_in), which knows the width, and not in __init__"
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
        """Drop what was kept."""
        self._kept = None

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, from which a copy or a saved model is made."""
        return arguments(self)

    def bind(
        self, name: str, backend: Backend, dtype: Any, workspace: Workspace, n_in: int
    ) -> None:
        """Give the layer its name and place in a model and let it declare its parameters."""
        self.name, self.backend, self.n_in = name, backend, n_in
        self._dtype, self._workspace = dtype, workspace
        self.declared_params, self.declared_buffers = [], []
        self.params, self.grads, self.buffers = Views(), Views(), Views()
        n_out = self.build(n_in)
        if not isinstance(n_out, int) or n_out < 1:
            raise TypeError(
                f"{type(self).__name__}.build({n_in}) returned {n_out!r}; it must return the width "
                "of the output, a positive int, or raise ValueError for a width it does not take"
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
