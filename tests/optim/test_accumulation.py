"""A window of batches equals one large batch, for any parts. Bad numbers in it change nothing."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from oracles.limit import Limit

import minigd as gd
from minigd.optim.accumulation import Accumulation

properties = examples(25)


def rows(n=23, width=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width))


# One large batch from its parts ------------------------------------------------------------------

NETWORKS = {
    "regression": (
        lambda: [gd.Dense(6), gd.Tanh(), gd.Dense(2)],
        gd.MeanSquaredError,
        lambda x: x[:, :2] ** 2,
    ),
    "huber": (
        lambda: [gd.Dense(5), gd.LeakyReLU(), gd.Dense(1)],
        lambda: gd.Huber(0.5),
        lambda x: x[:, 0],
    ),
    "quantiles": (
        lambda: [gd.Dense(5), gd.Tanh(), gd.Dense(3)],
        lambda: gd.Quantile([0.1, 0.5, 0.9]),
        lambda x: x[:, 0],
    ),
    "binary": (
        lambda: [gd.Dense(6, bias=False), gd.Sigmoid(), gd.Dense(1), gd.Sigmoid()],
        gd.BinaryCrossEntropy,
        lambda x: (x[:, 0] > 0).astype(int),
    ),
    "classes": (
        lambda: [gd.Dense(6), gd.ReLU(), gd.Dense(3), gd.Softmax()],
        lambda: gd.CategoricalCrossEntropy(label_smoothing=0.1),
        lambda x: (x[:, 0] > 0).astype(int) + (x[:, 1] > 0),
    ),
}


def make_trainer(network="classes", updater=None, backend="numpy", dtype="float64", **options):
    layers, loss, _ = NETWORKS[network]
    model = gd.Sequential(layers(), 4, backend=backend, dtype=dtype, seed=3)
    # Gradients of few sizes cancel in one order of a sum and leave 1e-17 in another, which Adam
    # divides by its own size.
    usual = gd.SGD(0.05) if network in ("huber", "quantiles") else gd.Adam(0.05)
    return gd.Trainer(model, loss(), updater or usual, **options)


class Gradients:
    """Notes the gradient of each update, and the loss that its event tells."""

    def __init__(self):
        self.seen, self.losses, self.names = [], [], []

    def __call__(self, event):
        to_numpy = event.trainer.model.backend.to_numpy
        self.names.append(event.name)
        if event.name == "update":
            self.seen.append(to_numpy(event.trainer.model.flat_grads).copy())
            self.losses.append(float(event.loss))


def of_windows(network, n, size, parts, weight, backend="numpy"):
    """Train one epoch in windows, and step by step on the rows of each window at once."""
    x = rows(n, seed=n)
    y = NETWORKS[network][2](x)
    backend = gd.get_backend(backend)
    windowed = make_trainer(network, backend=backend, accumulate=parts)
    notes = Gradients()
    # Shuffled, so that a window's rows are not a slice.
    batches = gd.Batches(x, y, batch_size=size, shuffle=True, seed=1, sample_weight=weight)
    order = np.concatenate([batch.rows for batch in batches.epoch(0)])
    windowed.fit(batches, callbacks=[notes])

    whole = make_trainer(network, backend=backend)
    gradients, losses = [], []
    for start in range(0, n, size * parts):
        chosen = order[start : start + size * parts]
        own = None if weight is None else weight[chosen]
        if own is not None and not own.any():
            continue
        value = whole.step(backend.asarray(x[chosen]), backend.asarray(y[chosen]), own)
        gradients.append(backend.to_numpy(whole.model.flat_grads).copy())
        losses.append(float(value))
    return windowed, notes, whole, gradients, losses


def assert_equal_windows(windowed, notes, whole, gradients, losses):
    assert windowed.updates == windowed.updater.step == len(gradients) == len(notes.seen)
    for found, expected in zip(notes.seen, gradients, strict=True):
        # The parameters of the two runs part by rounding, which a few updates do not blow up.
        assert abs(found - expected).max() <= 1e-12 * abs(expected).max()
    np.testing.assert_allclose(notes.losses, losses, rtol=1e-12)
    to_numpy = whole.model.backend.to_numpy
    found, expected = (to_numpy(t.model.flat_params) for t in (windowed, whole))
    assert abs(found - expected).max() <= 1e-12 * abs(expected).max()
    assert windowed._transaction.window.batches == 0


@examples(50)
@given(
    st.sampled_from(list(NETWORKS)),
    st.integers(1, 60),
    st.integers(1, 13),
    st.integers(1, 9),
    st.sampled_from(["none", "any", "whole", "with zeros"]),
)
def test_a_window_is_one_large_batch(network, n, size, parts, kind):
    rng = np.random.default_rng([n, size, parts])
    weight = {
        "none": None,
        "any": rng.uniform(0.1, 5, size=n),
        "whole": rng.integers(1, 6, size=n),
        "with zeros": rng.integers(0, 3, size=n) + np.eye(1, n)[0],
    }[kind]
    assert_equal_windows(*of_windows(network, n, size, parts, weight))


@pytest.mark.few
@pytest.mark.parametrize("weight", [None, np.random.default_rng(0).integers(0, 4, size=23)])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_window_is_one_large_batch_on_every_backend(backend, network, weight):
    # 23 rows in batches of 4 are 6, the last of 3; in windows of 4 the last has 2 of them.
    assert_equal_windows(*of_windows(network, 23, 4, 4, weight, backend))


def test_a_window_that_is_not_full_at_the_end_of_an_epoch_counts_by_what_it_holds(backend):
    trainer, notes = make_trainer(backend=backend, accumulate=4), Gradients()
    x = rows()
    history = trainer.fit(
        gd.Batches(x, NETWORKS["classes"][2](x), batch_size=4), epochs=2, callbacks=[notes]
    )
    an_epoch = [*["batch"] * 3, "update", "batch", "batch", "update", "epoch"]
    assert notes.names == ["start", *an_epoch, *an_epoch, "end", "done"]
    assert history["updates"] == [2.0, 4.0]
    # 16 rows and 7, where the mean of the two would count them alike; the parameters of an epoch's
    # second update are others, and so is its loss.
    means = np.reshape(notes.losses, (2, 2)) @ [16, 7] / 23
    np.testing.assert_allclose(history["loss"], means, rtol=1e-12)


def test_no_window_reaches_into_the_next_epoch():
    # 5 batches in windows of 5, 7 and 1000 are one update each.
    results = []
    for parts in (5, 7, 1000):
        trainer, x = make_trainer(accumulate=parts), rows(20)
        trainer.fit(gd.Batches(x, NETWORKS["classes"][2](x), batch_size=4), epochs=3)
        results.append((trainer.updates, trainer.model.flat_params.tobytes()))
    assert results[0][0] == 3
    assert results[0] == results[1] == results[2]


def test_steps_by_hand_make_an_update_of_as_many_batches():
    x, whole, parts = rows(12), make_trainer(), make_trainer(accumulate=3)
    y = NETWORKS["classes"][2](x)
    for count, some in enumerate((slice(0, 5), slice(5, 6), slice(6, 12)), start=1):
        before = parts.model.flat_params.copy()
        parts.step(x[some], y[some])
        assert parts.updates == count // 3
        assert (before == parts.model.flat_params).all() == (count < 3)
    whole.step(x, y)
    np.testing.assert_allclose(parts.model.flat_params, whole.model.flat_params, rtol=1e-12)


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
def test_a_number_of_parts_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="accumulate must be an integer, at least 1"):
        make_trainer(accumulate=value)


# Batches that do not count -----------------------------------------------------------------------


def weights_of_batches(*batches):
    """Return weights of 20 rows, one number for all four rows of a batch."""
    return np.repeat(np.array(batches, dtype=float), 4)


# (parts, weights of the five batches, whether an update is due after each, and after the last)
SILENT = {
    "in the middle": (3, (1, 0, 2, 1, 1), "--u--u"),
    "first": (3, (0, 1, 1, 1, 2), "--u--u"),
    "last of a window": (3, (1, 1, 0, 1, 2), "--u--u"),
    "the tail": (3, (1, 1, 1, 0, 0), "--u--"),
    "a whole window": (2, (1, 1, 0, 0, 1), "-u---u"),
    "the first window": (2, (0, 0, 1, 1, 0), "---u-"),
    "no window at all": (1, (1, 0, 1, 1, 0), "u-uu-"),
}


@pytest.mark.few
@pytest.mark.parametrize("rows_hold", ["numbers", "nan"])
@pytest.mark.parametrize(("parts", "weight", "due"), SILENT.values(), ids=SILENT)
def test_batches_of_weight_zero_take_their_place_and_add_nothing(
    backend, parts, weight, due, rows_hold
):
    x = rows(20)
    y, weight = NETWORKS["classes"][2](x), weights_of_batches(*weight)
    if rows_hold == "nan":
        x[weight == 0] = np.nan
    trainer = make_trainer(backend=backend, accumulate=parts, metrics=["accuracy"])
    notes = Gradients()
    data = gd.Batches(x, y, batch_size=4, sample_weight=weight)
    trainer.fit(data, epochs=2, callbacks=[notes])
    told = [name for name in notes.names if name in ("batch", "update")]
    assert told == [{"-": "batch", "u": "update"}[sign] for sign in due * 2]

    whole = make_trainer(backend=backend)
    for _ in range(2):
        for start in range(0, 20, 4 * parts):
            some = slice(start, start + 4 * parts)
            if weight[some].any():
                xs, ys = backend.asarray(x[some]), backend.asarray(y[some])
                whole.step(xs, ys, weight[some])
    assert trainer.updates == trainer.updater.step == whole.updates
    np.testing.assert_allclose(
        backend.to_numpy(trainer.model.flat_params),
        backend.to_numpy(whole.model.flat_params),
        rtol=1e-12,
    )


# Saved in the middle -----------------------------------------------------------------------------


def bits(trainer):
    to_numpy = trainer.model.backend.to_numpy
    vectors = [trainer.model.flat_params, *trainer.updater.state.values()]
    return b"".join(to_numpy(vector).tobytes() for vector in vectors)


def measured(history):
    return {name: values for name, values in history.items() if name != "seconds"}


def save_at(number, path):
    """Return a callback that stops and saves a run after a batch, or after the last update."""
    count = 0

    def callback(event):
        nonlocal count
        if event.name in ("batch", "update"):
            count += 1
            if count == number:
                event.trainer.stop()
                event.trainer.save(path)

    return callback


WEIGHTS = np.random.default_rng(2).uniform(0.1, 3, size=23)
WEIGHTS[[3, 4, 5, 11]] = 0


@pytest.mark.each
@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["rows", "weights"])
@pytest.mark.parametrize("number", range(1, 15))
def test_a_run_saved_inside_a_window_goes_on_to_the_bit(backend, tmp_path, number, weight):
    # 6 batches per epoch in windows of 4, and an update after the last.
    def batches():
        x = rows()
        y = NETWORKS["classes"][2](x)
        return gd.Batches(x, y, batch_size=4, shuffle=True, sample_weight=weight)

    def trainer():
        options = {"accumulate": 4, "l2": 0.01, "clip_norm": 1.0, "metrics": ["accuracy"]}
        return make_trainer(backend=backend, dtype="float32", **options)

    whole = trainer()
    whole.fit(batches(), epochs=3)
    cut, path = trainer(), tmp_path / "run.npz"
    cut.fit(batches(), epochs=3, callbacks=[save_at(number, path)])

    again = gd.Trainer.resume(path, batches(), backend=backend)
    assert again.accumulate == 4
    again.fit(until_epoch=3)
    assert bits(again) == bits(whole)
    assert measured(again.history) == measured(whole.history)
    # The run that was stopped and stayed in memory continues to the same result.
    cut.fit(until_epoch=3)
    assert bits(cut) == bits(whole)


@properties
@given(st.integers(1, 40), st.integers(1, 9), st.integers(2, 6), st.integers(1, 30), st.data())
def test_a_run_saved_anywhere_goes_on_to_the_bit(n, size, parts, number, data):
    weight = data.draw(st.sampled_from([None, np.random.default_rng(n).uniform(0, 2, size=n)]))

    def batches():
        x = rows(n)
        y = NETWORKS["classes"][2](x)
        return gd.Batches(x, y, batch_size=size, shuffle=True, sample_weight=weight)

    whole, cut = (make_trainer(dtype="float32", accumulate=parts) for _ in range(2))
    whole.fit(batches(), epochs=3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"
        cut.save(path)
        cut.fit(batches(), epochs=3, callbacks=[save_at(number, path)])
        again = gd.Trainer.resume(path, batches())
    again.fit(batches(), until_epoch=3)
    assert bits(again) == bits(whole)
    assert measured(again.history) == measured(whole.history)


def test_a_window_of_another_model_is_refused():
    backend = gd.get_backend("numpy")
    window = Accumulation(3)
    window.add(np.full(5, 0.5), 0.25, 1.0)
    window.batches = 1
    values = window.state_dict(backend)
    message = r"the gradient held in the file has shape \(5,\), not \(6,\)"
    with pytest.raises(gd.CheckpointError, match=message):
        Accumulation(3).load_state_dict(values, np.ones(6), backend)
    again = Accumulation(3)
    again.load_state_dict(values, np.ones(5), backend)
    g = np.zeros(5)
    assert again.write(g) == 0.25
    np.testing.assert_array_equal(g, 0.5)


# Bad numbers in the middle -----------------------------------------------------------------------


def fragile(backend, updater=None, **options):
    # The batch norm brings everything back, so that the loss stays finite.
    layers = [gd.Dense(5), Limit(), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.25), gd.Dense(2)]
    model = gd.Sequential(layers, 4, backend=backend, dtype="float64", seed=3)
    return gd.Trainer(model, "mse", updater or gd.Adam(0.05), metrics=["mae"], **options)


def everything(trainer):
    """Return all that a batch can change, on the host."""
    values = trainer.state_dict()
    window, totals = values["window"], values["totals"]
    return {
        **values["model"],
        **{f"updater {name}": value for name, value in values["updater"].items()},
        **{name: values[name] for name in ("passes", "updates", "epoch", "batch")},
        **{f"window {name}": window[name] for name in ("held", "weight", "loss")},
        # Nothing, or nothing but zeros: nothing either way.
        "window sum": 0.0 if window["sum"] is None else window["sum"],
        "weight of the epoch": totals["weight"],
        **{f"{name} of the epoch": totals["sums"].get(name, 0.0) for name in ("loss", "mae")},
    }


def assert_same(found, expected, but=()):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name not in but:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


class Capture:
    """Records everything after some batches, and after their update, if there is one."""

    def __init__(self, batches):
        self.batches, self.seen = batches, None

    def __call__(self, event):
        if event.name in ("start", "batch", "update") and event.trainer.epoch == 1:
            own = event.trainer.state_dict()["batch"]
            if own == self.batches:
                self.seen = everything(event.trainer)


# 27 rows in batches of 4 are 7, the last of 3; in windows of 3 the last is of one batch.
LAST = 6


def seven(x, weight=None, size=4):
    return gd.Batches(x, x[:, :2].copy(), batch_size=size, sample_weight=weight)


def captured(backend, x, weight, batch, **options):
    """Return everything of a run on good rows, before a batch of its second epoch."""
    twin, capture = fragile(backend, **options), Capture(batch)
    twin.fit(seven(x, weight))
    twin.fit(epochs=1, callbacks=[capture])
    return capture.seen


@pytest.mark.each
@pytest.mark.parametrize("silent", [None, 1, 2])
@pytest.mark.parametrize("bad", range(LAST + 1))
def test_nan_in_a_window_leaves_everything_as_it_was_before_its_batch(backend, bad, silent):
    """On the CPU the run stops there. A GPU continues, and returns to it at the epoch's end."""
    x = rows(27)
    good, weight = x.copy(), None
    if silent is not None:
        # A batch of weight 0 after the bad one takes its place.
        weight = np.ones(27)
        weight[4 * (bad + silent) : 4 * (bad + silent) + 4] = 0
    trainer, whole = (fragile(backend, accumulate=3) for _ in range(2))
    data = seven(x, weight)
    trainer.fit(data)
    update = trainer.updates + bad // 3 + 1
    x[4 * bad, :] = 1e4
    name = r"the gradient of dense1\.[Wb] is not finite"
    place = f"at epoch 2, update {update}: the parameters were restored"
    with pytest.raises(gd.DivergenceError, match=f"{name} {place}"):
        trainer.fit(data)
    assert_same(everything(trainer), captured(backend, good, weight, bad, accumulate=3))

    # What was kept is good to go on from, once the reason is gone.
    x[...] = good
    trainer.fit(data, until_epoch=3)
    whole.fit(seven(good, weight), epochs=3)
    assert bits(trainer) == bits(whole)
    assert measured(trainer.history) == measured(whole.history)


@pytest.mark.parametrize("bad", [1, 4])
def test_nan_in_a_window_is_told_when_a_run_is_saved(backend, tmp_path, bad):
    x = rows(27)
    good = x.copy()
    trainer, path = fragile(backend, accumulate=3), tmp_path / "run.npz"
    data = seven(x)
    trainer.fit(data)
    trainer.save(path)
    before = path.read_bytes()
    x[4 * bad, :] = 1e4

    def save(event):
        if event.rows is not None and event.rows.start == 4 * (bad + 1):
            event.trainer.save(path)

    # The CPU does not get as far as the saving.
    with pytest.raises(gd.DivergenceError, match=r"dense1\.[Wb] is not finite at epoch 2, update"):
        trainer.fit(data, callbacks=[save])
    assert path.read_bytes() == before
    assert_same(everything(trainer), captured(backend, good, None, bad, accumulate=3))
    x[...] = good
    trainer.save(path)
    again = gd.Trainer.resume(path, seven(good), custom=[Limit], backend=backend)
    again.fit(until_epoch=3)
    whole = fragile(backend, accumulate=3)
    whole.fit(seven(good), epochs=3)
    assert bits(again) == bits(whole)


def test_nan_in_a_window_of_steps_by_hand(backend):
    x = rows(12)
    trainer, twin = (fragile(backend, accumulate=3) for _ in range(2))
    bad = x.copy()
    bad[5] = 1e4
    for t in (trainer, twin):
        t.step(backend.asarray(x[:4]), backend.asarray(x[:4, :2]))
    before = everything(twin)

    with pytest.raises(gd.DivergenceError, match="is not finite at epoch 1, update 1"):
        trainer.step(backend.asarray(bad[4:8]), backend.asarray(x[4:8, :2]))
    assert_same(everything(trainer), before)
    for t in (trainer, twin):
        for some in (slice(4, 8), slice(8, 12)):
            t.step(backend.asarray(x[some]), backend.asarray(x[some, :2]))
    assert trainer.updates == 1
    assert bits(trainer) == bits(twin)


@pytest.mark.each
@pytest.mark.parametrize("silent", [None, 2, 6], ids=["all count", "third silent", "last silent"])
@pytest.mark.parametrize(("parts", "update"), [(1, 1), (1, 3), (3, 1), (3, 2), (3, 3), (2, 4)])
def test_an_update_that_is_too_large_leaves_everything_as_it_was(backend, parts, update, silent):
    """The gradient is good and the step is not: in an epoch's middle, and in its short window."""
    x, weight = rows(27), np.ones(27)
    if silent is not None:
        # A batch of weight 0 may close a window, or be all there is in the last one.
        weight[4 * silent : 4 * silent + 4] = 0
    trainer, whole = (fragile(backend, gd.SGD(0.05), accumulate=parts) for _ in range(2))
    trainer.fit(seven(x, weight))
    first = trainer.updates
    if update > first:
        pytest.skip("the last window is silent, and makes no update")

    def enlarge(event):
        if event.trainer.updates == first + update - 1:
            event.trainer.updater.learning_rate = 1e308

    whole.fit(seven(x, weight))
    for t in (trainer, whole):
        t.model.params["dense2.b"][...] = 30.0
    with pytest.raises(gd.DivergenceError, match=f"at epoch 2, update {first + update}: the par"):
        trainer.fit(epochs=1, callbacks=[enlarge])
    assert trainer.updates == trainer.updater.step == first + update - 1
    assert trainer.epoch == 1
    assert np.isfinite(trainer.model.backend.to_numpy(trainer.model.flat_params)).all()

    trainer.updater.learning_rate = 0.05
    trainer.fit(until_epoch=3)
    whole.fit(epochs=2)
    assert bits(trainer) == bits(whole)
    assert measured(trainer.history) == measured(whole.history)
