"""The summary: its numbers are those of what is really allocated, and it changes nothing.

Counted are the arrays of a real training at that batch size, and the bytes that Python asked for.
"""

import gc
import os
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from oracles import host_cuda

import minigd as gd
from minigd.insight.summary import Summary


def rows(n=50, width=4):
    return np.random.default_rng(0).normal(size=(n, width))


def lines_of(summary):
    """Return {first words: the rest of the line as words} of a summary."""
    found = {}
    for line in str(summary).splitlines():
        first, *rest = re.split(r"\s{2,}", line)
        found[first] = rest
    return found


def bytes_of(summary, what):
    """Return the bytes that a line of a summary tells."""
    lines = lines_of(summary)
    (line,) = [lines[first] for first in lines if first == what] or [
        lines[first] for first in lines if first.startswith(what)
    ]
    return int(re.match(r"([\d,]+) bytes", line[-1]).group(1).replace(",", ""))


# name: (layers, targets)
NETWORKS = {
    "plain": (lambda: [gd.Dense(10), gd.Tanh(), gd.Dense(1)], 1),
    "without biases": (lambda: [gd.Dense(7, bias=False), gd.Sigmoid(), gd.Dense(2)], 2),
    "everything": (
        lambda: [
            *(gd.Standardize(), gd.Dense(10), gd.BatchNorm(), gd.LeakyReLU(), gd.Dropout(0.5)),
            *(gd.Dense(6), gd.ReLU(), gd.Dense(2), gd.Rescale()),
        ],
        2,
    ),
    "ends in an activation": (lambda: [gd.Dense(8), gd.ReLU(), gd.Dense(3), gd.Softmax()], 3),
    "begins without parameters": (lambda: [gd.Tanh(), gd.BatchNorm(), gd.Dense(1)], 1),
}
networks = pytest.mark.parametrize(("layers", "outputs"), NETWORKS.values(), ids=NETWORKS)


def trained(layers, outputs, batch_size, updater="adam", backend="numpy", **options):
    x = rows(2 * batch_size + 1)
    batches = gd.Batches(x, abs(x[:, :outputs]), batch_size=batch_size, shuffle=True)
    dtype = options.pop("dtype", "float32")
    model = gd.Sequential(layers(), 4, dtype=dtype, backend=backend)
    if isinstance(model.layers[0], gd.Standardize):
        model.adapt(batches)
    trainer = gd.Trainer(model, "mse", updater, **options)
    trainer.fit(batches, epochs=2)
    return trainer


@pytest.mark.each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 2, 33, 100])
@networks
def test_work_arrays_are_those_of_a_real_training(backend, layers, outputs, batch_size, dtype):
    trainer = trained(layers, outputs, batch_size, backend=backend, dtype=dtype)
    summary = trainer.model.summary(batch_size)
    assert f"work arrays, n = {batch_size}" in lines_of(summary)
    assert bytes_of(summary, "work arrays") == held_by(trainer) > 0


def held_by(trainer):
    """Return the bytes that a trainer's steps work on."""
    compiled = trainer._loop.steps._compiled.values()
    return max([step.nbytes for step in compiled], default=trainer.model.workspace.nbytes)


def test_work_arrays_of_a_window_are_those_of_one_of_its_batches():
    layers, outputs = NETWORKS["everything"]
    trainer = trained(layers, outputs, 10, accumulate=4)
    assert bytes_of(trainer.model.summary(10), "work arrays") == trainer.model.workspace.nbytes


@pytest.mark.parametrize(
    ("last", "loss", "width"),
    [(gd.Sigmoid, "binary_crossentropy", 1), (gd.Softmax, "categorical_crossentropy", 3)],
)
def test_training_takes_no_more_where_the_last_activation_is_left_out(last, loss, width):
    model = gd.Sequential([gd.Dense(8), gd.Tanh(), gd.Dense(width), last()], 4)
    x = rows()
    model.fit(x, (x[:, 0] > 0).astype(int), loss=loss, batch_size=50)
    told, real = bytes_of(model.summary(50), "work arrays"), model.workspace.nbytes
    # What is left out has an output and a gradient of its input.
    assert real == told


class OwnBinary(gd.BinaryCrossEntropy):
    """Fixes the choice between logits and probabilities, so that nothing is left out for it."""

    def __init__(self):
        super().__init__()


class OwnSmoothed(gd.BinaryCrossEntropy):
    """Leaves the choice open, as its parent does."""


class OwnCategorical(gd.CategoricalCrossEntropy):
    """Fixes the choice too."""

    def __init__(self):
        super().__init__()


class OwnSigmoid(gd.Sigmoid):
    """May compute something else."""


class OwnProbabilities(gd.Loss):
    """Takes probabilities, and is no kind of cross-entropy that has another form."""

    takes_probabilities = True

    def per_example(self, z, y):
        return -np.log(np.where(y > 0.5, z, 1 - z)).mean(axis=1)

    def gradient(self, z, y):
        return np.where(y > 0.5, -1 / z, 1 / (1 - z)) / z.shape[1]


LOSSES = {
    "sigmoid": (gd.Sigmoid, gd.BinaryCrossEntropy),
    "sigmoid, fixed": (gd.Sigmoid, OwnBinary),
    "sigmoid, open": (gd.Sigmoid, OwnSmoothed),
    "sigmoid of one's own": (OwnSigmoid, gd.BinaryCrossEntropy),
    "sigmoid, squared error": (gd.Sigmoid, gd.MeanSquaredError),
    "sigmoid, loss of one's own": (gd.Sigmoid, OwnProbabilities),
    "softmax": (gd.Softmax, gd.CategoricalCrossEntropy),
    "softmax, fixed": (gd.Softmax, OwnCategorical),
    "softmax, yes or no": (gd.Softmax, gd.BinaryCrossEntropy),
    "tanh": (gd.Tanh, gd.MeanSquaredError),
    "rescale": (gd.Rescale, gd.MeanSquaredError),
}


@pytest.mark.parametrize(("last", "loss"), LOSSES.values(), ids=LOSSES)
def test_the_last_layer_is_counted_where_training_runs_it(last, loss):
    model = gd.Sequential([gd.Dense(5), last()], 4)
    y = np.eye(5)[np.arange(50) % 5]
    if last is gd.Rescale:
        model.adapt(gd.Batches(rows(), y))
    model.fit(rows(), y, loss=loss(), batch_size=50)
    assert bytes_of(model.summary(50), "work arrays") == model.workspace.nbytes > 0


def test_a_network_that_no_loss_would_take_has_a_summary_too():
    assert lines_of(gd.Sequential([gd.Dense(1), gd.Softmax()], 4).summary())["total"][0] == "5"


def test_a_thousand_rows_are_told_with_a_comma():
    summary = gd.Sequential([gd.Dense(1)], 1).summary(1000)
    line = next(line for line in str(summary).splitlines() if line.startswith("work"))
    assert " ".join(line.split()) == "work arrays, n = 1,000 4,000 bytes"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@networks
def test_parameters_are_counted_layer_by_layer(layers, outputs, dtype):
    model = gd.Sequential(layers(), 4, dtype=dtype)
    found = lines_of(model.summary())
    for layer in model.layers:
        assert found[layer.name][0] == f"(n, {layer.n_out})"
        own = [p.size for name, p in model.params.items() if name.startswith(layer.name + ".")]
        assert int(found[layer.name][1].replace(",", "")) == sum(own)
    total = sum(p.size for p in model.params.values())
    assert found["total"] == [str(total), f"{total * np.dtype(dtype).itemsize:,} bytes of {dtype}"]
    assert bytes_of(model.summary(), "total") == model.flat_params.nbytes
    assert bytes_of(model.summary(), "gradients") == model.flat_grads.nbytes


UPDATERS = {
    "sgd": gd.SGD,
    "momentum": lambda: gd.SGD(0.01, 0.9),
    "adam": gd.Adam,
    "adamw": gd.AdamW,
    "amsgrad": lambda: gd.Adam(amsgrad=True),
    "nadam": gd.Nadam,
    "radam": gd.RAdam,
    "rmsprop": gd.RMSprop,
    "adagrad": gd.Adagrad,
}


@pytest.mark.usefixtures("only_new_garbage")
@pytest.mark.parametrize("make", UPDATERS.values(), ids=UPDATERS)
def test_the_state_of_an_updater_is_what_its_first_update_leaves_behind(make):
    # A quarter of a million parameters, beside which nothing else is of any size.
    model, updater = gd.Sequential([gd.Dense(500)], 500), make()
    told = bytes_of(model.summary(updater=make()), f"state of {type(updater).__name__}")
    gc.collect()
    tracemalloc.start()
    try:
        updater.update(model)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert abs(held - told) < 0.01 * model.flat_params.nbytes


def test_an_updater_is_given_by_its_name_too_and_keeps_its_state():
    trainer = trained(*NETWORKS["plain"], 20)
    updater, before = trainer.updater, trainer.updater.state_dict()
    assert str(trainer.model.summary(updater=updater)) == str(trainer.model.summary(updater="adam"))
    assert trainer.updater is updater
    after = updater.state_dict()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    with pytest.raises(ValueError, match="unknown updater 'adamm'"):
        trainer.model.summary(updater="adamm")


@pytest.mark.few
@networks
def test_a_summary_changes_nothing(backend, layers, outputs):
    """A model in use, between a forward and its backward, goes on as if nobody had looked."""
    first, second = (trained(layers, outputs, 20, backend=backend) for _ in range(2))
    grads = []
    for trainer, look in ((first, True), (second, False)):
        model = trainer.model
        x = backend.asarray(rows(10))
        y = model.forward(x, train=True)
        if look:
            before = model.arrays(), model.passes, model.loss, model.workspace.nbytes
            assert isinstance(model.summary(1000), Summary)
            assert model.passes == before[1]
            assert model.loss is before[2]
            assert model.workspace.nbytes == before[3]
            for name, value in model.arrays().items():
                np.testing.assert_array_equal(value, before[0][name])
        dx = model.backward(y, input_gradient=True)
        grads.append([backend.to_numpy(model.flat_grads).copy(), backend.to_numpy(dx)])
    for one, other in zip(*grads, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_summary_asks_for_no_adaptation():
    model = gd.Sequential([gd.Standardize(), gd.Dense(2), gd.Rescale()], 4)
    assert "standardize1" in lines_of(model.summary())
    with pytest.raises(RuntimeError, match="has no mean and standard deviation yet"):
        model.predict(rows())


def test_it_shows_itself_as_a_table_wherever_it_is_shown():
    summary = gd.Sequential([gd.Dense(10), gd.Tanh(), gd.Dense(1)], 2).summary()
    assert repr(summary) == str(summary) == f"{summary}"
    assert [len(line) <= 80 for line in str(summary).splitlines()] == [True] * 10


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "5", None, True])
def test_a_batch_size_that_is_none_is_refused(batch_size):
    with pytest.raises(ValueError, match="batch_size must be an integer, at least 1"):
        gd.Sequential([gd.Dense(1)], 1).summary(batch_size)


# Columns of each layer, loss, and rows of a batch.
FORETOLD = [
    ((784, 256, 256, 10), "categorical_crossentropy", 256),
    ((64, 128, 128, 10), "categorical_crossentropy", 1024),
    ((100, 30, 100), "mse", 500),
    ((50, 20, 1), "binary_crossentropy", 500),
    ((20, 500), "categorical_crossentropy", 300),
]
# Each in a process of its own, where nothing else is freed meanwhile.
ON_A_GPU = f"""
import os, sys
from oracles import strict_cupy
sys.modules["cupy"] = strict_cupy
import numpy as np
import minigd as gd
def train(widths, loss, n):
    *hidden, last = widths[1:]
    end = {{"mse": [], "binary_crossentropy": [gd.Sigmoid()]}}.get(loss, [gd.Softmax()])
    layers = [layer for units in hidden for layer in (gd.Dense(units), gd.ReLU())]
    rng = np.random.default_rng(0)
    X = rng.random((3 * n, widths[0]), dtype="float32")
    y = rng.random((len(X), last), dtype="float32") if end == [] else rng.integers(0, 2, len(X))
    model = gd.Sequential([*layers, gd.Dense(last), *end], inputs=widths[0], backend="cupy")
    told = str(model.summary(n)).splitlines()[-1]
    gd.Trainer(model, loss, "adam").fit(gd.Batches(X, y, batch_size=n, shuffle=True), epochs=2)
    data = X.nbytes + y.nbytes
    peak = strict_cupy.get_default_memory_pool().total_bytes()
    print(int(told.split()[-2].replace(",", "")) + data, peak, flush=True)
for case in {FORETOLD}:
    if os.fork() == 0:
        train(*case)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each case is a fork of one process")
@pytest.mark.skipif(host_cuda.compiler() is None, reason=host_cuda.MISSING)
def test_what_a_gpu_hands_out_is_foretold():
    done = subprocess.run(
        [sys.executable, "-c", ON_A_GPU],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    found = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(found) == len(FORETOLD), done.stderr
    for foretold, peak in found:
        assert abs(foretold - peak) <= 0.05 * peak, found
