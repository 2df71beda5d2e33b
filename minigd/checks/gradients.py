"""Gradient checks: whether the gradient written by hand is the derivative of the loss.

A complex step gives the derivative to the last digits if a layer works with complex numbers. A
central difference is a second, independent method, and the method for other layers.
"""

import math
from typing import Any, Literal

import numpy as np

from minigd.backends.base import NumpyBackend, numbers
from minigd.checks.diagnosis import explain
from minigd.checks.diagnosis.layer import DRAWN
from minigd.checks.layer_rules import LayerWarning, check_rules
from minigd.checks.layer_rules.declared import (
    check_copies,
    check_moves,
    check_numbers,
    undeclared,
)
from minigd.checks.layer_rules.inner import model_of, no_inner_layers
from minigd.checks.layer_rules.parts import MOST_ROUNDING, Projection, rounding_effect
from minigd.checks.numerical import (
    CENTRAL_STEPS,
    central_difference,
    complex_kept,
    complex_step,
)
from minigd.checks.passes import Setup, new_loss, take_values
from minigd.data.batches import Batches
from minigd.data.row_weights import check_weights
from minigd.errors import GradientError, ShapeError, check_integer, check_number, validated
from minigd.nn.layers import Layer
from minigd.nn.layers.scaling import Adapted
from minigd.nn.losses import LossLike, get_loss
from minigd.nn.objective import Objective
from minigd.nn.sequential import Sequential
from minigd.optim.gradient_transforms import Penalty
from minigd.progress import warn
from minigd.types import Array

Method = Literal["auto", "complex", "central"]
How = Literal["complex", "central"]

TOLERANCE = {"complex": 1e-10, "central": 1e-6}
"""The allowed error, relative to the array's largest entry."""

# The smallest and largest allowed rounding error of a gradient that is 0, relative to the loss.
# Layers such as BatchNorm magnify it.
_ROUNDING = {"complex": 1e-14, "central": 1e-9}
_MOST_ROUNDING = {"complex": MOST_ROUNDING, "central": 1e-4}
_MOST_ENTRIES = 300

_HOST = NumpyBackend()

# The second word of the seed sequence for parameters and dy of a layer alone.
_LAYER = 6


def _gradients(setup: Setup) -> dict[str, Array]:
    """Return the gradients of `backward`. That of x is per example, so it is divided by n here."""
    _poison_caches(setup)
    setup.value(setup.x)
    setup.backward()
    alone = {k: g.copy() for k, g in setup.model.grads.items()}
    _poison_caches(setup)
    setup.value(setup.x)
    dx = setup.backward(input_gradient=True)
    assert dx is not None
    for name, gradient in setup.model.grads.items():
        if not np.allclose(gradient, alone[name], rtol=1e-12, atol=0, equal_nan=True):
            raise GradientError(
                f"{name}: backward gives a different gradient if the input's is not needed "
                "(wants_dx is False)"
            )
    return {**{k: g.copy() for k, g in setup.model.grads.items()}, "x": dx / len(setup.x)}


def _poison_caches(setup: Setup) -> None:
    """Make all stored values in layers, loss and gradients wrong."""
    # A pass over other numbers exposes a layer or a loss that keeps earlier arguments. Random
    # numbers in the gradients expose a layer that adds to them instead of assigning.
    with np.errstate(all="ignore"):
        other = setup._replace(y=setup.y[::-1].copy())
        other.value(setup.x[::-1, ::-1].copy())
        other.backward()
    setup.model.flat_grads[...] = math.nan


@validated
def check_gradients(
    model: Sequential,
    loss: LossLike,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    l1: float = 0.0,
    l2: float = 0.0,
    decay_bias: bool = False,
    method: Method = "auto",
    tolerance: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Compare the gradients of a model and a loss with numerical ones, in float64.

    For each parameter p, ``model.grads[p]`` must be ∂L/∂p of L = (1/n) Σ_i ℓ_i, or with weights Σ_i
    w_i ℓ_i / Σ_i w_i, plus the penalty if there is one. Row i of the input's gradient must be n
    ∂L/∂x_i. If training leaves out a last Sigmoid or Softmax (see `minigd.Objective`), the whole
    model is checked too.

    Parameters
    ----------
    model : Sequential
        A copy of it is checked.
    loss : str or Loss
    x : array-like, shape (n, n_in)
    y : array-like, shape (n,) or (n, K)
    sample_weight : array-like, shape (n,), optional
        How much each row counts.
    l1, l2, decay_bias
        A penalty on the parameters, as in `minigd.Trainer`.
    method : {"auto", "complex", "central"}, default "auto"
        ``"complex"``: f'(p) = Im f(p + ih) / h with h = 1e-20, which subtracts nothing and is exact
        to rounding. ``"central"``: f'(p) = (f(p + h) − f(p − h)) / 2h. ``"auto"``: the complex step
        if every layer works with complex numbers, else the central difference.
    tolerance : float, optional
        The largest allowed error, relative to the largest entry of an array's gradient. By default
        1e-10 for the complex step and 1e-6 for the central difference.
    seed : int, default 0
        If an array has more than 300 entries, 300 random ones are checked.

    Returns
    -------
    dict of str to float
        For each array the largest error, as a share of its largest entry.

    Raises
    ------
    GradientError
        With the array, the worst index, both values, the errors and the tolerance.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(3), gd.Tanh(), gd.Dense(2), gd.Softmax()], inputs=2)
    >>> x, y = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([0, 1])
    >>> errors = gd.check_gradients(model, "categorical_crossentropy", x, y)
    >>> list(errors), round(max(errors.values()), 10)
    (['dense1.W', 'dense1.b', 'dense2.W', 'dense2.b', 'x'], 0.0)

    Source: Squire and Trapp (1998), "Using complex variables to estimate derivatives of real
    functions", SIAM Review 40(1), equation 3.
    """
    tolerance, seed = _check_settings(tolerance, seed)
    exact = model.copy(dtype="float64", backend=_HOST)
    if model.backend.holds(x):
        x = model.backend.to_numpy(x)
    if model.backend.holds(y):
        y = model.backend.to_numpy(y)
    x = exact.convert(x).copy()
    exact.backend.check_finite(x, "x")
    objective = Objective(exact, get_loss(loss))
    y = exact.backend.here(y, "y")
    objective.check(x, y)
    weight = None if sample_weight is None else check_weights(sample_weight, len(x))
    penalty = Penalty(l1, l2, decay_bias)
    ways = [(objective.layers, objective.loss, objective.targets(y))]
    # If a probability is too near 0 or 1, 1 − p has no digits left to check.
    p = exact.run_forward(exact.layers, x, train=False)
    exact_enough = not objective.given.takes_probabilities or min(p.min(), 1 - p.max()) > 1e-4
    if objective.paired and exact_enough:
        ways.append((exact.layers, objective.given, y))
    errors: dict[str, float] = {}
    for layers, way, target in ways:
        own = new_loss(way)
        setup = Setup(exact, layers, own, x, target, weight, penalty)
        for name, error in _check(setup, method, tolerance, seed).items():
            errors[name] = max(error, errors.get(name, 0.0))
    return errors


@validated
def check_layer(
    layer: Layer,
    x: Any,
    *,
    method: Method = "auto",
    tolerance: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Check a layer alone: its gradients and the rules of a layer.

    The loss is L = (1/n) Σ_i Σ_k r_ik y_ik with random r, so row i of dy is r_i. The batch is setup
    whole, then its first row alone, then a short tail. Beside the gradients, all in float64:

    - x and dy have other memory orders, and neither is modified. Gradients are assigned, not added;
    - forward depends only on the constructor's arguments, parameters and buffers;
    - a trainer makes steps in float32, as `fit` does: what `fit` refuses is refused here;
    - with ``train=False`` nothing is changed or kept, and the output is that of training, except
      for a layer that draws or has buffers that training changes;
    - `row_squares`, if the layer has it, is compared with batches of one row.

    Parameters
    ----------
    layer : Layer
        A copy of it is setup. If it is not in a model, its parameters are changed from their
        initial values, because a missing factor of 1 would not show.
    x : array-like, shape (n, n_in)
        For a layer that subtracts the mean of a column, a central difference has no digits left
        beyond a million deviations from 0.
    method, tolerance, seed
        As for `check_gradients`.

    Returns
    -------
    dict of str to float
        For each array the largest error, as a share of its largest entry.

    Raises
    ------
    GradientError
        With what is wrong, and where.

    Warns
    -----
    LayerWarning
        For what may be intended: an array that `build` does not declare and that seems constant; a
        buffer that training changes and the class does not list.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> errors = gd.check_layer(gd.Tanh(), np.array([[0.5, -1.0], [2.0, 0.0]]))
    >>> class Wrong(gd.Tanh):
    ...     def backward(self, dy):
    ...         (y,) = self.kept()
    ...         return dy * (1 - y)
    >>> gd.check_layer(Wrong(), np.array([[0.5, -1.0], [2.0, 0.0]]))
    Traceback (most recent call last):
    minigd.errors.GradientError: x: backward disagrees with the complex step. Worst at [0, 1]: ...
    """
    tolerance, seed = _check_settings(tolerance, seed)
    if layer.name and layer.backend.holds(x):
        x = layer.backend.to_numpy(x)
    x = np.atleast_2d(numbers(_HOST.here(x, "x"), "x")).astype("float64")
    if x.ndim != 2 or 0 in x.shape:
        raise ShapeError(f"x has shape {x.shape}, but must be a table of rows")
    with no_inner_layers(layer):
        try:
            errors, notes = _check_layer(layer, x, method, tolerance, seed)
        except ShapeError as error:
            raise GradientError(str(error)) from error
    for note in notes:
        warn(f"{type(layer).__name__}: {note}", LayerWarning, stacklevel=2)
    return errors


def _check_settings(tolerance: float | None, seed: int) -> tuple[float | None, int]:
    """Refuse a tolerance that every gradient passes, or none."""
    if tolerance is not None:
        # Errors below the rounding of float64 do not count.
        tolerance = check_number("tolerance", tolerance, float(np.finfo("float64").eps))
    return tolerance, check_integer("seed", seed, 0)


def _check_layer(
    layer: Layer, x: Array, method: Method, tolerance: float | None, seed: int
) -> tuple[dict[str, float], list[str]]:
    # Not the stream of a caller who drew x with this seed: dy = x would hide mistakes.
    rng = np.random.default_rng([seed, _LAYER])
    model = model_of(layer, x.shape[1])
    if layer.name:
        take_values(model, layer)
    else:
        model.flat_params += 0.5 * rng.standard_normal(model.flat_params.shape)
        if isinstance(model.layers[0], Adapted):
            columns = rng.standard_normal((10, x.shape[1]))
            model.layers[0].adapt(Batches(columns, columns))
    x = model.convert(x)
    model.backend.check_finite(x, "x")
    dy = rng.standard_normal((len(x), model.n_out))
    errors: dict[str, float] = {}
    before = model.flat_params.copy()
    for rows in (slice(None), slice(0, 1), slice(-(len(x) // 2 + 1), None)):
        setup = Setup(model, model.layers, Projection(), x[rows].copy(), dy[rows].copy())
        try:
            found = _check(setup, method, tolerance, seed)
        except (ValueError, IndexError) as error:
            if rows.start is not None:
                _raise_if_stale(setup, error)
            raise
        for name, share in found.items():
            errors[name] = max(share, errors.get(name, 0.0))
    # A layer may have changed its parameters, which another rule forbids.
    model.flat_params = before
    return errors, check_rules(model, x, dy, tolerance or 0.0)


def _raise_if_stale(setup: Setup, error: Exception) -> None:
    """Refuse a layer that fails on a batch only after one of another size."""
    try:
        _gradients(setup.copied())
    except Exception:  # it fails for another reason, which the error itself says
        return
    raise GradientError(
        f"{setup.layers[0].name} fails on a batch of shape {setup.x.shape} after a batch of "
        f"another size, but not otherwise ({type(error).__name__}: {error})",
        "a stale cache: it uses arrays of the previous batch",
    ) from error


def _check(setup: Setup, method: Method, tolerance: float | None, seed: int) -> dict[str, float]:
    try:
        return _compare_by(setup, method, tolerance, seed)
    except GradientError as error:
        raise GradientError(str(error), _diagnosis_of(setup, str(error))) from None


def _diagnosis_of(setup: Setup, message: str) -> str | None:
    """Return what a failure looks like, with the array if it is not the one in the message."""
    model, layers, loss, x, y, weight, penalty = setup
    alone = isinstance(loss, Projection)
    first = message.partition(":")[0]
    try:
        found = explain(model, layers, None if alone else loss, x, y, weight, penalty, first)
        if alone and (found is None or found[1] == DRAWN):
            used = undeclared(layers[0], x, y)
            check_moves(layers[0], used)
            check_numbers(layers[0], x, y)
            if found is None:
                check_copies(layers[0], used, x, y)
    except GradientError as error:
        return str(error)
    except Exception:  # a custom layer may do anything, and the failure itself is what matters
        return None
    if found is None or found[0] == first:
        return found and found[1]
    return f"{found[0]}: {found[1]}"


def _compare_by(
    setup: Setup, method: Method, tolerance: float | None, seed: int
) -> dict[str, float]:
    _poison_caches(setup)
    with np.errstate(all="ignore"):
        value = float(setup.value(setup.x))
    if not math.isfinite(value):
        alone = isinstance(setup.loss, Projection)
        what = f"{setup.layers[0].name}: the sum of the outputs" if alone else "the loss"
        raise GradientError(f"{what} is {value}, which has no derivative to compare with")
    analytic = _gradients(setup)
    if method == "central":
        return _compare(setup, analytic, "central", tolerance, seed)
    refusal = _refuses_complex(setup)
    if refusal is None:
        try:
            return _compare(setup, analytic, "complex", tolerance, seed)
        except GradientError:
            # A layer that takes complex numbers but is not analytic, through abs for example, is
            # checked by the central difference. A wrong gradient fails both.
            if (
                method == "complex"
                or _passes(setup, analytic, "complex", seed)
                or not _passes(setup, analytic, "central", seed)
            ):
                raise
    elif method == "complex":
        raise GradientError(f"the complex step can't be used: {refusal}; use method='central'")
    return _compare(setup, analytic, "central", tolerance, seed)


def _passes(setup: Setup, analytic: dict[str, Array], method: How, seed: int) -> bool:
    try:
        _compare(setup, analytic, method, TOLERANCE["central"], seed)
    except GradientError:
        return False
    return True


def _refuses_complex(setup: Setup) -> str | None:
    """Return why a forward pass with complex numbers is unreliable, or None."""
    real = float(setup.value(setup.x))
    try:
        with complex_kept():
            twin = setup.copied("complex128")
            value = complex(twin.value(twin.x))
    except Exception as error:  # a custom layer may do anything with complex numbers
        return f"the forward pass fails in complex128 ({type(error).__name__}: {error})"
    if not math.isclose(value.real, real, rel_tol=1e-12, abs_tol=1e-12):
        # Complex numbers are summed in another order, which matters if large numbers cancel.
        rounding = 100 * rounding_effect(setup.model, setup.x, setup.value)
        if abs(value.real - real) <= min(rounding, _MOST_ROUNDING["complex"]):
            return None
        return f"in complex128 the loss is {value.real!r}, in float64 {real!r}"
    return None


def _compare(
    setup: Setup,
    analytic: dict[str, Array],
    method: How,
    tolerance: float | None,
    seed: int,
) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    allowed = TOLERANCE[method] if tolerance is None else tolerance
    loss = max(1.0, abs(float(setup.value(setup.x))))
    noise = _ROUNDING[method] * loss
    twin = setup.copied("complex128") if method == "complex" else setup
    errors: dict[str, float] = {}
    worst: tuple[float, tuple[Any, ...]] = (0.0, ())
    for name, gradient in analytic.items():
        target = twin.x if name == "x" else twin.model.params[name]
        entries = np.arange(gradient.size)
        if gradient.size > _MOST_ENTRIES:
            entries = rng.choice(gradient.size, _MOST_ENTRIES, replace=False)
        places = [np.unravel_index(int(i), gradient.shape) for i in entries]
        own = np.array([gradient[place] for place in places])
        numeric = np.array([_numeric(twin, target, p, gradient[p], method) for p in places])
        largest = max(float(np.nanmax(np.abs(numeric), initial=0.0)), 1e-300)
        error = np.where(np.isfinite(own) & np.isfinite(numeric), np.abs(own - numeric), math.inf)
        i = int(np.argmax(error)) if len(error) else 0
        # A gradient that is 0 up to rounding is compared with the possible rounding error.
        scale = largest + noise / allowed
        if len(error) and error[i] > allowed * scale:
            scale += min(_rounding(setup, name, method), _MOST_ROUNDING[method] * loss) / allowed
        errors[name] = float(error[i]) / scale if len(error) else 0.0
        excess = errors[name] / allowed
        if excess > max(1.0, worst[0]):
            worst = excess, (name, places[i], own[i], numeric[i], errors[name])
    if worst[1]:
        raise GradientError(_report(setup, method, allowed, *worst[1]))
    return errors


def _numeric(setup: Setup, target: Array, place: Any, own: Any, method: How) -> float:
    """Return the derivative of the loss with respect to one entry of x or of a parameter."""

    def value() -> Any:
        return setup.value(setup.x)

    if method == "complex":
        return float(complex_step(value, target, place))
    return central_difference(value, target, place, float(own))


def _rounding(setup: Setup, name: str, method: How) -> float:
    """Return the possible rounding error of a gradient and of its numerical twin."""

    def gradient(x: Array) -> Array:
        return _gradients(setup._replace(x=x))[name]

    own = 100 * rounding_effect(setup.model, setup.x, gradient)
    if method == "complex":
        return own
    return own + 5 * rounding_effect(setup.model, setup.x, setup.value) / CENTRAL_STEPS[0]


def _report(
    setup: Setup,
    method: How,
    allowed: float,
    name: str,
    place: Any,
    own: float,
    numeric: float,
    share: float,
) -> str:
    how = "complex step" if method == "complex" else "central difference"
    index = ", ".join(str(int(i)) for i in place)
    hint = (
        "; NaN here means that backward adds to the gradient, or does not write all of it"
        if math.isnan(own) and name != "x"
        else ""
    )
    return (
        f"{name}: backward disagrees with the {how}. Worst at [{index}]: backward gave {own:.12g}, "
        f"the {how} {numeric:.12g}; absolute error {abs(own - numeric):.3g}, relative error "
        f"{abs(own - numeric) / max(abs(numeric), 1e-300):.3g}; off by {share:.3g} of the largest "
        f"entry (allowed: {allowed:g}; batch of shape {setup.x.shape}){hint}"
    )
