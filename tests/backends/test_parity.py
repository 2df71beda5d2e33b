"""The same seed gives the same weights, the same batches and, to rounding, the same training."""

import numpy as np
import pytest
from oracles import strict_cupy

import minigd as gd


def network(backend, dtype="float32"):
    layers = [gd.Dense(8), gd.Tanh(), gd.Dense(8, "he_normal"), gd.ReLU(), gd.Dense(3)]
    return gd.Sequential([*layers, gd.Softmax()], inputs=4, backend=backend, dtype=dtype, seed=5)


def rows(n=230):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 4))
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def test_initial_weights_are_bitwise_the_same(backend):
    model = network(backend)
    assert model.backend.holds(model.flat_params)
    expected = network("numpy").flat_params
    np.testing.assert_array_equal(backend.to_numpy(model.flat_params), expected)


def test_batches_come_in_the_same_order_to_the_bit(backend):
    X, y = rows()
    batches = gd.Batches(X, y, batch_size=50, shuffle=True, seed=3)
    there = batches.on(backend)
    for epoch in range(3):
        for one, other in zip(batches.epoch(epoch), there.epoch(epoch), strict=True):
            assert backend.holds(other.x)
            np.testing.assert_array_equal(backend.to_numpy(other.x), one.x)
            np.testing.assert_array_equal(backend.to_numpy(other.y), one.y)
            np.testing.assert_array_equal(backend.to_numpy(other.rows), one.rows)


@pytest.mark.few
@pytest.mark.parametrize(
    "updater",
    [
        gd.SGD(0.1),
        gd.SGD(0.1, 0.9, True),
        gd.Adam(0.01),
        gd.AdamW(gd.WarmUp(gd.CosineDecay(0.01, epochs=4), updates=3)),
        gd.Adam(0.01, amsgrad=True),
        gd.Nadam(0.01),
        gd.RAdam(0.01),
        gd.RMSprop(0.01),
        gd.Adagrad(0.1),
    ],
    ids=lambda updater: type(updater).__name__,
)
def test_training_agrees_with_numpy_to_rounding(backend, updater):
    X, y = rows()
    results = []
    for where in (gd.get_backend("numpy"), backend):
        model = network(where, dtype="float64")
        history = model.fit(
            X,
            y,
            loss="categorical_crossentropy",
            updater=updater,
            batch_size=50,
            epochs=4,
            metrics=["accuracy"],
            validation_data=(X, y),
        )
        results.append((where.to_numpy(model.flat_params), history, model.predict(X)))
    (params, history, predicted), (other, other_history, other_predicted) = results
    np.testing.assert_allclose(other, params, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other_predicted, predicted, rtol=1e-9, atol=1e-12)
    for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(other_history[key], history[key], rtol=1e-9)


def all_of_it(backend, dtype="float32"):
    """Return a network with every layer, and the options of training with everything at once."""
    layers = [gd.Dense(8, bias=False), gd.BatchNorm(), gd.LeakyReLU(), gd.Dropout(0.25)]
    layers += [gd.LayerNorm(), gd.GELU(), gd.ELU(), gd.SiLU(), gd.Softplus()]
    layers += [gd.Residual([gd.BatchNorm(), gd.Dense(6), gd.Dropout(0.1), gd.Dense(8)])]
    layers += [gd.Dense(8), gd.Tanh(), gd.Dropout(0.1), gd.Dense(3), gd.Softmax()]
    model = gd.Sequential(layers, inputs=4, backend=backend, dtype=dtype, seed=5)
    options = {"accumulate": 2, "l1": 0.001, "l2": 0.01, "clip_norm": 1.0, "clip_value": 0.3}
    return model, {"loss": gd.CategoricalCrossEntropy(label_smoothing=0.1), **options}


def test_training_with_everything_at_once_agrees_with_numpy_to_rounding(backend):
    X, y = rows()
    weight = np.random.default_rng(2).integers(0, 3, size=230)
    weight[100:150] = 0
    results = []
    for where in (gd.get_backend("numpy"), backend):
        model, options = all_of_it(where, "float64")
        history = model.fit(
            X,
            y,
            **options,
            updater=gd.AdamW(gd.StepDecay(0.01, epochs=2)),
            batch_size=25,
            epochs=4,
            shuffle=False,
            sample_weight=weight,
            class_weight="balanced",
            metrics=["accuracy", "f1"],
            validation_data=(X, y, weight),
        )
        buffers = [
            where.to_numpy(layer.buffers[n]) for layer in model.layers for n in layer.buffers
        ]
        results.append((where.to_numpy(model.flat_params), np.concatenate(buffers), history))
    (params, buffers, history), (other, other_buffers, other_history) = results
    np.testing.assert_allclose(other, params, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other_buffers, buffers, rtol=1e-9)
    for key in history:
        if key != "seconds":
            np.testing.assert_allclose(other_history[key], history[key], rtol=1e-9)


def test_rows_on_the_device_are_gathered_there(backend):
    X, y = rows()
    model = network(backend)
    X, y = backend.asarray(X, dtype="float32"), backend.asarray(y)
    history = model.fit(X, y, loss="categorical_crossentropy", batch_size=50, epochs=2)
    assert history.epochs == 2
    assert backend.holds(model.predict(X))
    assert model.evaluate(X, y)["loss"] > 0


def test_no_step_reads_a_value_from_the_device(stand_in):
    X, y = rows()
    model = network("cupy")
    trainer = gd.Trainer(model, "categorical_crossentropy", "adam", metrics=["accuracy"])
    batches = gd.Batches(
        stand_in.asarray(X, dtype="float32"), stand_in.asarray(y), batch_size=50, shuffle=True
    )
    trainer.fit(batches)

    def steps(epochs):
        with strict_cupy.counting_host_reads() as reads:
            trainer.fit(batches, epochs=epochs)
        return reads.count

    # An epoch reads a flag, a loss and a metric, and a fit what its checks of y need:
    # neither depends on the number of steps.
    per_epoch = (steps(21) - steps(1)) / 20
    assert per_epoch == 3


@pytest.mark.slow
def test_a_thousand_steps_in_a_row_read_nothing(stand_in):
    X, y = rows(2000)
    model = network("cupy")
    trainer = gd.Trainer(model, "categorical_crossentropy", "adam", metrics=["accuracy"])
    counts = []

    class Counted(gd.Batches):
        def epoch(self, *place):
            for batch in super().epoch(*place):
                counts.append(strict_cupy.host_reads.count)
                yield batch

    trainer.fit(Counted(X, y, batch_size=2))
    assert len(counts) == 1000
    assert counts[-1] - counts[0] == 0


@pytest.mark.slow
@pytest.mark.few(1)
@pytest.mark.parametrize("weighted", [False, True])
def test_no_step_reads_a_value_with_everything_at_once(stand_in, weighted):
    X, y = rows()
    model, options = all_of_it("cupy")
    weight = np.random.default_rng(2).integers(0, 3, size=230) if weighted else None
    x, y = stand_in.asarray(X, dtype="float32"), stand_in.asarray(y)

    def reads(batch_size):
        batches = gd.Batches(x, y, batch_size=batch_size, shuffle=True, sample_weight=weight)
        trainer = gd.Trainer(
            model, **{"updater": gd.AdamW(gd.CosineDecay(0.01, epochs=9)), **options}
        )
        trainer.fit(batches)
        with strict_cupy.counting_host_reads() as counted:
            trainer.fit(batches, epochs=3)
        return counted.count

    # 23 batches an epoch, or three, each with a last window of one: what is read is the same.
    assert reads(10) == reads(77)


def test_a_loss_that_is_not_finite_leaves_all_as_it_was_before_its_update(stand_in):
    X, y = rows()
    # Rows that came over whole would not be seen to change.
    model = network(gd.get_backend("cupy", device_budget=0))
    trainer = gd.Trainer(model, "categorical_crossentropy", gd.Adam(0.01))
    batches = gd.Batches(X, y, batch_size=50)
    trainer.fit(batches)
    seen = []

    def spoil(event):
        if event.name == "update" and event.trainer.updates == 8:
            seen.append(model.backend.to_numpy(model.flat_params))
            X[150:200] = np.nan

    with pytest.raises(gd.DataError, match="x holds nan at row 150"):
        trainer.fit(batches, callbacks=[spoil])
    np.testing.assert_array_equal(stand_in.to_numpy(model.flat_params), seen[0])
    assert trainer.updates == trainer.updater.step == 8


def test_moving_a_model_and_its_updater(backend):
    X, y = rows()
    results = []
    for target in (None, backend):
        model = network("numpy", dtype="float64")
        trainer = gd.Trainer(model, "categorical_crossentropy", gd.Adam(0.01))
        batches = gd.Batches(X, y, batch_size=50, shuffle=True)
        trainer.fit(batches, epochs=2)
        if target is not None:
            model.to(target)
            assert target.holds(model.params["dense1.W"])
        trainer.fit(batches, epochs=2)
        results.append(model.backend.to_numpy(model.flat_params))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-9, atol=1e-12)
