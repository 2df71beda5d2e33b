"""Formulas compiled by Numba: the same numbers as the formulas as they are written, to rounding.

What is compiled comes from the formula itself, so that there is one wording of each.
"""

import inspect

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import minigd as gd
from minigd import formulas
from minigd.backends.base import NumpyBackend
from minigd.execution import numba_loops as fast
from minigd.training import trainer as trainer_module

pytest.importorskip("numba")

CONSTANTS = {
    "rate": 0.01,
    "learning_rate": 0.01,
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
    "decay": 0.001,
    "momentum": 0.9,
    "rho": 0.9,
    "slope": 0.1,
}
EXACT = (formulas.relu, formulas.relu_backward)
by_name = pytest.mark.parametrize("formula", fast.COMPILED, ids=lambda formula: formula.__name__)


def constants_of(formula):
    return {
        name: CONSTANTS[name]
        for name, parameter in inspect.signature(formula).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def outputs_of(formula):
    result = formula(*inputs_of(formula, (3,), "float64"), **constants_of(formula))
    return len(result) if isinstance(result, tuple) else 1


def inputs_of(formula, shape, dtype, seed=0):
    """Return random inputs; what an updater takes the root of is not negative."""
    rng = np.random.default_rng(seed)
    names = [
        name
        for name, parameter in inspect.signature(formula).parameters.items()
        if parameter.kind is not parameter.KEYWORD_ONLY
    ]
    found = [rng.normal(size=shape).astype(dtype) for _ in names]
    return [abs(a) if name == "v" else a for name, a in zip(names, found, strict=True)]


def both(formula, inputs, outputs=None):
    """Return the results of the formula as written, and compiled, through the same call."""
    constants = constants_of(formula)
    found = []
    for backend in (NumpyBackend(), fast.FastBackend()):
        copies = [a.copy() for a in inputs]
        count = outputs_of(formula)
        outs = tuple(np.empty_like(copies[0]) for _ in range(count))
        backend.apply(formula, *copies, out=outs if count > 1 else outs[0], **constants)
        for given_, left in zip(inputs, copies, strict=True):
            np.testing.assert_array_equal(given_, left)
        found.append(outs)
    return found


def close(formula, plain, compiled):
    for one, other in zip(plain, compiled, strict=True):
        if formula in EXACT:
            np.testing.assert_array_equal(one, other)
        else:
            # A few roundings: of one dtype in NumPy, of float64 and at the end in a loop.
            eps = np.finfo(one.dtype).eps
            scale = max(1.0, float(np.abs(one[np.isfinite(one)]).max(initial=0.0)))
            np.testing.assert_allclose(one, other, rtol=8 * eps, atol=8 * eps * scale)


@by_name
@given(
    shape=arrays.array_shapes(min_dims=1, max_dims=2, max_side=40),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 1000),
)
@examples(15)
def test_a_compiled_formula_gives_the_numbers_of_the_written_one(formula, shape, dtype, seed):
    close(formula, *both(formula, inputs_of(formula, shape, dtype, seed)))


@by_name
def test_arrays_of_many_slices(formula):
    close(formula, *both(formula, inputs_of(formula, (300, 200), "float32")))


@by_name
def test_what_is_not_finite_stays_so(formula):
    inputs = inputs_of(formula, (6,), "float64")
    inputs[0][:3] = [np.nan, np.inf, -np.inf]
    with np.errstate(all="ignore"):
        plain, compiled = both(formula, inputs)
    for one, other in zip(plain, compiled, strict=True):
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        np.testing.assert_array_equal(np.isinf(one), np.isinf(other))


@by_name
@pytest.mark.each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_may_be_written_over_the_inputs(formula, dtype):
    inputs = inputs_of(formula, (5000,), dtype)
    expected = formula(*inputs, **constants_of(formula))
    expected = expected if isinstance(expected, tuple) else (expected,)
    # As an updater does: the new parameters over the old ones, the new state over the old one.
    outs = (inputs[0], *inputs[len(inputs) - len(expected) + 1 :])
    outs = outs[: len(expected)]
    fast.FastBackend().apply(
        formula, *inputs, out=outs if len(outs) > 1 else outs[0], **constants_of(formula)
    )
    close(formula, expected, outs)


def test_what_there_is_no_loop_for_runs_as_it_is_written():
    backend = fast.FastBackend()
    x = np.linspace(-1, 1, 6).reshape(2, 3)
    for formula, array in (
        (formulas.tanh, x),
        (formulas.softmax, x),
        (formulas.relu, x.astype("complex128")),
        (formulas.relu, np.asfortranarray(x)),
        (formulas.relu, np.repeat(x, 2, axis=1)[:, ::2]),
    ):
        out = np.empty_like(array)
        backend.apply(formula, array, out=out)
        np.testing.assert_array_equal(out, formula(array))


def test_a_formula_of_another_wording_is_another_loop(monkeypatch):
    before = fast._digest(formulas.adamw)

    def adam(p, g, m, v, *, rate, beta1, beta2, epsilon):
        return p, m, v

    # AdamW calls Adam: what it stands for has changed with it.
    monkeypatch.setattr(formulas, "adam", adam)
    assert fast._digest(formulas.adamw) != before


# Training ----------------------------------------------------------------------------------------


def rows(n=230):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6))
    return X, X[:, :3].argmax(axis=1)


def network(dtype="float64", hidden=gd.ReLU):
    layers = [gd.Dense(20), hidden(), gd.Dense(15), gd.Tanh(), gd.Dense(3), gd.Softmax()]
    return gd.Sequential(layers, inputs=6, dtype=dtype, seed=1)


def trained(updater, dtype="float64", **options):
    X, y = rows()
    model = network(dtype)
    trainer = gd.Trainer(model, "categorical_crossentropy", updater, **options)
    trainer.fit(X, y, batch_size=50, epochs=4)
    return trainer


@pytest.mark.parametrize(
    "updater",
    [
        lambda: gd.SGD(0.1),
        lambda: gd.SGD(0.1, momentum=0.9),
        lambda: gd.SGD(0.1, momentum=0.9, nesterov=True),
        gd.Adam,
        gd.AdamW,
        gd.RMSprop,
        gd.Adagrad,
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 2e-4)])
def test_training_comes_to_the_same(updater, dtype, tolerance):
    plain, compiled = (trained(updater(), dtype, fast=wanted) for wanted in (False, True))
    assert compiled.compiled
    assert not plain.compiled
    np.testing.assert_allclose(
        plain.model.flat_params, compiled.model.flat_params, rtol=tolerance, atol=tolerance
    )


def test_replayed_and_not_a_compiled_run_gives_the_same_bits():
    runs = [trained("adam", fast=True, reuse_buffers=replay) for replay in (True, False)]
    assert all(runs[0]._loop.steps._recordings.values())
    assert not runs[1]._loop.steps._recordings
    np.testing.assert_array_equal(*[run.model.flat_params for run in runs])


def test_a_compiled_formula_is_one_line_of_the_recording():
    trainer = trained("adam", fast=True)
    recording = next(iter(trainer._loop.steps._recordings.values()))
    lines = str(recording).splitlines()
    assert any(line.startswith("relu_backward(") for line in lines)
    assert any(line.startswith("tanh(") for line in lines)


def test_a_short_run_is_not_compiled_and_a_long_one_is(monkeypatch):
    assert not trained("adam").compiled
    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 1000)
    assert trained("adam").compiled
    assert not trained("adam", fast=False).compiled


def test_a_run_that_goes_on_keeps_to_what_it_used(monkeypatch, tmp_path):
    X, y = rows()
    batches = gd.Batches(X, y, batch_size=50, shuffle=True)

    def run(until, first=None):
        if first is None:
            trainer = gd.Trainer(network("float32"), "categorical_crossentropy", "adam")
        else:
            trainer = gd.Trainer.resume(first, batches)
        trainer.fit(batches, until_epoch=until)
        return trainer

    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 1000)
    straight, first = run(6), run(3)
    first.save(tmp_path / "compiled.npz")
    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 10**12)
    again = run(6, tmp_path / "compiled.npz")
    assert again.compiled
    np.testing.assert_array_equal(straight.model.flat_params, again.model.flat_params)

    plain = run(3)
    plain.save(tmp_path / "plain.npz")
    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 1000)
    assert not plain.compiled
    assert not run(6, tmp_path / "plain.npz").compiled


def test_without_numba_nothing_changes_but_speed(monkeypatch, tmp_path):
    compiled = trained("adam", fast=True)
    compiled.save(tmp_path / "run.npz")
    trainer = trained("adam")
    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 0)
    monkeypatch.setattr(fast, "available", lambda: False)
    monkeypatch.setattr(trainer_module, "available", lambda: False)
    plain = trained("adam")
    assert not plain.compiled
    np.testing.assert_array_equal(plain.model.flat_params, trainer.model.flat_params)
    with pytest.raises(gd.BackendError, match="pip install numba"):
        trained("adam", fast=True)
    # A run that used it goes on without it, and is told that its last digits may differ.
    with pytest.warns(UserWarning, match="pip install numba"):
        again = gd.Trainer.resume(tmp_path / "run.npz")
    assert not again.compiled


def test_a_trainer_without_it_behind_one_with_it_uses_the_formulas_as_written():
    model = network()
    X, y = rows()
    gd.Trainer(model, "categorical_crossentropy", "adam", fast=True).fit(X, y)
    gd.Trainer(model, "categorical_crossentropy", "adam", fast=False)
    assert all(type(layer.backend) is NumpyBackend for layer in model.layers)


def test_a_prediction_is_the_same_with_and_without():
    trainer = trained("adam", "float32", fast=True)
    X, _ = rows()
    again = trainer.model.copy()
    np.testing.assert_array_equal(trainer.model.predict(X), again.predict(X))


def test_on_a_gpu_nothing_is_compiled(stand_in):
    X, y = rows()
    model = network("float32")
    trainer = gd.Trainer(model, "categorical_crossentropy", "adam", fast=True)
    model.to(stand_in)
    trainer.fit(X, y, batch_size=50)
    assert not trainer.compiled
    assert trainer.updater.executor is None


def test_an_evaluation_in_between_changes_no_bit():
    X, y = rows()
    found = []
    for look in (True, False):
        layers = [gd.Dense(16), gd.Tanh(), gd.Dropout(0.2), gd.Dense(3), gd.Softmax()]
        model = gd.Sequential(layers, inputs=6, seed=1)

        def evaluate(event, look=look):
            if look and event.name == "epoch":
                event.trainer.model.evaluate(X, y)

        trainer = gd.Trainer(model, "categorical_crossentropy", "adam", fast=True)
        trainer.fit(X, y, batch_size=50, epochs=4, callbacks=[evaluate])
        found.append(model.flat_params)
    np.testing.assert_array_equal(*found)


def test_the_choice_does_not_depend_on_how_epochs_are_split(monkeypatch):
    X, y = rows()
    batches = gd.Batches(X, y, batch_size=50)
    monkeypatch.setattr(trainer_module, "WORTH_COMPILING", 40_000)
    chosen = []
    for epochs in (1, 100):
        trainer = gd.Trainer(network(), "categorical_crossentropy", "adam")
        trainer._choose_executor(batches)
        trainer.fit(batches, epochs=min(epochs, 2))
        chosen.append(trainer.compiled)
    assert chosen == [True, True]


@given(
    n=st.integers(1, 300), units=st.integers(2, 70), dtype=st.sampled_from(["float32", "float64"])
)
@examples(25)
def test_rows_are_added_and_summed_to_the_bits_of_numpy(n, units, dtype):
    rng = np.random.default_rng([n, units])
    y, b = rng.normal(size=(n, units)).astype(dtype), rng.normal(size=units).astype(dtype)
    added, summed = y.copy(), np.full(units, np.nan, dtype)
    fast.looped(fast.add_row)(added, b)
    fast.looped(fast.sum_rows)(y, summed)
    np.testing.assert_array_equal(added, y + b)
    np.testing.assert_array_equal(summed, y.sum(axis=0))


def test_biases_are_added_and_summed_in_compiled_loops():
    recording = next(iter(trained("adam", fast=True)._loop.steps._recordings.values()))
    names = [operation.name for operation in recording.operations]
    assert names.count("add_row") == names.count("sum_rows") == 3


def test_the_time_to_compile_is_said_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(fast, "_compiled", [])
    fast.looped.cache_clear()
    X, y = rows()
    for _ in range(2):
        gd.Trainer(network(), "categorical_crossentropy", "sgd", fast=True).fit(
            gd.Batches(X, y, batch_size=50), epochs=2, progress=True
        )
    err = capsys.readouterr().err
    assert err.count("Numba compiled") == 1
