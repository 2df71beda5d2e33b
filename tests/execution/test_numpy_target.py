"""A step as NumPy's calls gives the same bits as the layers, or is not used.

Each comparison trains twice: with `reuse_buffers`, and without, where each step is plain.
"""

import threading

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from oracles.interpreted import interpreted

import minigd as gd
from minigd.execution import plain, runner, shipped
from minigd.execution.plain import Step, no_update
from minigd.execution.runner import Steps
from minigd.execution.targets import numpy as target
from minigd.execution.targets.numpy import NumpyStep
from minigd.execution.tracer import NotTraceable, Traced, Update
from minigd.nn.objective import Objective
from minigd.optim.gradient_transforms import Clipping, Penalty

HIDDEN = {
    "tanh": lambda: gd.Tanh(),
    "sigmoid": lambda: gd.Sigmoid(),
    "relu": lambda: gd.ReLU(),
    "leaky": lambda: gd.LeakyReLU(0.1),
    "softmax": lambda: gd.Softmax(),
    "elu": lambda: gd.ELU(0.7),
    "gelu": lambda: gd.GELU(),
    "gelu by tanh": lambda: gd.GELU(approximate=True),
    "silu": lambda: gd.SiLU(),
    "softplus": lambda: gd.Softplus(),
    "norm": lambda: gd.BatchNorm(),
    "layer norm": lambda: gd.LayerNorm(),
    "residual": lambda: gd.Residual([gd.BatchNorm(), gd.Dropout(0.2), gd.Residual([gd.Tanh()])]),
}
ENDS = {
    "mse": (lambda: [], 2),
    "huber": (lambda: [], 2),
    "mae": (lambda: [], 2),
    "quantile": (lambda: [], 2),
    "poisson": (lambda: [], 2),
    "hinge": (lambda: [], 3),
    "focal": (lambda: [gd.Sigmoid()], 2),
    "binary_crossentropy": (lambda: [gd.Sigmoid()], 2),
    "categorical_crossentropy": (lambda: [gd.Softmax()], 3),
}


def rows(n, width, loss, outputs, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, outputs))
    if loss in ("binary_crossentropy", "focal", "poisson"):
        y = (y > 0).astype("int64")
    elif loss in ("categorical_crossentropy", "hinge"):
        y = y.argmax(axis=1)
    return rng.normal(size=(n, width)), y


def network(hidden, width, units, loss, dtype="float32", bias=True, start=()):
    end, outputs = ENDS[loss]
    layers = [gd.Dense(units, bias=bias), HIDDEN[hidden](), gd.Dense(outputs)]
    return gd.Sequential([*start, *layers, *end()], inputs=width, dtype=dtype, seed=3)


def trained(model, loss, X, y, batch_size, replay, epochs=3, **options):
    trainer = gd.Trainer(model, loss, gd.Adam(0.01), reuse_buffers=replay, **options)
    history = trainer.fit(X, y, batch_size=batch_size, epochs=epochs)
    buffers = [b.copy() for layer in model.layers for b in layer.buffers.values()]
    return trainer, history, [model.flat_params.copy(), model.flat_grads.copy(), *buffers]


def traced(trainer):
    return [r for r in trainer._loop.steps._numpy.values() if r is not None]


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 17),
    width=st.integers(1, 6),
    units=st.integers(1, 6),
    hidden=st.sampled_from(sorted(HIDDEN)),
    loss=st.sampled_from(sorted(ENDS)),
    dtype=st.sampled_from(["float32", "float64"]),
    bias=st.booleans(),
)
@examples(25)
def test_a_replay_gives_the_bits_of_the_layers(
    n, batch_size, width, units, hidden, loss, dtype, bias
):
    X, y = rows(n, width, loss, ENDS[loss][1])
    results = []
    for replay in (True, False):
        model = network(hidden, width, units, loss, dtype, bias)
        trainer, history, arrays = trained(model, loss, X, y, batch_size, replay)
        assert bool(traced(trainer)) == replay
        results.append((history["loss"], model.passes, arrays))
    (losses, passes, arrays), (other_losses, other_passes, others) = results
    assert losses == other_losses
    assert passes == other_passes
    for one, other in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.few
@pytest.mark.parametrize("hidden", sorted(HIDDEN))
@pytest.mark.parametrize("loss", sorted(ENDS))
def test_layers_too_large_for_one_slice_are_replayed_alike(hidden, loss):
    X, y = rows(300, 20, loss, ENDS[loss][1])
    arrays = []
    for replay in (True, False):
        model = network(hidden, 20, 150, loss)
        trainer, _, results = trained(model, loss, X, y, 128, replay, epochs=2)
        assert bool(traced(trainer)) == replay
        arrays.append(results)
    for one, other in zip(*arrays, strict=True):
        np.testing.assert_array_equal(one, other)


def test_standardised_columns_and_targets_in_their_units_are_replayed():
    X, y = rows(90, 4, "mse", 1)
    X, y = 1000 * X + 5, 300 * y
    results = []
    for replay in (True, False):
        layers = [gd.Standardize(), gd.Dense(3), gd.Tanh(), gd.Dense(1), gd.Rescale()]
        model = gd.Sequential(layers, inputs=4)
        model.adapt(gd.Batches(X, y))
        trainer, _, arrays = trained(model, "mse", X, y, 20, replay, metrics=["mae"])
        assert bool(traced(trainer)) == replay
        results.append(arrays)
    np.testing.assert_array_equal(*[arrays[0] for arrays in results])


def test_soft_and_smoothed_targets_are_replayed():
    X, _ = rows(60, 3, "mse", 1)
    soft = np.random.default_rng(1).dirichlet(np.ones(3), size=60)
    for loss in (
        gd.CategoricalCrossEntropy(from_logits=True),
        gd.CategoricalCrossEntropy(from_logits=True, label_smoothing=0.1),
    ):
        results = []
        for replay in (True, False):
            model = gd.Sequential([gd.Dense(5), gd.ReLU(), gd.Dense(3)], inputs=3)
            trainer, _, arrays = trained(model, loss, X, soft, 16, replay)
            assert bool(traced(trainer)) == replay
            results.append(arrays[0])
        np.testing.assert_array_equal(*results)


def test_a_rows_order_in_memory_does_not_matter():
    X, y = rows(64, 5, "mse", 2)
    results = []
    for x in (X.astype("float32"), np.asfortranarray(X.astype("float32"))):
        model = network("tanh", 5, 4, "mse")
        trainer = gd.Trainer(model, "mse", gd.SGD(0.1))
        trainer.fit(x, y, batch_size=16, shuffle=False, epochs=3)
        assert traced(trainer)
        plain = network("tanh", 5, 4, "mse")
        other = gd.Trainer(plain, "mse", gd.SGD(0.1), reuse_buffers=False)
        other.fit(x, y, batch_size=16, shuffle=False, epochs=3)
        np.testing.assert_array_equal(model.flat_params, plain.flat_params)
        results.append(model.flat_params)
    np.testing.assert_allclose(*results, rtol=1e-5)


# What is not replayed --------------------------------------------------------------------------


class Counting(gd.Tanh):
    """A layer from outside, which counts its calls: no tape shows that."""

    calls = 0

    def forward(self, x, train=False):
        self.calls += train
        return super().forward(x, train)


def test_a_layer_from_outside_is_called_each_time():
    X, y = rows(40, 3, "mse", 2)
    layer = Counting()
    model = gd.Sequential([gd.Dense(4), layer, gd.Dense(2)], inputs=3)
    trainer, _, _ = trained(model, "mse", X, y, 10, True)
    assert layer.calls == 12
    assert not trainer._loop.steps._numpy


# NumPy writes a result of 256 KiB or more into an operand without other references.
@pytest.mark.parametrize("width", [8, 1_700, 7_000])
def test_dropout_draws_again_in_each_step(width):
    X, y = rows(40, 3, "mse", 2)
    results = []
    for replay in (True, False):
        layers = [gd.Dense(width), gd.Dropout(0.5), gd.Dense(2)]
        model = gd.Sequential(layers, inputs=3, seed=1)
        trainer, _, arrays = trained(model, "mse", X, y, 10, replay)
        assert bool(traced(trainer)) == replay
        results.append(arrays[0])
    np.testing.assert_array_equal(*results)


def test_weighted_batches_are_done_by_the_layers():
    X, y = rows(40, 3, "mse", 2)
    model = network("tanh", 3, 4, "mse")
    trainer = gd.Trainer(model, "mse", "sgd")
    trainer.fit(X, y, sample_weight=np.linspace(0.1, 1, 40), batch_size=10)
    assert not trainer._loop.steps._numpy


def test_a_loss_from_outside_is_called_each_time():
    class Own(gd.MeanSquaredError):
        calls = 0

        def per_example(self, z, y):
            type(self).calls += 1
            return super().per_example(z, y)

    X, y = rows(40, 3, "mse", 2)
    trained(network("tanh", 3, 4, "mse"), Own(), X, y, 10, True, epochs=1)
    assert Own.calls == 4


def test_on_a_gpu_nothing_is_recorded(stand_in):
    X, y = rows(40, 3, "mse", 2)
    model = gd.Sequential([gd.Dense(2)], inputs=3, backend=stand_in)
    trainer = gd.Trainer(model, "mse", "sgd")
    trainer.fit(X, y, batch_size=10)
    assert not trainer._loop.steps._numpy


# What would be replayed wrongly is found out ---------------------------------------------------


def test_an_operation_that_is_forgotten_is_found_out(monkeypatch):
    shorten = target.shorten

    def drops_one(operations, wanted):
        kept = shorten(operations, wanted)
        return [o for i, o in enumerate(kept) if i != 2]

    monkeypatch.setattr(target, "shorten", drops_one)
    X, y = rows(40, 3, "mse", 2)
    plain = trained(network("tanh", 3, 4, "mse"), "mse", X, y, 10, False)
    trainer, _, arrays = trained(network("tanh", 3, 4, "mse"), "mse", X, y, 10, True)
    assert list(trainer._loop.steps._numpy.values()) == [None]
    np.testing.assert_array_equal(arrays[0], plain[2][0])


def test_numbers_baked_into_a_recording_are_found_out(monkeypatch):
    # The targets stay those of the batch that was recorded.
    def call(self, x, y, update=no_update):
        program = self._begin(self.program.y.copy())
        self._replay(x)
        value = program.value[()]
        return Step(value, program.z, program.norms, update(value))

    monkeypatch.setattr(NumpyStep, "__call__", call)
    X, y = rows(40, 3, "mse", 2)
    trainer, _, _ = trained(network("tanh", 3, 4, "mse"), "mse", X, y, 10, True)
    assert list(trainer._loop.steps._numpy.values()) == [None]


@pytest.mark.parametrize(
    "look",
    [bool, float, int, np.sort, lambda a: a.flatten(), lambda a: a.argmax(), lambda a: a.item()],
)
def test_a_step_that_looks_at_numbers_is_not_traced(look):
    class Looks(gd.Tanh):
        def forward(self, x, train=False):
            if type(x) is Traced:
                look(x[0, 0:1].reshape(()) if look in (bool, float, int) else x)
            return super().forward(x, train)

    x, y = rows(5, 3, "mse", 2)
    model = gd.Sequential([gd.Dense(4), Looks(), gd.Dense(2)], inputs=3, dtype="float64")
    with pytest.raises(NotTraceable):
        NumpyStep(Objective(model, "mse"), x, y)
    # The model is as before, and works.
    assert type(model.params["dense1.W"]) is np.ndarray
    steps = Steps(Objective(model, "mse"), Update(Penalty(), Clipping(), gd.SGD()))
    assert plain.step(steps.objective, x, y).z.shape == (5, 2)


# Many sizes, moves, and the listing ------------------------------------------------------------


def test_recordings_of_few_sizes_are_kept():
    rng = np.random.default_rng(0)
    model = network("tanh", 3, 4, "mse", "float64")
    twin = model.copy()
    trainer = gd.Trainer(model, "mse", gd.SGD(0.1))
    plain = gd.Trainer(twin, "mse", gd.SGD(0.1), reuse_buffers=False)
    for n in [*range(1, 14), 3, 1, 13]:
        x, y = rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
        assert trainer.step(x, y) == plain.step(x, y)
        assert len(trainer._loop.steps._numpy) <= runner.MOST
    np.testing.assert_array_equal(model.flat_params, twin.flat_params)


def test_a_model_that_is_moved_is_recorded_anew(stand_in):
    X, y = rows(40, 3, "mse", 2)
    model = network("tanh", 3, 4, "mse")
    trainer = gd.Trainer(model, "mse", gd.SGD(0.1))
    trainer.fit(X, y, batch_size=10)
    model.to(stand_in)
    trainer.fit(X, y, batch_size=10)
    assert not trainer._loop.steps._numpy
    model.to("numpy")
    trainer.fit(X, y, batch_size=10)
    assert traced(trainer)


def test_by_hand_behind_a_replay_a_backward_needs_its_forward():
    X, y = rows(40, 3, "mse", 2)
    model = network("tanh", 3, 4, "mse")
    trained(model, "mse", X, y, 10, True)
    with pytest.raises(RuntimeError, match="without a forward"):
        model.backward(np.ones((10, 2), dtype="float32"))
    z = model.forward(X[:10], train=True)
    assert type(z) is np.ndarray
    model.backward(np.ones_like(z))


def test_a_diverging_step_is_refused_and_leaves_statistics_as_they_were():
    X, y = rows(20, 3, "mse", 2)
    model = network("norm", 3, 4, "mse")
    trainer = gd.Trainer(model, "mse", gd.SGD(0.1))
    trainer.fit(X, y, batch_size=10)
    before = [model.flat_params.copy(), model.layers[1].buffers["mean"].copy()]
    passes = model.passes
    y[12] = 1e30
    with pytest.raises(gd.DivergenceError, match=r"epoch 2, update [34]"):
        trainer.fit(X, y, batch_size=20, shuffle=False)
    np.testing.assert_array_equal(model.flat_params, before[0])
    np.testing.assert_array_equal(model.layers[1].buffers["mean"], before[1])
    assert model.passes == passes


def test_a_recording_is_a_list_that_can_be_read():
    x, y = rows(5, 3, "mse", 2)
    model = gd.Sequential([gd.Dense(4), gd.Tanh(), gd.Dense(2)], inputs=3, dtype="float64")
    listing = str(NumpyStep(Objective(model, "mse"), x, y)).splitlines()
    assert listing[0] == "dot(x, dense1.W, t1)"
    assert listing[1] == "add(t1, dense1.b, t1)"
    assert listing[2].startswith("tanh(t1, ")
    assert "dot(x.T, " in "".join(listing)
    assert listing[-1].endswith("dense1.db)")


# What is changed between steps ------------------------------------------------------------------


def both_ways(layers, change, loss=lambda: "mse"):
    """Return the losses of a run in which something is changed, with replay and without."""
    X, y = rows(60, 4, "mse", 1)
    losses = []
    for replay in (True, False):
        model = gd.Sequential(layers(), inputs=4, dtype="float64")
        trainer = gd.Trainer(model, loss(), gd.SGD(0.05), reuse_buffers=replay)
        batches = gd.Batches(X, y, batch_size=20)
        trainer.fit(batches, epochs=3)
        assert bool(traced(trainer)) == replay
        change(trainer)
        losses.append(trainer.fit(batches, epochs=3)["loss"])
    return losses


def leaky():
    return [gd.Dense(6, bias=False), gd.BatchNorm(), gd.LeakyReLU(0.1), gd.Dense(1)]


def slope(trainer):
    trainer.model.layers[2].slope = 0.9


def momentum(trainer):
    trainer.model.layers[1].momentum = 0.1


def buffer(trainer):
    trainer.model.layers[1].buffers["mean"] = np.full(6, 3.0)


def parameters(trainer):
    trainer.model.load_arrays({k: v * 0.5 for k, v in trainer.model.arrays().items()})


@pytest.mark.parametrize("change", [slope, momentum, buffer, parameters])
def test_what_is_changed_between_steps_counts(change):
    straight = both_ways(leaky, lambda trainer: None)
    replayed, plain = both_ways(leaky, change)
    assert replayed == plain
    if change is not momentum and change is not buffer:  # statistics do not enter a training step
        assert replayed != straight[0]


def test_a_constant_of_the_loss_that_is_changed_counts():
    def delta(trainer):
        trainer.objective.loss.delta = 0.01

    replayed, plain = both_ways(leaky, delta, gd.Huber)
    assert replayed == plain
    assert replayed != both_ways(leaky, lambda trainer: None, gd.Huber)[0]


@pytest.mark.parametrize("fast", [False, True])
def test_a_constant_that_a_callback_changes_counts_from_the_next_epoch(fast, monkeypatch):
    if fast:
        pytest.importorskip("numba")
        monkeypatch.setattr("minigd.execution.targets.numba.Compiled", interpreted)

    def change(event):
        if event.name == "epoch" and event.trainer.epoch == 2:
            event.trainer.model.layers[2].slope = 0.9

    X, y = rows(60, 4, "mse", 1)
    found = []
    for options in ({"fast": fast}, {"reuse_buffers": False}):
        model = gd.Sequential(leaky(), inputs=4, dtype="float64")
        trainer = gd.Trainer(model, "mse", gd.SGD(0.05), **options)
        trainer.fit(X, y, batch_size=20, epochs=5, callbacks=[change])
        found.append(model.flat_params)
    np.testing.assert_allclose(*found, rtol=1e-9 if fast else 0, atol=0)


def drop(name):
    return lambda parts: delattr(parts[0], name)


def put(name, value):
    return lambda parts: setattr(parts[0], name, value)


CHANGES = {
    "a number": put("slope", 0.9),
    "another type": put("slope", True),
    "no longer a number": put("slope", None),
    "a new number": put("sloppy", 0.1),
    "a method of its own": put("forward", lambda x, train=False: x),
    "a NumPy number": put("slope", np.float32(0.2)),
    "a helper of its own": put("empty", lambda *args: None),
    "a loss's number": lambda parts: setattr(parts[1], "delta", 0.5),
    "gone": drop("slope"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_constant_or_method_is_seen_once(change):
    parts = [gd.LeakyReLU(0.1), gd.Huber()]
    watched = shipped.Parts(parts)
    assert not watched.changed()
    change(parts)
    assert watched.changed()
    assert not watched.changed()


def test_a_method_of_a_class_or_of_its_base_that_is_changed_is_seen(monkeypatch):
    class Own(gd.LeakyReLU):
        pass

    watched = shipped.Parts([Own(0.1), gd.Huber()])
    for owner, name in ((Own, "forward"), (gd.LeakyReLU, "backward"), (gd.Huber, "gradient")):
        monkeypatch.setattr(owner, name, lambda *args: None)
        assert watched.changed()
        assert not watched.changed()


def test_another_numpy_number_is_seen():
    layer = gd.LeakyReLU(0.1)
    layer.slope = np.float32(0.5)
    watched = shipped.Parts([layer])
    layer.slope = np.float32(0.25)
    assert watched.changed()
    assert not watched.changed()


def test_a_constant_and_a_helper_of_a_class_that_are_changed_are_seen(monkeypatch):
    class Own(gd.LeakyReLU):
        factor = 2.0

        def help(self):
            return self.factor

    watched = shipped.Parts([Own(0.1), gd.Dropout(0.1)])
    for owner, name, new in (
        (Own, "factor", 3.0),
        (Own, "factor", np.arange(3.0)),
        (Own, "help", lambda self: None),
        (gd.Dropout, "_draw", lambda self, shape: None),
    ):
        monkeypatch.setattr(owner, name, new)
        assert watched.changed()
        assert not watched.changed()


def test_what_is_kept_from_step_to_step_and_equal_numbers_are_no_change():
    layer = gd.LeakyReLU(float("0.1"))
    watched = shipped.Parts([layer])
    layer.wants_dx, layer.passes = False, 7
    layer.slope = float("0.1")
    assert not watched.changed()


def test_callbacks_do_not_make_each_step_compare_all_constants(monkeypatch):
    calls, values = [], shipped._values
    monkeypatch.setattr(shipped, "_values", lambda part: calls.append(part) or values(part))
    X, y = rows(230, 3, "mse", 2)
    model = network("tanh", 3, 4, "mse")
    callbacks = [gd.EarlyStopping("loss"), lambda event: None]
    model.fit(X, y, loss="mse", batch_size=10, epochs=2, callbacks=callbacks)
    # Layers, loss, penalty, clipping and updater at each epoch, and not 46 times.
    assert len(calls) <= 3 * (len(model.layers) + 4)


def test_a_method_that_is_replaced_is_called(monkeypatch):
    calls = []
    X, y = rows(40, 3, "mse", 2)
    trainer, _, _ = trained(network("tanh", 3, 4, "mse"), "mse", X, y, 10, True)
    backward = gd.Dense.backward

    def counted(self, dy):
        calls.append(self.name)
        return backward(self, dy)

    monkeypatch.setattr(gd.Dense, "backward", counted)
    trainer.fit(X, y, batch_size=10)
    assert len(calls) >= 2


def test_a_model_that_went_to_a_gpu_and_back_learns_on(stand_in):
    X, y = rows(60, 4, "mse", 1)
    losses = []
    for replay in (True, False):
        model = gd.Sequential(leaky(), inputs=4)
        trainer = gd.Trainer(model, "mse", gd.Adam(0.01), reuse_buffers=replay)
        trainer.fit(X, y, batch_size=20, epochs=2)
        model.to(stand_in)
        model.to("numpy")
        losses.append(trainer.fit(X, y, batch_size=20, epochs=3)["loss"])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 5


def test_predictions_in_another_thread_go_on_while_a_step_is_recorded():
    X, y = rows(400, 6, "mse", 1)
    model = network("tanh", 6, 40, "mse")
    X, y = X.astype("float32"), np.hstack([y, y])
    wrong, stop = [], threading.Event()

    def serve():
        while not stop.is_set():
            try:
                model.predict(X)
            except Exception as error:
                wrong.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    for _ in range(10):
        model.fit(X, y, loss="mse", batch_size=20, epochs=2)
    stop.set()
    thread.join()
    assert wrong == []


def test_sizes_that_take_turns_are_not_recorded_again_and_again():
    model = network("tanh", 3, 4, "mse")
    trainer = gd.Trainer(model, "mse", gd.SGD(0.01))
    rng = np.random.default_rng(0)
    for i in range(100):
        n = 10 + i % 20
        trainer.step(rng.normal(size=(n, 3)), rng.normal(size=(n, 2)))
    kept = list(trainer._loop.steps._numpy.values())
    for i in range(40):
        n = 10 + i % 20
        trainer.step(rng.normal(size=(n, 3)), rng.normal(size=(n, 2)))
    assert list(trainer._loop.steps._numpy.values()) == kept
