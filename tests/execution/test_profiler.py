"""The line that says where the time of a fit went: its sums, its steps, and unchanged bits."""

import re

import numpy as np
import pytest

import minigd as gd
from minigd.execution.profiler import EVERY, Profiler
from minigd.execution.program import Operation

PARTS = ("matrix products", "elementwise", "updates and the loop", "reading")


def rows(n=3000):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 10))
    return X, X[:, :3].argmax(axis=1)


def trained(profile, layers=None, callbacks=(), **options):
    layers = layers or [gd.Dense(8), gd.ReLU(), gd.Dense(3), gd.Softmax()]
    model = gd.Sequential(layers, inputs=10)
    trainer = gd.Trainer(model, "categorical_crossentropy", "adam", **options)
    X, y = rows()
    trainer.fit(X, y, batch_size=10, profile=profile, callbacks=callbacks)
    return model.flat_params


def test_the_shares_are_of_the_whole(capsys):
    trained(True)
    line = capsys.readouterr().err.strip()
    assert re.match(r"\d+\.\d\d s over 300 steps, 1 plain, 299 by NumPy's calls: ", line)
    shares = {part: int(re.search(rf"{part} (-?\d+)%", line)[1]) for part in PARTS}
    assert abs(sum(shares.values()) - 100) <= 2  # each is rounded
    assert re.search(r"\([\d.]+ GFLOP/s; this machine's best: [\d.]+\)", line)


def test_a_fit_without_it_says_nothing(capsys):
    trained(False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("fast", [False, True])
def test_looking_changes_no_bit(fast, capsys):
    if fast:
        pytest.importorskip("numba")
    np.testing.assert_array_equal(trained(True, fast=fast), trained(False, fast=fast))


def test_of_plain_steps_the_whole_is_reported(capsys):
    trained(True, reuse_buffers=False)
    line = capsys.readouterr().err
    assert "300 steps, plain: training" in line
    assert "GFLOP" not in line


def test_compiled_steps_are_counted_in_chunks(capsys):
    pytest.importorskip("numba")
    trained(True, fast=True)
    assert "300 steps, compiled: training" in capsys.readouterr().err


def test_compiled_steps_that_are_made_for_a_callback_are_said_to_be(capsys):
    pytest.importorskip("numba")
    trained(True, callbacks=[lambda event: None], fast=True)
    assert "300 steps, compiled one by one: training" in capsys.readouterr().err


def test_one_step_in_many_is_sampled():
    profiler, sampled = Profiler(), 0
    for _ in range(10 * EVERY):
        profiler.begin_step(0.0)
        sampled += profiler.sampling
        profiler.end_step()
    assert sampled == 10


def test_products_are_counted_by_their_shapes():
    profiler = Profiler()
    a, b, out = np.ones((30, 50)), np.ones((50, 20)), np.empty((30, 20))
    profiler.run(
        [Operation("dot", np.dot, (a, b, out), 2), Operation("tanh", np.tanh, (out, out), 1)]
    )
    assert profiler._flops == 2 * 30 * 50 * 20
    np.testing.assert_array_equal(out, np.tanh(np.full((30, 20), 50.0)))


def test_no_step_that_is_sampled_warns(capsys):
    # From NumPy 2.4 on, maximum and minimum warn where the output has no name.
    assert len(trained(True, [gd.Dense(4), gd.Sigmoid(), gd.Dense(3), gd.Softmax()]))
