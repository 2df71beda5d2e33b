"""Memory: training needs memory for the largest batch, and no step adds to it.

The tests count the bytes that Python and NumPy allocate, and on a device those of its pool.
"""

import gc
import sys
import tracemalloc

import numpy as np
import pytest

import minigd as gd
from minigd.execution import threads


def rows(n, width=8):
    return np.random.default_rng(0).normal(size=(n, width))


def make_trainer(backend="numpy", **options):
    layers = [gd.Dense(16), gd.Tanh(), gd.Dense(16, "he_normal"), gd.ReLU(), gd.Dense(1)]
    model = gd.Sequential([*layers, gd.Sigmoid()], 8, backend=backend)
    return gd.Trainer(model, "binary_crossentropy", gd.Adam(1e-4), metrics=["accuracy"], **options)


@pytest.fixture
def traced(only_new_garbage, monkeypatch):
    """Give a function that returns the bytes in use, and the most since its last call."""
    # threadpoolctl writes a name at each call, and Python keeps some thousands of such names.
    monkeypatch.setattr(threads, "_libraries", lambda modules: [])
    tracemalloc.start()

    def usage():
        gc.collect()
        now, most = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        return now, most

    yield usage
    tracemalloc.stop()


# Room for counters, and for small objects that Python keeps for later: far below a float a step.
SLACK = 4000


@pytest.mark.parametrize("reuse", [True, False])
def test_three_hundred_steps_grow_nothing(traced, reuse):
    trainer = make_trainer(reuse_buffers=reuse)
    x = rows(230)
    batches = [(x[i : i + 50], x[i : i + 50, 0] > 0) for i in range(0, 230, 50)]

    def steps(count):
        for i in range(count):
            trainer.step(*batches[i % 5])

    steps(20)
    before, _ = traced()
    steps(300)
    after, most = traced()
    assert after - before < SLACK
    # Neither do they need more in between than a few arrays of a batch: 50 rows of 16 numbers
    # of float32, and the gradients and Adam's five vectors of 433.
    assert most - before < 20 * 50 * 16 * 4 + 10 * 433 * 4


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [True, False])
def test_two_hundred_epochs_grow_the_history_and_nothing_else(traced, shuffle):
    trainer, x = make_trainer(), rows(23)
    batches = gd.Batches(x, x[:, 0] > 0, batch_size=15, shuffle=shuffle)

    def history():
        return sum(
            sys.getsizeof(values) + sum(map(sys.getsizeof, values))
            for values in trainer.history.values()
        )

    trainer.fit(batches, epochs=20, validation_data=batches)
    before, known = traced()[0], history()
    trainer.fit(batches, epochs=200, validation_data=batches)
    after = traced()[0]
    assert after - before < history() - known + SLACK


@pytest.mark.slow
def test_two_hundred_fits_grow_the_history_and_nothing_else(traced):
    trainer, x = make_trainer(), rows(23)
    y = x[:, 0] > 0

    def fits(count):
        for _ in range(count):
            trainer.fit(x, y, batch_size=15)
            trainer.evaluate(x, y, batch_size=15)
            trainer.model.predict(x, batch_size=15)

    fits(20)
    before = traced()[0]
    fits(200)
    # Four columns of 200 floats of 24 bytes, and the lists' 8 for each with room to grow.
    assert traced()[0] - before < 4 * 200 * (24 + 2 * 8) + SLACK


def test_new_models_leave_nothing_behind(traced):
    x = rows(23)

    def models(count):
        for _ in range(count):
            make_trainer().fit(x, x[:, 0] > 0, batch_size=15)

    # NumPy keeps some small blocks for later, up to a limit that is soon reached.
    models(40)
    before = traced()[0]
    models(25)
    assert traced()[0] - before < SLACK


def test_predicting_needs_memory_for_a_batch_and_the_answer(traced):
    model, x = make_trainer().model, rows(100_000)
    model.predict(x[:1000])
    before = traced()[0]
    answer = model.predict(x, batch_size=1000)
    most = traced()[1]
    # At most six arrays of 1000 rows of 16 numbers at a time: outputs of all layers at once.
    assert most - before < answer.nbytes + 6 * 1000 * 16 * 4 + SLACK


def test_training_needs_memory_for_a_batch_and_not_for_the_data(traced):
    trainer, x = make_trainer(), rows(100_000)
    batches = gd.Batches(x, x[:, 0] > 0, batch_size=1000, shuffle=True)
    trainer.fit(batches)
    before = traced()[0]
    trainer.fit(batches)
    most = traced()[1]
    index = 100_000 * 8
    assert most - before < 1.1 * index + 10 * 1000 * 16 * 4
    assert most - before < x.nbytes / 4


def pool(backend):
    gc.collect()
    return backend.xp.get_default_memory_pool().used_bytes()


@pytest.mark.usefixtures("only_new_garbage")
def test_the_device_holds_no_more_after_many_epochs(device):
    trainer, x = make_trainer(device), rows(230)
    batches = gd.Batches(x, x[:, 0] > 0, batch_size=50, shuffle=True)
    trainer.fit(batches, epochs=3, validation_data=batches)
    before = pool(device)
    trainer.fit(batches, epochs=50, validation_data=batches)
    trainer.model.predict(x)
    assert pool(device) == before
