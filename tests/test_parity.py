"""The same seed gives the same weights, the same batches and, to rounding, the same training."""

import numpy as np
import pytest
import strict_cupy

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


@pytest.mark.parametrize("updater", [gd.SGD(0.1), gd.SGD(0.1, 0.9, True), gd.Adam(0.01)])
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

    # What an epoch reads (a flag, the rows, a loss and a metric) and what a fit reads (its checks of y) do
    # not depend on the number of steps.
    per_epoch = (steps(21) - steps(1)) / 20
    assert per_epoch == 4


def test_a_loss_that_is_not_finite_masks_its_update_and_all_after_it(stand_in):
    X, y = rows()
    model = network("cupy")
    trainer = gd.Trainer(model, "categorical_crossentropy", gd.Adam(0.01))
    batches = gd.Batches(X, y, batch_size=50)
    trainer.fit(batches)
    seen = []

    def spoil(event):
        if event.name == "update" and event.trainer.updates == 8:
            seen.append(model.backend.to_numpy(model.flat_params))
            X[150:200] = np.nan

    with pytest.raises(gd.DivergenceError, match="epoch 2, update 9"):
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
