"""The guard: an update is made only while loss and gradient are finite.

The parameters are always those of the last good update, and finite.
"""

import contextlib

import numpy as np
import pytest
from budgets import examples
from hypothesis import assume, given
from hypothesis import strategies as st
from oracles.interpreted import interpreted

import minigd as gd
from minigd.execution.targets import compiler

UPDATERS = {
    "sgd": lambda rate: gd.SGD(rate),
    "momentum": lambda rate: gd.SGD(rate, 0.9),
    "nesterov": lambda rate: gd.SGD(rate, 0.9, True),
    "adam": lambda rate: gd.Adam(rate),
    "adamw": lambda rate: gd.AdamW(rate, weight_decay=0.5, decay_bias=True),
    "amsgrad": lambda rate: gd.Adam(rate, amsgrad=True),
    "nadam": lambda rate: gd.Nadam(rate),
    "radam": lambda rate: gd.RAdam(rate),
    "rmsprop": lambda rate: gd.RMSprop(rate),
    "adagrad": lambda rate: gd.Adagrad(rate),
}
updaters = pytest.mark.parametrize("updater", UPDATERS.values(), ids=UPDATERS)


def rows(n=23, width=3):
    return np.random.default_rng(0).normal(size=(n, width))


def regression(updater, dtype="float32", backend="numpy"):
    model = gd.Sequential([gd.Dense(4), gd.ReLU(), gd.Dense(1)], 3, dtype=dtype, backend=backend)
    return gd.Trainer(model, "mse", updater)


def streaming(backend):
    """Return the backend without kept rows: only then are changes during a fit noticed."""
    return backend if backend.reads_are_free else type(backend)(backend.xp, device_budget=0)


def batches():
    return gd.Batches(rows(), rows()[:, 0], batch_size=5, shuffle=True)


def written(trainer):
    """Return copies of the parameters and of the updater's vectors, on the host."""
    to_numpy = trainer.model.backend.to_numpy
    vectors = {"params": trainer.model.flat_params, **trainer.updater.state}
    return {name: np.array(to_numpy(vector)) for name, vector in vectors.items()}


def assert_finite(trainer):
    for name, vector in written(trainer).items():
        assert np.isfinite(vector).all(), f"{name} is not finite"


class Notes:
    """Notes what was written after each update."""

    def __init__(self, trainer):
        self.last = written(trainer)

    def __call__(self, event):
        if event.name == "update":
            self.last = written(event.trainer)


def assert_last_good(trainer, last):
    assert_finite(trainer)
    for name, vector in written(trainer).items():
        # A vector that the first update made has not been there before it.
        np.testing.assert_array_equal(vector, last.get(name, np.zeros_like(vector)))


# Rates that take a parameter out of range at once, and ones that do so in the end.
@updaters
@pytest.mark.parametrize("share", [0.35, 0.6, 0.9999])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.pairs
def test_a_huge_learning_rate_leaves_the_last_good_parameters(backend, updater, dtype, share):
    rate = float(np.finfo(dtype).max) ** share
    trainer = regression(updater(rate), dtype, backend)
    notes = Notes(trainer)
    with pytest.raises(gd.DivergenceError) as raised:
        # A device makes the updates of an epoch before it is asked how they went.
        trainer.fit(batches(), epochs=9, callbacks=[notes] if backend.reads_are_free else [])
    place = f"at epoch {trainer.epoch + 1}, update {trainer.updates + 1}"
    assert f"{place}: the parameters were restored" in str(raised.value)
    assert f"Lower the learning rate (now {rate:g})" in str(raised.value)
    assert trainer.updates == trainer.updater.step
    assert_finite(trainer)
    if backend.reads_are_free:
        assert_last_good(trainer, notes.last)


@pytest.mark.few
@updaters
def test_a_divergence_names_its_epoch_and_update(backend, updater):
    trainer = regression(updater(0.01), backend=streaming(backend))
    x = rows()
    data = gd.Batches(x, x[:, 0], batch_size=5)
    trainer.fit(data, epochs=2)
    seen = []

    def spoil(event):
        if event.name == "update" and event.trainer.updates == 13:
            seen.append(written(event.trainer))
            # Not NaN: a number that is good for the data and too large for the loss.
            x[15:20] = 1e30

    message = "at epoch 3, update 14: the parameters were restored to the values before this"
    with pytest.raises(gd.DivergenceError, match=message):
        trainer.fit(data, callbacks=[spoil])
    assert_last_good(trainer, seen[0])
    assert trainer.updates == trainer.updater.step == 13


@pytest.mark.few
@updaters
def test_training_goes_on_after_the_reason_is_gone(backend, updater):
    backend = streaming(backend)
    trainer, whole = (regression(updater(0.01), "float64", backend) for _ in range(2))
    x = rows()
    good = x.copy()
    data = gd.Batches(x, x[:, 0].copy(), batch_size=5)

    def spoil(event):
        if event.name == "update" and event.trainer.updates == 7:
            x[10:15] = 1e200

    with pytest.raises(gd.DivergenceError, match="epoch 2, update 8"):
        trainer.fit(data, epochs=3, callbacks=[spoil])
    x[...] = good
    trainer.fit(data, until_epoch=3)
    whole.fit(data, epochs=3)
    for name, vector in written(whole).items():
        np.testing.assert_array_equal(written(trainer)[name], vector)
    for name in ("loss", "updates"):
        assert trainer.history[name] == whole.history[name]


@updaters
def test_a_step_that_diverges_changes_nothing(updater):
    trainer = regression(updater(0.01))
    trainer.step(rows(), rows()[:, 0])
    before = written(trainer)
    with pytest.raises(gd.DivergenceError, match="the loss is inf at epoch 1, update 2"):
        trainer.step(np.full((5, 3), 1e30), np.zeros(5))
    assert_last_good(trainer, before)
    assert trainer.updates == trainer.updater.step == 1
    assert np.isfinite(trainer.step(rows(), rows()[:, 0]))


class Exploding(gd.Layer):
    """Passes everything on, with a gradient that can be made to overflow."""

    factor = 1.0

    def forward(self, x, train=False):
        return x

    def backward(self, dy):
        return dy * self.factor


@pytest.mark.parametrize("factor", [np.nan, np.inf, 1e38])
def test_a_gradient_that_is_not_finite_is_named(factor):
    model = gd.Sequential([gd.Dense(4), Exploding(), gd.Dense(1)], 3)
    trainer = gd.Trainer(model, "mse", gd.Adam(0.01))
    trainer.step(rows(), rows()[:, 0])
    before = written(trainer)
    model.layers[1].factor = np.float32(factor)
    # The layer after it has a good gradient, and only the one before it has a bad one.
    with pytest.raises(gd.DivergenceError, match=r"the gradient of dense1.[Wb] is not finite"):
        trainer.step(rows() * 100, rows()[:, 0])
    assert_last_good(trainer, before)


def test_an_update_too_large_for_the_dtype_is_not_made():
    trainer = regression(gd.SGD(3e38))
    before = written(trainer)
    with pytest.raises(gd.DivergenceError, match="the update is too large for float32 at epoch 1"):
        trainer.step(rows() * 100, rows()[:, 0])
    assert_last_good(trainer, before)
    assert trainer.updates == trainer.updater.step == 0


# What has piled up -------------------------------------------------------------------------------
# The size of a step is not that of its gradient alone: momentum and Adam go on without one.


def logistic(updater, dtype="float32", backend="numpy"):
    model = gd.Sequential([gd.Dense(1), gd.Sigmoid()], 1, dtype=dtype, backend=backend)
    return gd.Trainer(model, "binary_crossentropy", updater)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_alone_takes_no_parameter_out_of_range(backend, nesterov):
    trainer = logistic(gd.SGD(10.0, 0.9, nesterov), backend=backend)
    # One huge row, and then rows of 0, for which the weight does not matter and has gradient 0.
    x = np.zeros((40, 1))
    x[0] = 1e37
    # Its logit must be wrong, for a gradient, and not so wrong that the loss is infinite.
    trainer.model.params["dense1.W"][...] = -1.0
    with pytest.raises(gd.DivergenceError):
        trainer.fit(gd.Batches(x, np.ones(40), batch_size=1), epochs=2)
    assert_finite(trainer)


@pytest.mark.parametrize(("dtype", "rate"), [("float32", 1e38), ("float64", 5e307)])
def test_adam_alone_takes_no_parameter_out_of_range(backend, dtype, rate):
    trainer = logistic(gd.Adam(rate), dtype, backend)
    # Only the bias counts. After the first update every row is right and has gradient 0, while
    # Adam moves on for some more.
    x, y = np.zeros((40, 1)), np.ones(40)
    with pytest.raises(gd.DivergenceError):
        trainer.fit(gd.Batches(x, y, batch_size=1), epochs=3)
    assert_finite(trainer)


def test_a_rate_raised_after_a_huge_gradient_takes_no_parameter_out_of_range():
    trainer = logistic(gd.SGD(1e-30, 0.9))
    trainer.model.params["dense1.W"][...] = -1.0
    trainer.step([[1e30]], [1])
    trainer.updater.learning_rate = 1e9
    with pytest.raises(gd.DivergenceError):
        trainer.step([[0.0]], [1])
    assert_finite(trainer)


def test_adam_never_stops_a_parameter_in_silence():
    # The square of 1e20 is infinite in float32, and a step divided by it is 0 ever after.
    trainer = logistic(gd.Adam(0.1))
    trainer.model.params["dense1.W"][...] = -1.0
    with contextlib.suppress(gd.DivergenceError):
        trainer.step([[1e20]], [1])
    assert_finite(trainer)


@examples(50)
@given(
    st.sampled_from(list(UPDATERS)),
    st.sampled_from(["float32", "float64"]),
    st.floats(0, 1),
    st.floats(-1, 1),
    st.sampled_from([regression, logistic]),
)
def test_no_rate_and_no_scale_leave_anything_that_is_not_finite(updater, dtype, rate, scale, task):
    largest = np.log10(float(np.finfo(dtype).max))
    rate, scale = 10 ** (rate * largest * 0.999), 10 ** (scale * largest * 0.9)
    assume(np.isfinite(rate))
    trainer = task(UPDATERS[updater](rate), dtype)
    x = rows(width=3 if task is regression else 1) * scale
    notes = Notes(trainer)
    try:
        trainer.fit(x, rows()[:, 0] > 0, batch_size=5, epochs=4, callbacks=[notes])
    except gd.DivergenceError:
        assert_last_good(trainer, notes.last)
    assert_finite(trainer)


def test_an_updater_from_outside_is_looked_at_each_time():
    class Sign(gd.Updater):
        def __init__(self, learning_rate=0.1):
            super().__init__(learning_rate)

        def formula(self, learning_rate):
            def sign(p, g, *, learning_rate):
                return p - learning_rate * g / abs(g)

            return sign, {"learning_rate": learning_rate}

    X = np.random.default_rng(0).normal(size=(40, 2))
    X[:, 1] = 0  # a column whose weights have no gradient: 0 / 0
    model = gd.Sequential([gd.Dense(4), gd.ReLU(), gd.Dense(1)], inputs=2)
    with pytest.raises(gd.DivergenceError):
        model.fit(X, X[:, 0], loss="mse", updater=Sign())
    assert np.isfinite(model.flat_params).all()


def test_a_loss_that_is_not_finite_names_the_layer_where_it_began():
    X = np.random.default_rng(0).normal(size=(200, 6))
    model = gd.Sequential([gd.Dense(64), gd.ReLU(), gd.Dense(1)], inputs=6)
    model.params["dense2.W"][...] = 1e38
    with pytest.raises(
        gd.DivergenceError, match=r"the loss is .*, and the output of dense2 is the"
    ):
        model.fit(X, X[:, 0], loss="mse", updater=gd.SGD(0.1))


# One huge gradient -------------------------------------------------------------------------------

RUNS = {
    "plain": ({"fast": False}, {"plain": True}),
    "NumPy's calls": ({"fast": False}, {}),
    "compiled, single steps": ({"fast": True}, {"callbacks": [lambda event: None]}),
    "compiled, epochs": ({"fast": True}, {}),
    "compiled, accumulated": ({"fast": True, "accumulate": 2}, {}),
}
HUGE = {"sgd": gd.SGD, "adam": gd.Adam, "rmsprop": gd.RMSprop, "adagrad": gd.Adagrad}


@pytest.fixture
def interpreted_steps(monkeypatch):
    """Run the source of compiled steps as Python."""
    monkeypatch.setattr("minigd.execution.targets.numba.Compiled", interpreted)


def after_a_huge_gradient(updater, options):
    """Return a trainer whose first update had a gradient of some 4e15, and its batches."""
    x = rows(40).astype("float32")
    layers = [gd.Dense(4), gd.Tanh(), gd.Dropout(0.2), gd.Dense(1)]
    model = gd.Sequential(layers, inputs=3, seed=1)
    trainer = gd.Trainer(model, "mse", HUGE[updater](1e-16), **options)
    for _ in range(trainer.accumulate):
        trainer.step(x[:5], np.full(5, 1.5e15))
    trainer.updater.learning_rate = 0.05
    return trainer, gd.Batches(x, x[:, 0], batch_size=5, shuffle=True, seed=3)


@pytest.mark.each
@pytest.mark.parametrize("updater", HUGE)
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.skipif(not compiler.available(), reason="needs Numba and SciPy")
def test_a_run_that_goes_on_after_a_huge_gradient_has_the_same_bits(
    run, updater, tmp_path, interpreted_steps
):
    options, settings = RUNS[run]
    whole, batches = after_a_huge_gradient(updater, options)
    whole.fit(batches, epochs=5, **settings)
    expected = written(whole)
    for epochs in (0, 1, 3):
        first, batches = after_a_huge_gradient(updater, options)
        first.fit(batches, epochs=epochs, **settings)
        first.save(tmp_path / "run.npz")
        again = gd.Trainer.resume(tmp_path / "run.npz", batches)
        again.fit(batches, until_epoch=5, **settings)
        for name, vector in written(again).items():
            np.testing.assert_array_equal(vector, expected[name], name)


# Adagrad never forgets a gradient, so each of its later steps is checked.
@pytest.mark.parametrize("updater", [name for name in HUGE if name != "adagrad"])
@pytest.mark.skipif(not compiler.available(), reason="needs Numba and SciPy")
def test_steps_are_compiled_again_after_a_huge_gradient(updater, capsys, interpreted_steps):
    trainer, batches = after_a_huge_gradient(updater, {"fast": True})
    trainer.fit(batches, epochs=4, profile=True)
    assert "over 32 steps, compiled: " in capsys.readouterr().err


def test_a_gradient_that_was_refused_leaves_nothing_behind():
    trainer = regression(gd.Adam(0.01))
    trainer.step(rows(), rows()[:, 0])
    before = trainer.state_dict()["largest"]
    with pytest.raises(gd.DivergenceError):
        trainer.step(np.full((5, 3), 1e18), np.zeros(5))
    assert trainer.state_dict()["largest"] == before
