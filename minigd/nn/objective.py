"""What training minimizes: a model and a loss, paired if they belong together.

A final Sigmoid before binary cross-entropy, or Softmax before categorical cross-entropy, is left
out in training. The loss works on its input, the logits, which are exact where probabilities round.
A final Rescale is left out too: the loss compares its input with the standardized target.
"""

import copy
from collections.abc import Mapping
from typing import Any

from minigd.backends.base import backend_of
from minigd.errors import DataError, ShapeError, validated
from minigd.nn.layers import (
    ELU,
    GELU,
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LayerNorm,
    LeakyReLU,
    ReLU,
    Rescale,
    Residual,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from minigd.nn.losses import (
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    Focal,
    Hinge,
    Loss,
    LossLike,
    Poisson,
    get_loss,
)
from minigd.nn.sequential import Sequential
from minigd.nn.shape_errors import rows_error
from minigd.types import Array

_RECTIFIERS = (ReLU, LeakyReLU, ELU, GELU, SiLU, Softplus)
_NO_PROBABILITIES = (Dense, Tanh, *_RECTIFIERS, BatchNorm, LayerNorm, Dropout, Residual)


_OF_TWO = (BinaryCrossEntropy.per_example, Focal.per_example)


def is_paired(last: Layer, loss: Loss) -> bool:
    """Return whether training leaves out a model's last layer, and the loss works on its input.

    >>> is_paired(Sigmoid(), BinaryCrossEntropy()), is_paired(Softmax(), BinaryCrossEntropy())
    (True, False)
    """
    pairs = (type(last) is Sigmoid and isinstance(loss, BinaryCrossEntropy)) or (
        type(last) is Softmax and isinstance(loss, CategoricalCrossEntropy)
    )
    # A custom loss may fix the choice; it is used as it is.
    return isinstance(last, Rescale) or (pairs and "from_logits" in loss.config())


def default_loss(last: Layer) -> str:
    """Return the name of the loss that fits a model's last layer.

    >>> default_loss(Sigmoid()), default_loss(Softmax()), default_loss(Dense(1))
    ('binary_crossentropy', 'categorical_crossentropy', 'mse')
    """
    if isinstance(last, Sigmoid):
        return "binary_crossentropy"
    return "categorical_crossentropy" if isinstance(last, Softmax) else "mse"


class Objective:
    """The mean loss of a model on a batch, L = (1/n) Σ_i ℓ(model(x_i), y_i), and its gradient.

    Parameters
    ----------
    model : Sequential
    loss : str or Loss

    Attributes
    ----------
    given : Loss
        The loss of the whole model.
    loss : Loss
        The loss in use: the one given, or its form from logits.
    paired : bool
        Whether the model's last layer is left out, and the loss works on its input.
    layers : list of Layer
        The layers in use.

    Raises
    ------
    ValueError
        If the loss is unknown, or the last layer does not fit it: logits instead of probabilities,
        or the reverse; Sigmoid outputs, which do not compete, for one class out of several; a
        Softmax over one unit.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], inputs=2)
    >>> objective = Objective(model, "binary_crossentropy")
    >>> objective.paired, objective.loss
    (True, BinaryCrossEntropy(from_logits=True))
    """

    @validated
    def __init__(self, model: Sequential, loss: LossLike) -> None:
        self.model = model
        self.given = self.loss = get_loss(loss)
        self._shape: tuple[int, ...] = ()
        last = model.layers[-1]
        _check_output(last, model.n_out, self.loss)
        self._rescale = last if isinstance(last, Rescale) else None
        self.paired = is_paired(last, self.loss)
        if self.paired and self._rescale is None:
            self.loss = type(self.loss)(**{**self.loss.config(), "from_logits": True})
        self.layers = model.layers[:-1] if self.paired else model.layers

    def replace(self, layers: Mapping[int, Layer]) -> None:
        """Replace the layers in use, found by their `id`, and use a separate copy of the loss."""
        self.layers = [layers[id(layer)] for layer in self.layers]
        self.loss = copy.copy(self.loss)
        if self._rescale is not None:
            other = layers[id(self._rescale)]
            assert isinstance(other, Rescale)
            self._rescale = other

    def first_nonfinite(self, x: Array) -> str | None:
        """Return the first layer with an output for x that is not finite. Nothing is changed."""
        for layer in self.layers:
            x = layer.forward(x, train=False)
            if not self.model.backend.all_finite(x):
                return layer.name
        return None

    def check(self, x: Array, y: Array | None, values: bool | None = True) -> None:
        """Refuse rows and targets that do not fit the model, the loss or each other.

        Without `values`, only shapes and types are checked, so a GPU need not wait. None means
        True on the CPU and False on a GPU.

        Raises
        ------
        ShapeError, DataError
        """
        if y is None:
            raise DataError("training and evaluating need targets: give y as well as x")
        if x.shape[1:] != (self.model.n_in,):
            raise rows_error(x, self.model.n_in, "x")
        shape = (x.shape[0], self.model.n_out)
        last = type(self.model.layers[-1])
        competing = last is Softmax and isinstance(self.loss, BinaryCrossEntropy)
        if competing and y.shape in (shape[:1], (shape[0], 1)):
            raise ShapeError(self._not_one_class(f"shape {y.shape}"))
        self.loss.check_shape(y, shape)
        if self.model.backend.reads_are_free if values is None else values:
            self.loss.check_values(y, shape)
            if competing and float(abs(y.sum(axis=1) - 1).max()) > 1e-3:
                raise DataError(self._not_one_class("rows that do not sum to 1"))
            # A target too large for the dtype is refused here, before the loss is infinite.
            backend_of(y).convert(y, self.model.dtype, "y")

    def _not_one_class(self, given: str) -> str:
        """Return what to do with such targets with Softmax and binary cross-entropy."""
        return (
            f"the model ends in Softmax, whose outputs sum to 1, under {self.loss!r}, and y has "
            f"{given}: for one class per row use CategoricalCrossEntropy(), for independent "
            "yes-or-no labels end the model in Sigmoid()"
        )

    def forward(self, x: Array, y: Array, scale: Array | None = None) -> tuple[Any, Array]:
        """Return the mean loss and the outputs of a training pass. x and y were checked before.

        With row weights w, ``scale[i]`` is n w_i / Σ w.
        """
        z = self.outputs(x)
        return self.mean_loss(z, y, scale), z

    def outputs(self, x: Array) -> Array:
        """Return the outputs of a training pass, from which the loss is computed."""
        z = self.model.run_forward(self.layers, x, train=True)
        self._shape = z.shape
        return z

    def mean_loss(self, z: Array, y: Array, scale: Array | None = None) -> Any:
        """Return the mean loss of outputs, and keep what `backward` needs."""
        self.loss.backend = self.model.backend
        return self.loss.mean(z, self.targets(y), scale)

    def backward(self, input_gradient: bool = False) -> Array | None:
        """Fill the model's gradients: means over the batch of the last `forward`."""
        dz = self.loss.backward()
        self.model.check_gradient(dz, self._shape, self.loss)
        return self.model.run_backward(self.layers, dz, input_gradient)

    def evaluate(self, x: Array, y: Array, scale: Array | None = None) -> tuple[Any, Array]:
        """Return the mean loss and the outputs without keeping anything for `backward`."""
        self.loss.backend = self.model.backend
        z = self.model.run_forward(self.layers, x, train=False)
        value = self.loss.mean(z, self.targets(y), scale)
        self.loss.forget()
        return value, z

    def targets(self, y: Array) -> Array:
        """Return the targets of the loss: y, standardized if the model ends in Rescale."""
        return y if self._rescale is None else self._rescale.standardize(y)

    def scores(self, z: Array) -> Array:
        """Return the scores for metrics that rank: log-odds for logits, which never round to 1."""
        return self.loss.scores(z) if self._rescale is None else self.predictions(z)

    def predictions(self, z: Array) -> Array:
        """Return predictions for other metrics: probabilities, or numbers in the units of y."""
        return self.loss.probabilities(z) if self._rescale is None else self._rescale.forward(z)


def _check_output(last: Layer, outputs: int, loss: Loss) -> None:
    """Refuse a last layer with which a loss can't be learned from any data."""
    kind, own = type(last), type(loss).per_example  # a custom class may compute something else
    if kind is Softmax and outputs == 1:
        raise _softmax_of_one_unit()
    if kind is Sigmoid and own is CategoricalCrossEntropy.per_example:
        raise _outputs_do_not_compete(loss, outputs)
    if (
        kind in (ReLU, Softplus)
        and loss.from_logits
        and (own in _OF_TWO or (outputs == 1 and own is Hinge.per_example))
    ):
        raise _logits_never_below_0(loss, kind)
    if kind in (Sigmoid, Softmax) and loss.from_logits:
        raise _no_logits(loss, kind)
    if kind in _NO_PROBABILITIES and loss.takes_probabilities:
        raise _no_probabilities(loss, kind)
    if isinstance(last, Rescale) and (loss.from_logits or loss.takes_probabilities):
        raise _rescaled_classes(loss)


def _softmax_of_one_unit() -> ValueError:
    return ValueError(
        "the model ends in a Softmax over 1 unit, which is always 1: for two classes, end it in "
        "Dense(1), Sigmoid() and use BinaryCrossEntropy(); for more, in Dense(number of classes), "
        "Softmax() and use CategoricalCrossEntropy(); for numeric targets, in Dense(1)"
    )


def _outputs_do_not_compete(loss: Loss, outputs: int) -> ValueError:
    several = "one class per row" if outputs > 1 else "more than two classes"
    softmax = "Softmax()" if outputs > 1 else "Dense(number of classes), Softmax()"
    binary = "independent yes-or-no labels" if outputs > 1 else "two classes"
    return ValueError(
        f"{loss!r} is for one class out of several, and the model ends in Sigmoid, whose outputs "
        f"are independent: for {several}, end it in {softmax} and use CategoricalCrossEntropy(), "
        f"for {binary} use BinaryCrossEntropy()"
    )


def _logits_never_below_0(loss: Loss, last: type[Layer]) -> ValueError:
    return ValueError(
        f"{loss!r} takes logits of either sign, and the model ends in {last.__name__}, which is "
        f"never negative: it could never predict class 0. Remove the last {last.__name__}"
    )


def _no_logits(loss: Loss, last: type[Layer]) -> ValueError:
    other = f"use {type(loss).__name__}(), or " if "from_logits" in loss.config() else ""
    return ValueError(
        f"{loss!r} takes logits, but the model ends in {last.__name__}, whose outputs are "
        f"probabilities: {other}remove {last.__name__}"
    )


def _no_probabilities(loss: Loss, last: type[Layer]) -> ValueError:
    return ValueError(
        f"{loss!r} takes probabilities, but the model ends in {last.__name__}, whose outputs are "
        f"not probabilities: end it in Dense and use {type(loss).__name__}(from_logits=True), or "
        f"end the model in {'Sigmoid' if isinstance(loss, BinaryCrossEntropy) else 'Softmax'}()"
    )


def _rescaled_classes(loss: Loss) -> ValueError:
    what = "counts" if isinstance(loss, Poisson) else "classes"
    return ValueError(
        f"{loss!r} is for {what}, and the model ends in Rescale, which is for numeric targets: "
        "remove Rescale, or use 'mse'"
    )
