"""Whether minigd works where it is installed: rows, gradients, training, files and tables.

The expected numbers are worked out here, and what needs an optional package is skipped without it.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigd as gd

X = np.random.default_rng(0).normal(size=(2300, 3))
WEIGHTS, BIAS = np.array([[2.0], [-1.0], [0.5]]), 3.0
Y = X @ WEIGHTS + BIAS


def test_2300_rows_are_cut_into_five_batches_that_lose_no_row() -> None:
    """The last batch has 300 rows, and each row is in one batch."""
    batches = gd.Batches(np.arange(2300.0).reshape(-1, 1), batch_size=500, shuffle=True, seed=1)
    assert batches.sizes == [500, 500, 500, 500, 300]
    rows = np.concatenate([batch.x for batch in batches]).ravel().tolist()
    assert rows != sorted(rows)
    assert sorted(rows) == list(range(2300))


def test_a_gradient_is_the_mean_over_the_batch() -> None:
    """The gradient of a dense layer under the squared error, from its formula."""
    model = gd.Sequential([gd.Dense(1)], inputs=3)
    loss = gd.MeanSquaredError()
    error = model.forward(X[:100], train=True) - Y[:100]
    assert loss.forward(model.forward(X[:100], train=True), Y[:100]) == pytest.approx(
        float((error**2).mean()), rel=1e-5
    )
    model.backward(loss.backward())
    np.testing.assert_allclose(model.grads["dense1.W"], 2 * X[:100].T @ error / 100, rtol=1e-4)
    np.testing.assert_allclose(model.grads["dense1.b"], 2 * error.mean(axis=0), rtol=1e-4)


def test_the_gradients_of_a_network_are_those_of_finite_steps() -> None:
    """The gradient checker compares each parameter, and finds a gradient that is wrong."""
    layers = [gd.Dense(4), gd.BatchNorm(), gd.Tanh(), gd.Dense(3), gd.Softmax()]
    model = gd.Sequential(layers, inputs=3, dtype="float64")
    target = np.arange(7) % 3
    errors = gd.check_gradients(model, "categorical_crossentropy", X[:7], target)
    assert max(errors.values()) < 1e-10

    class WithoutMean(gd.MeanSquaredError):
        """A loss whose gradient is a sum over the batch."""

        def gradient(self, z: gd.Array, y: gd.Array) -> gd.Array:
            """Return a gradient that is n times too large."""
            return super().gradient(z, y) * len(z)

    linear = gd.Sequential([gd.Dense(1)], inputs=3, dtype="float64")
    with pytest.raises(gd.GradientError):
        gd.check_gradients(linear, WithoutMean(), X[:7], Y[:7])


def test_training_finds_the_line_and_a_file_keeps_the_model(tmp_path: Path) -> None:
    """A linear model learns the weights that made the rows, and predicts the same from a file."""
    model = gd.Sequential([gd.Dense(1)], inputs=3)
    history = model.fit(
        X, Y, loss="mse", updater=gd.Adam(0.05), batch_size=500, epochs=60, shuffle=True
    )
    assert history["loss"][-1] < 1e-3 < history["loss"][0]
    np.testing.assert_allclose(model.params["dense1.W"], WEIGHTS, atol=0.05)
    np.testing.assert_allclose(model.params["dense1.b"], BIAS, atol=0.05)
    model.save(tmp_path / "model.npz")
    again = gd.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_a_csv_is_trained_on_batch_by_batch(tmp_path: Path) -> None:
    """The numbers, the text and the target of a file arrive as written."""
    pytest.importorskip("pandas", reason="a CSV needs pandas: pip install pandas pyarrow")
    lines = [f"{i},{'red' if i % 2 else 'blue'},{2 * i + 1}" for i in range(230)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["size,color,price", *lines]) + "\n", encoding="utf-8")
    source = gd.CsvSource(path, target="price", categories={"color": ["blue", "red"]})
    batches = gd.Batches(source, batch_size=50)
    assert [len(batch.x) for batch in batches] == [50, 50, 50, 50, 30]
    x = np.concatenate([batch.x for batch in batches])
    np.testing.assert_array_equal(x[:, source.names.index("size")], np.arange(230))
    np.testing.assert_array_equal(x[:, source.names.index("color=red")], np.arange(230) % 2)
    y = np.concatenate([batch.y for batch in batches])
    np.testing.assert_array_equal(y.ravel(), 2 * np.arange(230) + 1)


def test_the_command_says_its_version() -> None:
    """`python -m minigd` runs, in a process of its own."""
    command = [sys.executable, "-m", "minigd", "--version"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["minigd", gd.__version__]
