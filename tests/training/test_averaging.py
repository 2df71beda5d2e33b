"""The average of the parameters against a sum over all of them, and BatchNorm's statistics."""

import numpy as np
import pytest

import minigd as gd

X = np.random.default_rng(0).normal(size=(50, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.1
WEIGHT = np.random.default_rng(1).integers(0, 3, size=50).astype(float)


def batches(**options):
    return gd.Batches(X, Y, batch_size=8, shuffle=True, seed=3, **options)


def trainer(backend="numpy", dtype="float64", **options):
    layers = [gd.BatchNorm(), gd.Dense(4), gd.Dropout(0.2), gd.BatchNorm(), gd.Tanh(), gd.Dense(1)]
    model = gd.Sequential(layers, 3, dtype=dtype, seed=1, backend=backend)
    return gd.Trainer(model, "mse", gd.Adam(0.01), **options)


class Path:
    """Notes the parameters after each update."""

    def __init__(self):
        self.params = []

    def __call__(self, event):
        if event.name == "update":
            model = event.trainer.model
            self.params.append(model.backend.to_numpy(model.flat_params).astype("float64"))

    def average(self, decay):
        weights = [decay**age for age in reversed(range(len(self.params)))]
        return np.average(self.params, axis=0, weights=weights)


def by_hand(model, x):
    """Return what the running statistics must be: those of each layer's input, layer by layer."""
    params = {n: model.backend.to_numpy(p).astype("float64") for n, p in model.params.items()}
    found = [x.mean(axis=0), x.var(axis=0, ddof=1)]
    scale = params["batchnorm1.gamma"] / np.sqrt(found[1] + 1e-5)
    z = (x - found[0]) * scale + params["batchnorm1.beta"]
    z = z @ params["dense1.W"] + params["dense1.b"]
    return [*found, z.mean(axis=0), z.var(axis=0, ddof=1)]


def statistics(model):
    layers = [layer for layer in model.layers if isinstance(layer, gd.BatchNorm)]
    return [
        model.backend.to_numpy(layer.buffers[name])
        for layer in layers
        for name in ("mean", "variance")
    ]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("options", [{}, {"accumulate": 3}])
@pytest.mark.each
def test_the_model_is_left_with_the_average_and_its_statistics(backend, decay, dtype, options):
    made, path = trainer(backend, dtype, **options), Path()
    made.fit(batches(), epochs=3, callbacks=[path, gd.AverageWeights(decay)])
    digits = 1e-12 if dtype == "float64" else 1e-6
    found = backend.to_numpy(made.model.flat_params)
    np.testing.assert_allclose(found, path.average(decay), rtol=digits, atol=digits)
    for value, wanted in zip(statistics(made.model), by_hand(made.model, X), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=10 * digits, atol=10 * digits)


def test_rows_of_weight_0_are_not_in_the_statistics():
    made = trainer()
    made.fit(batches(sample_weight=WEIGHT), epochs=2, callbacks=[gd.AverageWeights(0.5)])
    wanted = by_hand(made.model, X[WEIGHT > 0])
    for value, expected in zip(statistics(made.model), wanted, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-11, atol=1e-12)


def test_statistics_that_are_not_trained_stay():
    made = trainer()
    made.fit(batches(), epochs=1)
    made.model.layers[3].trainable = False
    before = [value.copy() for value in statistics(made.model)]
    again = gd.Trainer(made.model, "mse", gd.Adam(0.01))
    again.fit(batches(), epochs=1, callbacks=[gd.AverageWeights(0.9)])
    same = [np.array_equal(*pair) for pair in zip(statistics(made.model), before, strict=True)]
    assert same == [False, False, True, True]


def test_training_is_the_same_with_it_and_goes_on_from_the_last_parameters():
    plain, made = trainer(), trainer()
    average = gd.AverageWeights(0.9)
    plain.fit(batches(), epochs=5)
    for _ in range(5):
        made.fit(batches(), epochs=1, callbacks=[average])
    assert made.history["loss"] == plain.history["loss"]
    whole, path = trainer(), Path()
    whole.fit(batches(), epochs=5, callbacks=[gd.AverageWeights(0.9), path])
    assert whole.model.flat_params.tobytes() == made.model.flat_params.tobytes()
    np.testing.assert_array_equal(path.params[-1], plain.model.flat_params)


def test_it_is_saved_with_the_model(tmp_path):
    made = trainer()
    made.fit(batches(), epochs=2, callbacks=[gd.AverageWeights(0.9)])
    made.model.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(gd.load(tmp_path / "m.npz").predict(X), made.model.predict(X))
    assert made.evaluate(X, Y)["loss"] == made.model.evaluate(X, Y)["loss"]


def stop_at(update):
    def callback(event):
        if event.trainer.updates == update and event.name == "update":
            event.trainer.stop()

    return callback


@pytest.mark.parametrize("update", [1, 7, 10])
@pytest.mark.parametrize("way", ["checkpoint", "save after fit"])
@pytest.mark.each
def test_a_resumed_run_ends_with_the_same_average(tmp_path, update, way):
    whole = trainer()
    whole.fit(batches(), epochs=3, callbacks=[gd.AverageWeights(0.9)])
    cut, path = trainer(), tmp_path / "run.npz"
    callbacks = [stop_at(update), gd.AverageWeights(0.9)]
    if way == "checkpoint":
        callbacks.append(gd.Checkpoint(path))
    cut.fit(batches(), epochs=3, callbacks=callbacks)
    if way != "checkpoint":
        cut.save(path)
    again = gd.Trainer.resume(path, batches())
    again.fit(until_epoch=3, callbacks=[gd.AverageWeights(0.9)])
    for name, value in whole.model.arrays().items():
        np.testing.assert_array_equal(again.model.arrays()[name], value)
    assert again.history["loss"] == whole.history["loss"]


def test_it_can_be_evaluated_while_the_training_goes_on():
    average, path, found = gd.AverageWeights(0.9), Path(), []

    def look(event):
        if event.name == "epoch":
            run = event.trainer
            before = run.model.arrays()
            with average.applied(run):
                wanted = path.average(0.9)
                np.testing.assert_allclose(run.model.flat_params, wanted, rtol=1e-12, atol=1e-14)
                found.append(run.evaluate(X, Y)["loss"])
            for name, value in run.model.arrays().items():
                np.testing.assert_array_equal(value, before[name])

    made, plain = trainer(), trainer()
    made.fit(batches(), epochs=3, callbacks=[path, average, look])
    assert found[-1] == made.evaluate(X, Y)["loss"]
    plain.fit(batches(), epochs=3)
    assert made.history["loss"] == plain.history["loss"]


def test_another_trainer_begins_another_average():
    average, path = gd.AverageWeights(0.9), Path()
    trainer().fit(batches(), epochs=2, callbacks=[average])
    made = trainer()
    made.fit(batches(), epochs=1, callbacks=[average, path])
    assert average.count == 7
    np.testing.assert_allclose(made.model.flat_params, path.average(0.9), rtol=1e-12, atol=1e-14)


def test_a_fit_without_an_update_leaves_the_model_alone():
    made = trainer()
    before = made.model.flat_params.copy()
    made.fit(batches(), epochs=0, callbacks=[gd.AverageWeights(0.9)])
    np.testing.assert_array_equal(made.model.flat_params, before)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, np.nan, "0.9", None, True])
def test_a_decay_that_makes_no_sense_is_refused(decay):
    with pytest.raises(ValueError, match="decay must be a number, at least 0 and below 1, not"):
        gd.AverageWeights(decay)


@pytest.mark.parametrize(
    "other",
    [
        lambda own: gd.AverageWeights(0.5),
        lambda own: own,
        lambda own: gd.EarlyStopping("loss"),
    ],
    ids=["another average", "the same twice", "early stopping"],
)
@pytest.mark.parametrize("first", [True, False])
def test_one_callback_has_the_last_word(other, first):
    made, own = trainer(), gd.AverageWeights(0.9)
    before = made.model.flat_params.copy()
    callbacks = [own, other(own)] if first else [other(own), own]
    with pytest.raises(ValueError, match="both replace the model's parameters at the end of fit"):
        made.fit(batches(), epochs=2, callbacks=callbacks)
    np.testing.assert_array_equal(made.model.flat_params, before)


def test_an_average_beside_early_stopping_that_restores_nothing():
    made, path = trainer(), Path()
    stopping = gd.EarlyStopping("loss", restore_best=False)
    made.fit(batches(), epochs=2, callbacks=[path, stopping, gd.AverageWeights(0.9)])
    np.testing.assert_allclose(made.model.flat_params, path.average(0.9), rtol=1e-12, atol=1e-14)
