"""The learning-rate finder: what it suggests, and that it leaves everything as it was, bit for bit.

The suggestion is held to a quadratic, of which the largest rate that works is known.
"""

import copy
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

import minigd as gd

find = gd.find_learning_rate


def rows(n=60, width=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width))


# What it leaves as it was ------------------------------------------------------------------------


def network(backend="numpy", dtype="float32"):
    layers = [gd.Standardize(), gd.Dense(6), gd.BatchNorm(), gd.ReLU(), gd.Dropout(0.3)]
    layers += [gd.Dense(3), gd.Softmax()]
    return gd.Sequential(layers, 4, dtype=dtype, backend=backend, seed=3)


def classes(x):
    return (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)


def everything(model):
    """Return all of a model that training can change, on the host."""
    return {
        **model.arrays(),
        "flat": model.backend.to_numpy(model.flat_params).copy(),
        "gradients": model.backend.to_numpy(model.flat_grads).copy(),
        "passes": model.passes,
        "loss": repr(model.loss),
        "metrics": sorted(model.metrics),
        "places": [id(p) for p in model.params.values()],
        "work": model.workspace.nbytes,
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def state_of(updater, backend):
    """Return the state of an updater, on the host."""
    values = updater.state_dict()
    return {n: backend.to_numpy(v) if n in updater.state else v for n, v in values.items()}


UPDATERS = {
    "sgd": lambda: gd.SGD(0.05),
    "momentum": lambda: gd.SGD(0.05, 0.9),
    "adam": lambda: gd.Adam(0.01),
    "adamw with a schedule": lambda: gd.AdamW(gd.CosineDecay(0.01, epochs=5)),
    "amsgrad": lambda: gd.Adam(0.01, amsgrad=True),
    "nadam": lambda: gd.Nadam(0.01),
    "radam": lambda: gd.RAdam(0.01),
    "rmsprop": lambda: gd.RMSprop(0.01),
}


@pytest.mark.each
@pytest.mark.parametrize("make", UPDATERS.values(), ids=UPDATERS)
def test_a_run_goes_on_as_if_nobody_had_looked_for_a_rate(backend, make):
    """In the middle of a run, with the model, the updater and the batches of that run."""
    x = rows()
    results = []
    for look in (False, True):
        batches = gd.Batches(x, classes(x), batch_size=10, shuffle=True, seed=1)
        model = network(backend)
        model.adapt(batches)
        trainer = gd.Trainer(model, "categorical_crossentropy", make(), metrics=["accuracy"])
        trainer.fit(batches, epochs=2)
        if look:
            before, rate = everything(model), repr(trainer.updater)
            state, epoch = state_of(trainer.updater, backend), batches._next_epoch
            loss = gd.CategoricalCrossEntropy(label_smoothing=0.2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # so few updates may find no rate
                curve = find(model, batches, loss=loss, updater=trainer.updater, updates=25)
            assert len(curve.rates) > 5
            assert_same(everything(model), before)
            assert_same(state_of(trainer.updater, backend), state)
            assert repr(trainer.updater) == rate
            assert batches._next_epoch == epoch
        trainer.fit(epochs=2)
        order = np.concatenate([batch.rows for batch in batches])
        history = {k: v for k, v in trainer.history.items() if k != "seconds"}
        results.append((everything(model), history, order))
    (arrays, history, order), (others, other_history, other_order) = results
    for values in (arrays, others):
        del values["places"]
    assert_same(others, arrays)
    assert other_history == history
    np.testing.assert_array_equal(other_order, order)


def test_a_model_that_was_never_trained_stays_so(backend):
    model = network(backend)
    x = rows()
    model.adapt(gd.Batches(x, classes(x)))
    before = everything(model)
    find(model, x, classes(x), loss="categorical_crossentropy", updates=10, batch_size=20)
    assert_same(everything(model), before)
    assert model.loss is None
    with pytest.raises(RuntimeError, match="this model was not fitted"):
        model.evaluate(x, classes(x))


def test_a_run_that_diverges_leaves_the_model_as_it_was():
    model = gd.Sequential([gd.Dense(1)], 4, seed=3)
    x = rows()
    before = everything(model)
    with np.errstate(all="raise"):
        curve = find(model, x, x[:, 0], loss="mse", updater="sgd", highest=1e30, updates=200)
    assert curve.rates[-1] < 1e29
    assert_same(everything(model), before)


def test_data_are_not_modified_and_the_global_generator_is_left_alone():
    x = rows()
    y, copies = classes(x), (x.copy(), classes(x))
    state = copy.deepcopy(np.random.get_state())  # noqa: NPY002 - the global one is looked at
    model = network()
    model.adapt(gd.Batches(x, y))
    find(model, x, y, loss="categorical_crossentropy", updates=10)
    np.testing.assert_array_equal(x, copies[0])
    np.testing.assert_array_equal(y, copies[1])
    assert repr(np.random.get_state()) == repr(state)  # noqa: NPY002


def test_it_comes_to_the_same_each_time(backend):
    model = network(backend)
    x = rows()
    model.adapt(gd.Batches(x, classes(x)))
    one, other = (
        find(model, x, classes(x), loss="categorical_crossentropy", updates=15, batch_size=10)
        for _ in range(2)
    )
    assert one == other


# What it tells -----------------------------------------------------------------------------------


def by_hand(x, y, W, rates):
    """Return the loss before each update of least squares without a bias, batch by batch."""
    losses = []
    for (a, b), rate in zip(zip(x, y, strict=True), rates, strict=True):
        error = a @ W - b
        losses.append(float(np.mean(error**2)))
        W = W - rate * 2 / len(a) * a.T @ error
    return losses


def smoothed(losses):
    """Return the mean of the losses so far, each weighing 0.9 of the next."""
    found = []
    for i in range(len(losses)):
        share = [0.9 ** (i - k) for k in range(i + 1)]
        found.append(float(np.dot(share, losses[: i + 1])) / sum(share))
    return found


def test_rates_grow_by_the_same_factor_and_losses_are_those_of_the_run():
    x = rows()
    y = x @ np.array([[1.0], [2.0], [-1.0], [0.5]])
    model = gd.Sequential([gd.Dense(1, bias=False)], 4, dtype="float64", seed=3)
    W = model.params["dense1.W"].copy()
    data = gd.Batches(x, y, batch_size=25)  # 25, 25 and 10, again and again
    curve = find(model, data, loss="mse", updater="sgd", lowest=1e-4, highest=0.1, updates=40)
    rates = [1e-4 * 1000 ** (i / 39) for i in range(40)]
    np.testing.assert_allclose(curve.rates, rates, rtol=1e-12)
    cuts = [slice(0, 25), slice(25, 50), slice(50, 60)] * 14
    losses = by_hand([x[c] for c in cuts[:40]], [y[c] for c in cuts[:40]], W, rates)
    np.testing.assert_allclose(curve.losses, smoothed(losses), rtol=1e-10)
    first = smoothed(by_hand([x[c] for c in cuts[:40]], [y[c] for c in cuts[:40]], W, [0.0] * 40))
    shares = np.array(smoothed(losses)) / first
    least = shares[8:].min()  # a fifth of the updates, but no more than 10, are left out
    fallen = next(i for i in range(8, 40) if shares[i] <= least + 0.2 * (1 - least))
    assert curve.suggestion == pytest.approx(rates[fallen] / 10)


class OwnName(gd.SGD):
    """An updater whose argument for the learning rate has another name."""

    def __init__(self, lr):
        super().__init__(lr)
        self.lr = lr

    def config(self):
        return {"lr": self.lr}


@pytest.mark.parametrize(
    "updater",
    [gd.PerLayer("sgd"), gd.PerLayer(gd.SGD(gd.OneCycle(0.1, updates=9))), OwnName(0.1)],
    ids=["number", "schedule", "own"],
)
def test_an_updater_that_is_given_its_rate_in_another_way_is_tried_at_the_same_rates(updater):
    x = rows()
    before = repr(updater)
    found, wanted = (
        find(gd.Sequential([gd.Dense(1)], 4, seed=3), x, x[:, 0], loss="mse", updater=each)
        for each in (updater, gd.SGD(0.1))
    )
    assert (found.rates, found.losses, repr(updater)) == (wanted.rates, wanted.losses, before)


def quadratic(largest, width=4, n=64, seed=0):
    """Return rows of which the mean squared error has a Hessian with this largest eigenvalue."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.normal(size=(n, width)))
    # H = 2 XᵀX / n, with eigenvalues from a third of the largest up to it.
    sizes = np.sqrt(n / 2 * largest * np.linspace(1 / 3, 1, width))
    x = Q * sizes
    return x, x @ rng.normal(size=(width, 1))


@pytest.mark.parametrize("largest", [0.02, 1.0, 50.0])
def test_on_a_quadratic_the_suggestion_is_below_the_largest_rate_that_works(largest):
    x, y = quadratic(largest)
    hessian = 2 * x.T @ x / len(x)
    stable = 2 / np.linalg.eigvalsh(hessian).max()
    assert stable == pytest.approx(2 / largest)
    model = gd.Sequential([gd.Dense(1, bias=False)], 4, dtype="float64", seed=3)
    options = {"lowest": stable * 1e-6, "highest": stable * 1e3, "updates": 200}
    curve = find(model, x, y, loss="mse", updater="sgd", batch_size=None, **options)
    # A gradient step with a rate above 2/λ blows up, and the run has seen it.
    assert stable < curve.rates[-1] < stable * 1e3
    # Well below it, and near enough to be of use.
    assert stable / 100 < curve.suggestion < stable

    for factor, works in ((1.0, True), (stable / curve.suggestion * 1.05, False)):
        twin = model.copy()
        trainer = gd.Trainer(twin, "mse", gd.SGD(factor * curve.suggestion))
        start = trainer.evaluate(x, y)["loss"]
        trainer.fit(x, y, batch_size=None, epochs=200)
        assert (trainer.evaluate(x, y)["loss"] < 0.01 * start) == works


def test_the_run_ends_where_the_loss_is_four_times_its_lowest():
    x, y = quadratic(1.0)
    model = gd.Sequential([gd.Dense(1, bias=False)], 4, dtype="float64", seed=3)
    options = {"lowest": 1e-3, "highest": 1e4, "updates": 300, "batch_size": None}
    curve = find(model, x, y, loss="mse", updater="sgd", **options)
    assert len(curve.rates) == len(curve.losses) < 300
    lowest = min(curve.losses)
    assert curve.losses[-1] > 4 * lowest
    assert all(loss <= 4 * min(curve.losses[: i + 1]) for i, loss in enumerate(curve.losses[:-1]))


def test_settings_of_the_trainer_are_those_of_the_run():
    x, y = quadratic(1.0)
    model = gd.Sequential([gd.Dense(1, bias=False)], 4, dtype="float64", seed=3)
    call = {"loss": "mse", "updater": "sgd", "batch_size": None, "updates": 60}
    free = find(model, x, y, highest=1e4, **call)
    with pytest.warns(UserWarning, match="no learning rate from 1e-07 to 1e.04 made the loss fall"):
        held = find(model, x, y, highest=1e4, clip_norm=1e-9, **call)
    assert held.suggestion is None
    # A step that is never longer than η 1e-9 blows nothing up at these rates.
    assert len(free.rates) < len(held.rates) == 60
    with pytest.raises(TypeError, match="clipnorm"):
        find(model, x, y, clipnorm=1.0, **call)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_rows_of_weight_zero_are_not_there(accumulate):
    x = rows()
    y, weight = classes(x), np.random.default_rng(1).integers(0, 2, size=60)
    weight[20:30] = 0
    junk, labels = x.copy(), y.copy()
    junk[weight == 0], labels[weight == 0] = np.nan, 99
    model = gd.Sequential([gd.Dense(3), gd.Softmax()], 4, seed=3)
    curves = []
    for data in ((x, y), (junk, labels)):
        batches = gd.Batches(*data, batch_size=10, sample_weight=weight)
        options = {"loss": "categorical_crossentropy", "updates": 20, "accumulate": accumulate}
        curves.append(find(model, batches, **options))
    assert curves[0] == curves[1]
    assert len(curves[0].rates) == 20


def test_every_kind_of_rows_will_do(tmp_path):
    x = rows()
    y = classes(x)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    model = gd.Sequential([gd.Dense(3), gd.Softmax()], 4, seed=3)
    call = {"loss": "categorical_crossentropy", "updates": 20}
    expected = find(model, gd.Batches(x, y, batch_size=10), **call)
    for source in (
        gd.NpySource(tmp_path / "x.npy", tmp_path / "y.npy"),
        gd.IterableSource([(x[:7], y[:7]), (x[7:], y[7:])]),
    ):
        assert find(model, gd.Batches(source, batch_size=10), **call) == expected


# What it suggests, whatever the batches ----------------------------------------------------------


def standardized(X):
    return (X - X.mean(axis=0)) / X.std(axis=0)


def diabetes():
    X, y = datasets.load_diabetes(return_X_y=True)
    return X, y.reshape(-1, 1), "mse", [gd.Dense(1)]


def standard_diabetes():
    X, y, loss, end = diabetes()
    return standardized(X), standardized(y), loss, end


def cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return standardized(X), y, "binary_crossentropy", [gd.Dense(1), gd.Sigmoid()]


def wine():
    X, y = datasets.load_wine(return_X_y=True)
    return standardized(X), y, "categorical_crossentropy", [gd.Dense(3), gd.Softmax()]


SETS = {
    "diabetes": diabetes,
    "standard diabetes": standard_diabetes,
    "cancer": cancer,
    "wine": wine,
}
BATCH_SIZES = [1, 4, 32, None]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("updater", ["adam", "sgd"])
def test_twenty_seeds_of_diabetes_all_get_a_rate_from_the_range_that_was_tried(batch_size, updater):
    X, y, loss, _ = diabetes()
    for seed in range(20):
        model = gd.Sequential([gd.Dense(1)], inputs=10, seed=seed)
        curve = find(model, X, y, loss=loss, updater=updater, batch_size=batch_size)
        assert curve.rates[10] <= curve.suggestion <= curve.rates[-1] / 9
        assert curve.suggestion > 1e-3


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("updater", ["adam", "sgd"])
@pytest.mark.parametrize("name", SETS)
@pytest.mark.each
def test_training_with_the_suggestion_lowers_the_loss(name, updater, batch_size):
    for seed in range(3):
        X, y, loss, end = SETS[name]()
        model = gd.Sequential([gd.Dense(16), gd.ReLU(), *end], inputs=X.shape[1], seed=seed)
        curve = find(model, X, y, loss=loss, updater=updater, batch_size=batch_size)
        assert curve.rates[10] <= curve.suggestion <= curve.rates[-1]
        rate = curve.suggestion
        trainer = gd.Trainer(model, loss, gd.Adam(rate) if updater == "adam" else gd.SGD(rate))
        before = trainer.evaluate(X, y)["loss"]
        trainer.fit(X, y, batch_size=batch_size, epochs={1: 1, 4: 4, 32: 20, None: 60}[batch_size])
        assert trainer.evaluate(X, y)["loss"] < 0.95 * before


@pytest.mark.each
@pytest.mark.parametrize("bounds", [(1e-3, 1e-1), (0.01, 0.05), (1e-9, 1e3), (1e-2, 1e2)])
@pytest.mark.parametrize("updates", [5, 20, 100])
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_no_rate_outside_the_bounds_is_suggested(bounds, updates, batch_size):
    X, y, loss, end = standard_diabetes()
    lowest, highest = bounds
    model = gd.Sequential(end, inputs=10, seed=1)
    call = {"loss": loss, "batch_size": batch_size, "updates": updates}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # five updates, or rates that are all too small, find none
        curve = find(model, X, y, lowest=lowest, highest=highest, **call)
    if curve.suggestion is not None:
        assert lowest <= curve.suggestion <= highest
        assert curve.suggestion >= curve.rates[min(10, updates // 5)]


def hopeless(case):
    """Return a model, rows and settings with which no rate makes the loss fall."""
    X, y, loss, end = standard_diabetes()
    model = gd.Sequential(end, inputs=10, dtype="float64", seed=1)
    if case == "trained":
        A = np.column_stack([X, np.ones(len(X))])
        best, *_ = np.linalg.lstsq(A, y, rcond=None)
        model.params["dense1.W"][...], model.params["dense1.b"][...] = best[:-1], best[-1]
        return model, X, y, {"loss": loss, "batch_size": None}
    if case == "exact":
        return model, X, model.predict(X), {"loss": loss, "batch_size": None}
    if case == "too small":
        return model, X, y, {"loss": loss, "lowest": 1e-12, "highest": 1e-9}
    return model, X, y, {"loss": loss, "updater": "sgd", "lowest": 1e5, "highest": 1e9}


@pytest.mark.parametrize("case", ["trained", "exact", "too small", "too large"])
def test_where_no_rate_makes_the_loss_fall_none_is_suggested_and_it_says_so(case):
    model, X, y, settings = hopeless(case)
    words = "no learning rate from .* made the loss fall: try other bo"
    with pytest.warns(UserWarning, match=words):
        curve = find(model, X, y, **settings)
    assert curve.suggestion is None
    if case.startswith("too"):
        # The remedy that the message names.
        bounds = {"lowest": 1e-7, "highest": 10.0}
        assert find(model, X, y, **{**settings, **bounds}).suggestion is not None


def test_a_curve_without_a_suggestion_is_drawn_without_one():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    ax = gd.RateCurve([0.1, 1.0], [2.0, 3.0], None).plot()
    pyplot.close(ax.figure)
    assert len(ax.get_lines()) == 1
    assert ax.get_legend() is None


def test_a_loss_of_ones_own_may_be_below_0():
    class Likelihood(gd.Loss):
        """A squared error less a constant."""

        def per_example(self, z, y):
            return (z - y)[:, 0] ** 2 - 1e3

        def gradient(self, z, y):
            return 2 * (z - y)

    X, y, _, _ = diabetes()
    found = []
    for loss in ("mse", Likelihood()):
        model = gd.Sequential([gd.Dense(1)], inputs=10, seed=1)
        found.append(find(model, X, y / 10, loss=loss, batch_size=None).suggestion)
    assert found[1] is not None
    assert 0.2 < found[1] / found[0] < 5


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lowest": 0.0}, "lowest must be above 0 and below highest, not 0, 10"),
        ({"lowest": 1.0, "highest": 1.0}, "lowest must be above 0 and below highest, not 1, 1"),
        ({"lowest": 2.0, "highest": 1.0}, "lowest must be above 0 and below highest, not 2, 1"),
        ({"lowest": -1.0}, "lowest must be a number, at least 0"),
        ({"highest": math.inf}, "highest must be a number, at least 0 and finite"),
        ({"updates": 1}, "updates must be an integer, at least 2"),
        ({"updates": 2.5}, "updates must be an integer, at least 2"),
        ({"loss": "msr"}, "unknown loss 'msr'"),
        ({"updater": "adamm"}, "unknown updater 'adamm'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(change, message):
    model, x = gd.Sequential([gd.Dense(1)], 4), rows()
    with pytest.raises(ValueError, match=message):
        find(model, x, x[:, 0], **{"loss": "mse", **change})


def test_a_loss_that_is_not_finite_at_the_lowest_rate_is_told():
    model, x = gd.Sequential([gd.Dense(1)], 4), rows()
    model.params["dense1.W"][...] = 1e30
    message = "the loss is not finite at the lowest rate, 1e-07"
    with pytest.raises(gd.DivergenceError, match=message):
        find(model, x, x[:, 0], loss="mse")


def test_rows_that_fill_no_batch_are_told_and_not_read_for_ever():
    x, passes = rows(10), []

    def pieces():
        passes.append(1)
        assert len(passes) < 50, "the rows are read again and again"
        yield x, x[:, 0]

    batches = gd.Batches(gd.IterableSource(pieces), batch_size=50, tail="drop")
    with pytest.raises(gd.DataError):
        find(gd.Sequential([gd.Dense(1)], 4), batches, loss="mse")


def test_columns_are_those_of_the_training_in_their_order():
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["a", "b"])
    y = x["a"] - 2 * x["b"]
    model = gd.Sequential([gd.Dense(1)], inputs=2, seed=0)
    model.fit(x, y, loss="mse", epochs=1, progress=False)
    source = gd.IterableSource([x.assign(y=y)], target="y", features=["b", "a"])
    for data in ((x[["b", "a"]], y), (gd.Batches(x[["b", "a"]], y),), (gd.Batches(source),)):
        with pytest.raises(gd.DataError, match="is 'b' and was 'a' in fit"):
            gd.find_learning_rate(model, *data, loss="mse", updates=10)
    assert gd.find_learning_rate(model, x, y, loss="mse", updates=10).rates
