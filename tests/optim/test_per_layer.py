"""Rates and decays by layer, compared with a separate updater for each tensor at that rate."""

import numpy as np
import pytest

import minigd as gd
from minigd.backends.base import get_backend

NAMES = ["dense1.W", "dense2.W", "dense1.b", "batchnorm1.gamma", "batchnorm1.beta", "dense2.b"]
RATES = {"dense1": 0.25, "dense1.b": 2.0, "batchnorm1": 0.0}
DECAYS = {"dense2": 0.3, "batchnorm1.gamma": 0.5, "dense1.b": 0.125}
# What these say of each tensor: (the share of the rate, the decay).
SAID = {
    "dense1.W": (0.25, 0.0),
    "dense1.b": (2.0, 0.125),
    "batchnorm1.gamma": (0.0, 0.5),
    "batchnorm1.beta": (0.0, 0.0),
    "dense2.W": (1.0, 0.3),
    "dense2.b": (1.0, 0.0),
}
UPDATERS = {
    "sgd": gd.SGD,
    "momentum": lambda rate: gd.SGD(rate, 0.9),
    "adam": gd.Adam,
    "amsgrad": lambda rate: gd.Adam(rate, amsgrad=True),
    "adamw": lambda rate: gd.AdamW(rate, weight_decay=0.1, decay_bias=True),
    "nadam": gd.Nadam,
    "radam": lambda rate: gd.RAdam(rate, beta2=0.9),
    "rmsprop": gd.RMSprop,
    "adagrad": gd.Adagrad,
}
updaters = pytest.mark.parametrize("make", UPDATERS.values(), ids=UPDATERS)


class Tensor:
    """One tensor as an updater sees a model."""

    def __init__(self, values):
        self.backend = get_backend("numpy")
        self.flat_params, self.n_weights = values.reshape(-1).copy(), values.size
        self.flat_grads = np.zeros_like(self.flat_params)


def network(backend="numpy"):
    layers = [gd.Dense(4), gd.BatchNorm(), gd.Tanh(), gd.Dense(2)]
    return gd.Sequential(layers, 3, dtype="float64", seed=1, backend=backend)


@updaters
@pytest.mark.each
def test_each_tensor_moves_as_by_an_updater_of_its_own(backend, make):
    model, rng = network(backend), np.random.default_rng(0)
    updater = gd.PerLayer(make(0.05), RATES, DECAYS)
    assert set(model.params) == set(NAMES)
    alone = {n: Tensor(backend.to_numpy(p)) for n, p in model.params.items()}
    own = {n: make(0.05 * SAID[n][0]) for n in alone}
    for _ in range(20):
        for name, tensor in alone.items():
            share, decay = SAID[name]
            g = rng.normal(size=tensor.flat_params.shape)
            model.grads[name][...] = backend.asarray(g.reshape(model.grads[name].shape))
            before, tensor.flat_grads = tensor.flat_params.copy(), g
            own[name].update(tensor)
            tensor.flat_params -= 0.05 * share * decay * before
        updater.update(model)
        for name, tensor in alone.items():
            found = backend.to_numpy(model.params[name]).reshape(-1)
            np.testing.assert_allclose(found, tensor.flat_params, rtol=1e-11, atol=1e-13)


@updaters
def test_without_rates_and_decays_it_is_the_updater_to_the_bit(make):
    first, second, rng = network(), network(), np.random.default_rng(0)
    one, other = make(3.7), gd.PerLayer(make(3.7))
    for _ in range(5):
        first.flat_grads[...] = second.flat_grads[...] = rng.normal(size=first.flat_grads.shape)
        one.update(first)
        other.update(second)
    assert first.flat_params.tobytes() == second.flat_params.tobytes()


X = np.random.default_rng(0).normal(size=(40, 3))
Y = X[:, :2]


def trained(updater, **options):
    made = gd.Trainer(network(), "mse", updater, accumulate=2, **options)
    made.fit(gd.Batches(X, Y, batch_size=8, shuffle=True), epochs=3)
    return made


def test_a_run_goes_on_from_a_file_to_the_bit(tmp_path):
    def updater():
        return gd.PerLayer(gd.AdamW(gd.CosineDecay(0.01, epochs=5)), RATES, DECAYS)

    whole = trained(updater())
    whole.fit(epochs=2)
    cut = trained(updater())
    cut.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", gd.Batches(X, Y, batch_size=8, shuffle=True))
    assert repr(again.updater) == repr(cut.updater)
    again.fit(epochs=2)
    assert again.model.flat_params.tobytes() == whole.model.flat_params.tobytes()


def test_a_schedule_and_a_scale_act_on_it():
    updater = gd.PerLayer(gd.SGD(gd.StepDecay(0.4, 0.5, updates=1)), {"dense1": 0.5})
    model, rates = network(), []
    updater.scale = 0.5
    for _ in range(3):
        before = model.flat_params.copy()
        model.flat_grads[...] = 1.0
        updater.update(model)
        rates.append((before - model.flat_params)[0])
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.025], rtol=1e-12)


def test_a_layer_with_rate_0_stays_as_it_is():
    before = network()
    made = trained(gd.PerLayer("adam", {"dense1": 0}))
    for name, p in made.model.params.items():
        assert (p == before.params[name]).all() == name.startswith("dense1"), name


def test_the_updater_given_is_not_used_up():
    given = gd.Adam(0.01)
    trained(gd.PerLayer(given, RATES))
    assert (given.step, given.state) == (0, {})


@pytest.mark.parametrize("what", ["rates", "decays"])
def test_a_name_that_the_model_lacks_is_refused(what):
    for name in ("dense3", "dense1.w", "W", ""):
        model = network()
        before = model.flat_params.copy()
        with pytest.raises(ValueError, match=f"layer or parameter in {what}"):
            gd.PerLayer("adam", **{what: {name: 0.5}}).update(model)
        np.testing.assert_array_equal(model.flat_params, before)


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, "0.1", None, True])
def test_a_value_that_makes_no_sense_is_refused(value):
    for what in ("rates", "decays"):
        with pytest.raises(ValueError, match=f"{what}: dense1 must be a number, at least 0"):
            gd.PerLayer("adam", **{what: {"dense1": value}})


def test_what_is_not_trained_stays_and_a_layer_stands_for_what_it_holds():
    block = gd.Residual([gd.Dense(3), gd.Residual([gd.Dense(3)]), gd.Dense(3)])
    model = gd.Sequential([gd.Dense(3), block, gd.Dense(1)], inputs=2, dtype="float64")
    model.layers[0].trainable = block.layers[2].trainable = False
    rates = {"residual1": 0.25, "residual1.residual1": 0.5, "residual1.dense1.b": 2.0}
    before = model.arrays()
    model.flat_grads[...] = 1.0
    gd.PerLayer(gd.SGD(0.5), rates, {"dense1": 0.5}).update(model)
    shares = {
        "residual1.dense1.W": 0.25,
        "residual1.dense1.b": 2.0,
        "residual1.residual1.dense1.W": 0.5,
        "residual1.residual1.dense1.b": 0.5,
        "dense2.W": 1.0,
        "dense2.b": 1.0,
    }
    for name, value in model.params.items():
        change = before[f"params/{name}"] - value
        np.testing.assert_allclose(change, 0.5 * shares.get(name, 0.0), rtol=1e-12, err_msg=name)


def test_a_search_reaches_the_updater_within():
    inner = gd.Nadam(0.1)
    updater = gd.PerLayer(gd.PerLayer(inner, {"dense1": 0.5}), decays={"dense2": 0.25})
    assert updater.get_params()["updater__updater__learning_rate"] == 0.1
    assert list(updater.get_params(deep=False)) == ["updater", "rates", "decays"]
    changed = {"updater__updater__beta1": 0.5, "updater__updater__learning_rate": 0.2}
    assert updater.set_params(**changed, decays={}) is updater
    assert repr(updater) == repr(gd.PerLayer(gd.PerLayer(gd.Nadam(0.2, 0.5), {"dense1": 0.5})))
    assert (updater.learning_rate, inner.learning_rate) == (0.2, 0.1)
    assert updater.set_params(updater="sgd", updater__momentum=0.5).updater.momentum == 0.5
    for wrong in ({"updater__beta": 0.5}, {"updater__momentum": -1}, {"rates__dense1": 0.5}):
        before = repr(updater)
        with pytest.raises(ValueError, match=r"unknown parameter|at least 0"):
            updater.set_params(**wrong)
        assert repr(updater) == before


@pytest.mark.parametrize("layers", [1, 2])
def test_a_rate_that_is_set_goes_on_in_copies(layers):
    updater = gd.SGD(0.1, momentum=0.5)
    for _ in range(layers):
        updater = gd.PerLayer(updater, {"dense1": 0.5})
    updater.learning_rate = 0.25
    for copied in (gd.PerLayer(updater), updater.set_params(decays={})):
        assert copied.learning_rate == 0.25
        assert "SGD(learning_rate=0.25, momentum=0.5" in repr(copied)
