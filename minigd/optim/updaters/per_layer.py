"""A learning rate and a decay for each layer, with any updater."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minigd.errors import check_number, unknown_name, validated
from minigd.optim.updaters.base import Parameters, Updater
from minigd.optim.updaters.names import get_updater
from minigd.types import Array


class PerLayer(Updater):
    """An updater with a different learning rate and decay for each layer.

    If the inner updater makes the step p ← p − s for the learning rate η, and each parameter has a
    share r of the rate and a decay λ::

        p ← p − r (s + η λ p)

    So a layer is trained with the learning rate r η. A layer without an entry has r = 1 and λ = 0.
    The decay is decoupled from the gradient, as in `AdamW`, and is added to that of an inner
    `AdamW`. Schedules, `ReduceOnPlateau` and other changes act on η. On the CPU its steps are not
    compiled.

    Parameters
    ----------
    updater : str or Updater
    rates : dict from name to float, optional
        r by layer, ``{"dense1": 0.1}``, or by parameter, ``{"dense1.b": 2.0}``, at least 0. An
        entry for a parameter overrides that of its layer, and an entry for an inner layer overrides
        that of the outer one. A layer with 0 does not change.
    decays : dict from name to float, optional
        λ in the same form, at least 0. The λ of a layer applies to its weights, and not to biases,
        scales and shifts.

    Raises
    ------
    ValueError
        If a value is out of range, or, at the first update, the model has no such name.

    Examples
    --------
    >>> import numpy as np, minigd as gd
    >>> model = gd.Sequential([gd.Dense(1), gd.Dense(1)], inputs=1, dtype="float64")
    >>> model.flat_params[...], model.flat_grads[...] = 1.0, 1.0
    >>> gd.PerLayer(gd.SGD(0.5), {"dense1": 0.5}, {"dense2": 0.2}).update(model)
    >>> {name: float(value.item()) for name, value in model.params.items()}
    {'dense1.W': 0.75, 'dense1.b': 0.75, 'dense2.W': 0.4, 'dense2.b': 0.5}

    Source: Howard and Ruder (2018), "Universal language model fine-tuning", section 3.2, for rates
    by layer; Loshchilov and Hutter (2019), "Decoupled weight decay regularization".
    """

    @validated
    def __init__(
        self,
        updater: str | Updater,
        rates: Mapping[str, float] | None = None,
        decays: Mapping[str, float] | None = None,
    ) -> None:
        given = get_updater(updater)
        # A separate copy: it provides the formula, and this updater has state, counts and rate.
        self.updater = type(given)(**given.config())
        self.rates = {n: check_number(f"rates: {n}", r) for n, r in (rates or {}).items()}
        self.decays = {n: check_number(f"decays: {n}", d) for n, d in (decays or {}).items()}
        super().__init__(self.updater.schedule or self.updater.learning_rate)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Those of the updater."""
        return self.updater.state_names

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments. The inner updater has this one's learning rate."""
        updater = type(self.updater)(**self.updater.config())
        if self.schedule is None:
            updater.learning_rate = self._learning_rate
        return {**super().config(), "updater": updater}

    def check_dtype(self, dtype: Any) -> None:
        """Refuse what the inner updater refuses."""
        self.updater.check_dtype(dtype)

    def fixed(self, model: Parameters) -> list[Array]:
        """Return the share and the decay of each parameter, and the inner updater's vectors."""
        shares = _spread(model, self.rates, "rates", 1.0, weights_only=False)
        decays = _spread(model, self.decays, "decays", 0.0, weights_only=True)
        return [shares, decays, *self.updater.fixed(model)]

    def formula(self, learning_rate: float) -> tuple[Callable[..., Any], dict[str, float]]:
        """Return the inner updater's formula with shares and decays, and its constants."""
        self.updater.step = self.step
        formula, constants = self.updater.formula(learning_rate)
        return _per_layer(formula), {**constants, "full_rate": learning_rate}


@functools.cache
def _per_layer(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Return a formula with shares and decays. Equal arguments give the same function."""

    def per_layer(
        p: Array,
        g: Array,
        share: Array,
        decay: Array,
        /,
        *vectors: Array,
        full_rate: float,
        **c: Any,
    ) -> Any:
        found = formula(p, g, *vectors, **c)
        new, *state = found if isinstance(found, tuple) else (found,)
        new = new - (full_rate * decay) * p
        # Bit-identical if the share is 1.
        new = np.where(share == 1, new, p + share * (new - p))
        return (new, *state) if state else new

    return per_layer


def _spread(
    model: Any, values: Mapping[str, float], what: str, default: float, weights_only: bool
) -> Array:
    """Return a vector with the value of a dict for each parameter, by its name or its layer."""
    names = list(model.params)
    layers = {layer for name in names for layer in _layers_of(name)}
    for name in values:
        if name not in layers and name not in names:
            raise unknown_name(f"layer or parameter in {what}", name, sorted(layers) + names)
    before = model.flat_params.copy()
    try:
        model.flat_params[...] = default
        # Frozen parameters are outside the vector.
        for name in model.grads:
            said = [values[layer] for layer in _layers_of(name) if layer in values]
            model.params[name][...] = said[0] if said else default
        if weights_only:
            model.flat_params[model.n_weights :] = default
        for name in values.keys() & model.grads.keys():
            model.params[name][...] = values[name]
        return model.flat_params.copy()
    finally:
        model.flat_params[...] = before


def _layers_of(name: str) -> list[str]:
    """Return the layer of a parameter, and the layers around it, from the inside out.

    >>> _layers_of("residual1.dense1.W")
    ['residual1.dense1', 'residual1']
    """
    layer = name.rpartition(".")[0]
    return [layer, *_layers_of(layer)] if layer else []
