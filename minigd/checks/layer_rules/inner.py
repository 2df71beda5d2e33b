"""A model of one layer, for its check, and a sentence if the layer contains another one."""

import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from minigd.checks.layer_rules.parts import attributes, inside
from minigd.errors import GradientError
from minigd.nn.layers import Layer
from minigd.nn.sequential import Sequential


def model_of(layer: Layer, width: int) -> Sequential:
    """Return a float64 model of one new layer like this one.

    It is refused if it has layers that it does not register with `hold`, so that no model builds
    them, if its `forward` does not take `train`, or if its constructor does not take what `config`
    returns.
    """
    try:
        inspect.signature(layer.forward).bind(None, False)
    except TypeError as error:
        kind = type(layer).__name__
        raise GradientError(f"{kind} must define forward(self, x, train=False): {error}") from error
    config = layer.config()
    try:
        own = type(layer)(**config)
    except TypeError as error:
        kind = type(layer).__name__
        raise GradientError(
            f"{kind} can't be copied, or loaded from a file: {error}. Define config(self) in it, "
            f"which returns what {kind}(...) takes, such as {{'units': self.units}}"
        ) from error
    try:
        model = Sequential([own], width, dtype="float64")
    except Exception:
        if not own.inner_layers:  # or their own errors say what is wrong
            _refuse_inner(own)
        raise
    _refuse_inner(own)
    return model


@contextmanager
def no_inner_layers(layer: Layer) -> Iterator[None]:
    """Say what is supported if a layer uses another one that is not in a model."""
    try:
        yield
    except (AttributeError, KeyError, TypeError) as error:
        inner = _unbuilt(layer, error)
        if inner is not None:
            what = type(inner).__name__
            raise _inner_error(layer, f"uses another layer, {what}(...)") from error
        raise


def _unbuilt(layer: Layer, error: Exception) -> Layer | None:
    """Return the layer outside a model that failed, used by the layer that is checked."""
    missing = getattr(error, "obj", None)
    if isinstance(missing, Layer) and type(missing) is not type(layer) and not missing.name:
        return missing
    methods = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = next((i for i, owner in enumerate(methods) if type(owner) is type(layer)), len(methods))
    # A call with another layer as `self` belongs to a layer inside it.
    called = [m for m in methods[own:] if isinstance(m, Layer) and m is not methods[own]]
    return called[-1] if called else None


def _refuse_inner(layer: Layer) -> None:
    for name, value in attributes(layer).items():
        for path, inner in inside(f"self.{name}", value, (Layer, Sequential)):
            if any(inner is held for held in layer.inner_layers):
                continue
            what = f"{path} = {type(inner).__name__}(...)"
            if isinstance(inner, Layer):
                raise _inner_error(layer, f"holds another layer, {what}")
            raise _inner_error(layer, f"holds a model, {what}", "its layers")


def _inner_error(layer: Layer, how: str, it: str = "that layer") -> GradientError:
    kind = type(layer).__name__
    return GradientError(
        f"{kind} {how}, but a model builds, trains and saves only the layers of its list and their "
        f"inner layers. Put {it} into the list, before or after {kind}; or let {kind} hold {it}: "
        "self.layers = [...] in __init__, self.hold(self.layers, n_in) in build, and "
        "self.run_inner and self.run_inner_back in forward and backward"
    )
