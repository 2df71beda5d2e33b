"""The trainer: one update a batch, the same bits from the same seed, and runs that go on.

The numbers are compared with loops written out here; the refusals with their words.
"""

import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd


def rows(n=23, width=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width))


def classes(x, k=3):
    return (x[:, 0] > 0).astype(int) + (x[:, 1] > 0) * (k - 2)


# name: (layers, loss, targets of x); 23 rows in batches of 5 leave a tail of 3.
TASKS = {
    "regression": (lambda: [gd.Dense(6), gd.Tanh(), gd.Dense(2)], "mse", lambda x: x[:, :2] ** 2),
    "deep": (
        lambda: [gd.Dense(7, "he_normal"), gd.ReLU(), gd.Dense(6), gd.Sigmoid(), gd.Dense(1)],
        "mse",
        lambda x: x[:, 0],
    ),
    "binary": (
        lambda: [gd.Dense(6), gd.Tanh(), gd.Dense(1), gd.Sigmoid()],
        "binary_crossentropy",
        lambda x: (x[:, 0] > 0).astype(int),
    ),
    "classes": (
        lambda: [gd.Dense(6), gd.ReLU(), gd.Dense(3), gd.Softmax()],
        "categorical_crossentropy",
        classes,
    ),
    "logits": (
        lambda: [gd.Tanh(), gd.Dense(3)],
        gd.CategoricalCrossEntropy(from_logits=True),
        classes,
    ),
}
tasks = pytest.mark.parametrize("task", TASKS)


def metric_for(task):
    """Return a metric that the targets of a task have."""
    return ["mae"] if task in ("regression", "deep") else ["accuracy"]


def make_trainer(task="binary", updater=None, backend="numpy", dtype="float32", **options):
    layers, loss, _ = TASKS[task]
    model = gd.Sequential(layers(), 4, backend=backend, dtype=dtype, seed=3)
    return gd.Trainer(model, loss, updater or gd.Adam(0.01), **options)


def make_batches(task="binary", n=23, **options):
    x = rows(n)
    return gd.Batches(x, TASKS[task][2](x), **{"batch_size": 5, "shuffle": True, **options})


def bits(trainer):
    """Return all that training has written, as bytes."""
    to_numpy = trainer.model.backend.to_numpy
    vectors = [trainer.model.flat_params, *trainer.updater.state.values()]
    return b"".join(to_numpy(vector).tobytes() for vector in vectors)


def measured(history):
    """Return the history without the seconds, which are never the same twice."""
    return {name: values for name, values in history.items() if name != "seconds"}


def stop_at(update):
    def callback(event):
        if event.name == "update" and event.trainer.updates == update:
            event.trainer.stop()

    return callback


# The loop, against one written out in NumPy ------------------------------------------------------


@pytest.mark.parametrize("batch_size", [5, 23, None, 1, 100])
def test_linear_regression_is_the_loop_of_the_textbook(backend, batch_size):
    x, y = rows(), rows(width=2, seed=1)
    model = gd.Sequential([gd.Dense(2)], 4, backend=backend, dtype="float64")
    W, b = (backend.to_numpy(model.params[f"dense1.{name}"]).copy() for name in "Wb")
    trainer = gd.Trainer(model, "mse", gd.SGD(0.1), metrics=["mae"])
    batches = gd.Batches(x, y, batch_size=batch_size, shuffle=True, seed=8)
    history = trainer.fit(batches, epochs=3)
    for epoch in range(3):
        loss = mae = 0.0
        for batch in batches.epoch(epoch):
            error = batch.x @ W + b - batch.y
            loss += (error**2).mean(axis=1).sum()
            mae += abs(error).mean(axis=1).sum()
            n = len(error)
            # ∂/∂z of the mean over 2 outputs of (z − y)² is (z − y); then the mean over the rows.
            W = W - 0.1 * batch.x.T @ error / n
            b = b - 0.1 * error.sum(axis=0) / n
        # Each row weighs the same, so that the tail of 3 counts for 3 and not for 5.
        assert history["loss"][epoch] == pytest.approx(loss / 23, rel=1e-12)
        assert history["mae"][epoch] == pytest.approx(mae / 23, rel=1e-12)
    for name, expected in (("W", W), ("b", b)):
        own = backend.to_numpy(model.params[f"dense1.{name}"])
        np.testing.assert_allclose(own, expected, rtol=1e-11, atol=1e-14)


def same(backend, one, other):
    """Hold arrays to the same bits; on a GPU, where layers are fused, to those of rounding."""
    one, other = backend.to_numpy(one), backend.to_numpy(other)
    if backend.reads_are_free:
        np.testing.assert_array_equal(one, other)
    else:
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.few
@tasks
def test_the_loop_by_hand_gives_the_same_bits(backend, task):
    dtype = "float32" if backend.reads_are_free else "float64"
    trainer, batches = make_trainer(task, backend=backend, dtype=dtype), make_batches(task)
    trainer.fit(batches, epochs=3)

    layers, loss, _ = TASKS[task]
    ends = {"binary": gd.BinaryCrossEntropy(True), "classes": gd.CategoricalCrossEntropy(True)}
    by_hand = layers()[:-1] if task in ends else layers()
    model = gd.Sequential(by_hand, 4, backend=backend, seed=3, dtype=dtype)
    loss = ends.get(task) or (gd.MeanSquaredError() if loss == "mse" else loss)
    updater = gd.Adam(0.01)
    for _ in range(3):
        for x, y in batches:
            z = model.forward(backend.asarray(x, dtype=dtype), train=True)
            loss.forward(z, backend.asarray(y))
            model.backward(loss.backward())
            updater.update(model)
    same(backend, model.flat_params, trainer.model.flat_params)


@tasks
def test_step_gives_the_loss_before_the_update_and_makes_one(backend, task):
    trainer, batches = make_trainer(task, backend=backend, dtype="float64"), make_batches(task)
    for count, (x, y) in enumerate(batches, start=1):
        before = trainer.evaluate(x, y)["loss"]
        value = trainer.step(backend.asarray(x), backend.asarray(y))
        assert float(value) == pytest.approx(before, rel=1e-12)
        assert trainer.evaluate(x, y)["loss"] < before
        assert trainer.updates == trainer.updater.step == count
    assert trainer.epoch == 0


@tasks
def test_steps_and_fit_give_the_same_bits(task):
    stepped, fitted, batches = make_trainer(task), make_trainer(task), make_batches(task)
    for x, y in batches:
        stepped.step(x, y)
    fitted.fit(batches)
    assert bits(stepped) == bits(fitted)


@tasks
def test_the_loss_of_an_epoch_is_the_mean_over_rows_of_its_batches(task):
    trainer, batches = make_trainer(task, dtype="float64"), make_batches(task)
    twin = make_trainer(task, dtype="float64")
    history = trainer.fit(batches, epochs=2)
    for epoch in range(2):
        total = 0.0
        for x, y in batches.epoch(epoch):
            total += twin.evaluate(x, y)["loss"] * len(x)
            twin.step(x, y)
        assert history["loss"][epoch] == pytest.approx(total / 23, rel=1e-12)


# Epochs and the history --------------------------------------------------------------------------


def test_fit_runs_as_many_epochs_more_as_it_is_told():
    trainer, batches = make_trainer(), make_batches()
    for epochs, total in ((1, 1), (3, 4), (0, 4), (2, 6)):
        history = trainer.fit(batches, epochs=epochs)
        assert trainer.epoch == history.epochs == total
        assert trainer.updates == 5 * total
    assert history["updates"] == [5.0, 10.0, 15.0, 20.0, 25.0, 30.0]


def test_until_epoch_goes_on_to_a_total_and_no_further():
    trainer, batches = make_trainer(), make_batches()
    for until, total in ((2, 2), (2, 2), (1, 2), (5, 5)):
        trainer.fit(batches, until_epoch=until)
        assert trainer.epoch == total


@pytest.mark.parametrize("epochs", [-1, 2.5, "3", None])
def test_a_number_of_epochs_that_is_none_is_refused(epochs):
    with pytest.raises(ValueError, match="epochs must be an integer, at least 0"):
        make_trainer().fit(make_batches(), epochs=epochs)


def test_epochs_in_two_calls_are_epochs_in_one():
    one, two, batches = make_trainer(), make_trainer(), make_batches()
    one.fit(batches, epochs=4)
    two.fit(batches, epochs=1)
    two.fit(epochs=3)
    assert bits(one) == bits(two)
    assert measured(one.history) == measured(two.history)


def test_the_history_holds_a_float_an_epoch():
    trainer = make_trainer(metrics=["accuracy", "mae"])
    history = trainer.fit(make_batches(), epochs=3, validation_data=make_batches(n=11))
    assert list(history) == [
        *("loss", "accuracy", "mae", "val_loss", "val_accuracy", "val_mae", "seconds", "updates")
    ]
    for values in history.values():
        assert len(values) == 3
        assert all(type(value) is float and math.isfinite(value) for value in values)
    assert min(history["seconds"]) >= 0


def test_without_validation_data_there_are_no_such_keys():
    assert list(make_trainer().fit(make_batches())) == ["loss", "seconds", "updates"]


def test_validation_data_may_come_later():
    trainer = make_trainer()
    trainer.fit(make_batches())
    history = trainer.fit(make_batches(), validation_data=make_batches(n=11))
    assert math.isnan(history["val_loss"][0])
    assert math.isfinite(history["val_loss"][1])


def test_validation_is_evaluation_after_the_epoch(backend):
    held_out = rows(11, seed=5)
    y = (held_out[:, 0] > 0).astype(int)
    results = []
    for data in ((held_out, y), gd.Batches(held_out, y, batch_size=4, shuffle=True, tail="drop")):
        trainer = make_trainer(metrics=["accuracy"], backend=backend, dtype="float64")
        history = trainer.fit(make_batches(), epochs=2, validation_data=data)
        last = trainer.evaluate(held_out, y)
        assert history["val_loss"][-1] == pytest.approx(last["loss"], rel=1e-12)
        assert history["val_accuracy"][-1] == last["accuracy"]
        results.append(history["val_loss"])
    np.testing.assert_allclose(*results, rtol=1e-12)


def test_a_tuple_of_one_or_four_is_no_validation_data():
    x = rows()
    message = r"validation_data must be \(X, y\) or \(X, y, weight\), not %d items"
    for data in ((x,), (x, x, x, x)):
        with pytest.raises(ValueError, match=message % len(data)):
            make_trainer().fit(make_batches(), validation_data=data)


def test_fit_of_the_model_is_fit_of_a_new_trainer():
    x = rows()
    y = TASKS["binary"][2](x)
    model = make_trainer().model
    model.fit(x, y, loss="binary_crossentropy", updater=gd.Adam(0.01), batch_size=5, epochs=2)
    trainer = make_trainer()
    # `fit` shuffles, by the seed of the model.
    trainer.fit(gd.Batches(x, y, batch_size=5, shuffle=True, seed=3), epochs=2)
    np.testing.assert_array_equal(model.flat_params, trainer.model.flat_params)


# The same bits -----------------------------------------------------------------------------------


@pytest.mark.each
@tasks
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_seed_gives_the_same_bits_with_buffers_reused_or_not(backend, task, dtype):
    runs, params = [], []
    for reuse in (True, True, False):
        trainer = make_trainer(task, backend=backend, dtype=dtype, reuse_buffers=reuse)
        trainer.fit(make_batches(task), epochs=4)
        # Another batch size afterwards: larger batches make new buffers, smaller ones use a part.
        trainer.fit(make_batches(task, batch_size=9), epochs=2)
        trainer.fit(make_batches(task, batch_size=2), epochs=1)
        runs.append((bits(trainer), measured(trainer.history)))
        params.append(trainer.model.flat_params)
    assert runs[0] == runs[1]
    if backend.reads_are_free:
        assert runs[0] == runs[2]
    elif dtype == "float64":
        same(backend, params[0], params[2])


class Watch(gd.Layer):
    """Passes everything on and notes the dtypes it sees."""

    def __init__(self):
        self.seen = set()

    def forward(self, x, train=False):
        self.seen.add(str(x.dtype))
        return x

    def backward(self, dy):
        self.seen.add(str(dy.dtype))
        return dy

    def config(self):
        return {}


@pytest.mark.each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "updater", [gd.SGD(0.1), gd.SGD(0.1, 0.9), gd.SGD(0.1, 0.9, True), gd.Adam()]
)
@tasks
def test_no_dtype_ever_changes(backend, task, updater, dtype):
    layers, loss, targets = TASKS[task]
    watched = [Watch()]
    for layer in layers():
        # A last activation stays last: it is what the loss is paired with.
        watched += [layer, Watch()] if not isinstance(layer, gd.Sigmoid | gd.Softmax) else [layer]
    model = gd.Sequential(watched, 4, backend=backend, dtype=dtype)
    trainer = gd.Trainer(model, loss, updater, metrics=metric_for(task))
    for x in (rows(), rows().astype("float32"), np.ones((23, 4), int)):
        trainer.fit(gd.Batches(x, targets(x), batch_size=5, shuffle=True))
        value = trainer.step(backend.asarray(x), backend.asarray(targets(x)))
        arrays = [
            *(model.flat_params, model.flat_grads, value, model.predict(x)),
            *updater.state.values(),
            *model.workspace._arrays.values(),
        ]
        assert {str(array.dtype) for array in arrays} == {dtype}
    for layer in model.layers:
        if isinstance(layer, Watch):
            assert layer.seen == {dtype}


@pytest.mark.parametrize("task", ["deep", "binary", "classes", "logits"])
def test_a_column_of_targets_is_the_same_as_a_row_of_them(backend, task):
    x = rows()
    y = TASKS[task][2](x)
    runs = []
    for targets in (y, y[:, None]):
        trainer = make_trainer(task, backend=backend, metrics=metric_for(task))
        trainer.fit(x, targets, batch_size=5, epochs=2, validation_data=(x, targets))
        runs.append((bits(trainer), measured(trainer.history)))
    assert runs[0] == runs[1]


@tasks
def test_evaluation_changes_no_state_and_uses_up_no_epoch(backend, task):
    trainer, batches = make_trainer(task, backend=backend), make_batches(task)
    trainer.fit(batches, epochs=2)
    before = bits(trainer), trainer.updates, trainer.epoch, measured(trainer.history)
    twin = make_batches(task)
    trainer.evaluate(batches)
    trainer.model.evaluate(batches)
    trainer.model.predict(rows())
    assert (bits(trainer), trainer.updates, trainer.epoch, measured(trainer.history)) == before
    for one, other in zip(batches, twin, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)


def everything(updater=None, backend="numpy", dtype="float32", **options):
    """Return a trainer with every layer, and with all that may happen to a gradient."""
    layers = [gd.Dense(6, bias=False), gd.BatchNorm(), gd.LeakyReLU(), gd.Dropout(0.3)]
    layers += [gd.Dense(5), gd.Tanh(), gd.Dropout(0.1), gd.Dense(3), gd.Softmax()]
    model = gd.Sequential(layers, 4, backend=backend, dtype=dtype, seed=3)
    updater = updater or gd.AdamW(gd.WarmUp(gd.CosineDecay(0.05, epochs=4), updates=4))
    options = {"l1": 0.001, "l2": 0.01, "clip_value": 0.4, "clip_norm": 0.8, **options}
    loss = gd.CategoricalCrossEntropy(label_smoothing=0.1)
    return gd.Trainer(model, loss, updater, metrics=["accuracy", "f1"], **options)


WEIGHTS = np.random.default_rng(4).uniform(0, 3, size=23) * (np.arange(23) % 5 > 0)
WEIGHTS[5:10] = 0  # a whole batch, where they come in order


def weighted_batches(**options):
    return make_batches("classes", sample_weight=WEIGHTS, class_weight="balanced", **options)


def written(trainer):
    """Return all that a run has written, as bytes, but its times."""
    arrays = {name: a.tobytes() for name, a in trainer.model.arrays().items()}
    window = trainer.state_dict()["window"]
    held = None if window["sum"] is None else window["sum"].tobytes()
    places = trainer.model.passes, trainer.updates, trainer.epoch, trainer.updater.step
    return arrays, bits(trainer), places, (window["held"], held), measured(trainer.history)


def test_evaluation_changes_no_statistic_and_draws_nothing(backend):
    plain, watched = (everything(backend=backend, accumulate=2) for _ in range(2))

    def look(event):
        before = written(event.trainer)
        event.trainer.evaluate(weighted_batches())
        event.trainer.model.evaluate(weighted_batches())
        event.trainer.model.predict(rows(37))
        event.trainer.model.summary()
        assert written(event.trainer) == before

    plain.fit(weighted_batches(), epochs=2)
    watched.fit(weighted_batches(), epochs=2, callbacks=[look])
    assert written(watched) == written(plain)


# Callbacks ---------------------------------------------------------------------------------------


def test_callbacks_are_told_of_every_update_every_epoch_and_the_end():
    trainer, batches, events = make_trainer(), make_batches(), []
    history = trainer.fit(batches, epochs=2, callbacks=[events.append])
    an_epoch = [*["update"] * 5, "epoch"]
    assert [event.name for event in events] == ["start", *an_epoch, *an_epoch, "end", "done"]
    assert all(event.trainer is trainer for event in events)
    updates = [event for event in events if event.name == "update"]
    sizes = [len(event.x) for event in updates]
    assert sizes == [5, 5, 5, 5, 3] * 2
    assert [len(event.y) for event in updates] == sizes
    losses = np.array([float(event.loss) for event in updates]).reshape(2, 5)
    np.testing.assert_allclose(losses @ [5, 5, 5, 5, 3] / np.float64(23), history["loss"])
    assert [event.loss for event in events if event.name == "epoch"] == history["loss"]
    assert events[-2].loss == events[-1].loss == history["loss"][-1]
    for event in events:
        if event.name != "update":
            assert event.x is event.y is event.rows is None
    seen = np.concatenate([event.rows for event in updates[:5]])
    np.testing.assert_array_equal(seen, batches.order(0))


def test_a_callback_sees_the_history_of_the_epoch_it_is_told_of():
    seen = []

    def look(event):
        if event.name == "epoch":
            seen.append((event.trainer.epoch, event.trainer.history.epochs))

    make_trainer().fit(make_batches(), epochs=3, callbacks=[look])
    assert seen == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.few
@pytest.mark.parametrize("update", range(1, 11))
def test_a_run_that_was_stopped_goes_on_with_the_remaining_batches(backend, update):
    whole, cut, batches = (
        make_trainer(backend=backend),
        make_trainer(backend=backend),
        make_batches(),
    )
    whole.fit(batches, epochs=2)
    rows_seen = []

    def note(event):
        if event.name == "update":
            rows_seen.append(len(event.x))

    cut.fit(batches, epochs=2, callbacks=[note, stop_at(update)])
    assert cut.updates == update
    assert cut.epoch == update // 5
    cut.fit(until_epoch=2, callbacks=[note])
    assert rows_seen == [5, 5, 5, 5, 3] * 2
    assert bits(cut) == bits(whole)
    assert measured(cut.history) == measured(whole.history)


def test_a_run_that_was_stopped_starts_a_new_epoch_on_other_data():
    trainer = make_trainer()
    trainer.fit(make_batches(), callbacks=[stop_at(2)])
    other = make_batches(n=31)
    history = trainer.fit(other)
    assert trainer.updates == 2 + 7
    fresh = make_trainer()
    fresh.fit(make_batches(), callbacks=[stop_at(2)])
    total = 0.0
    for x, y in other.epoch(0):
        total += float(fresh.step(x, y)) * len(x)
    assert history["loss"] == [pytest.approx(total / 31, rel=1e-6)]


def test_a_refused_fit_leaves_a_stopped_run_as_it_was():
    whole, cut, batches = make_trainer(), make_trainer(), make_batches()
    whole.fit(batches)
    cut.fit(batches, callbacks=[stop_at(2)])
    with pytest.raises(gd.ShapeError):
        cut.fit(rows(width=3), TASKS["binary"][2](rows()))
    cut.fit()
    assert bits(cut) == bits(whole)
    assert measured(cut.history) == measured(whole.history)


def test_a_fit_of_no_epoch_starts_and_ends_all_the_same():
    events = []
    make_trainer().fit(make_batches(), epochs=0, callbacks=[events.append])
    assert [(event.name, event.loss) for event in events] == [
        *[("start", None), ("end", None), ("done", None)]
    ]


def test_what_is_changed_when_a_fit_is_done_is_changed_behind_the_last_checkpoint(tmp_path):
    # With early stopping, a file from "end" continues the run, and not from its best.
    def callback(event):
        if event.name == "end":
            event.trainer.save(tmp_path / "run.npz")
        if event.name == "done":
            event.trainer.model.flat_params[...] = 0.0

    trainer, whole = make_trainer(), make_trainer()
    trainer.fit(make_batches(), callbacks=[callback])
    assert not trainer.model.flat_params.any()
    again = gd.Trainer.resume(tmp_path / "run.npz", make_batches())
    again.fit(until_epoch=3)
    whole.fit(make_batches(), epochs=3)
    assert bits(again) == bits(whole)


def test_what_is_no_list_of_callbacks_is_refused():
    with pytest.raises(TypeError, match=r"callbacks must be a list, \[callback\], not one"):
        make_trainer().fit(make_batches(), callbacks=print)
    with pytest.raises(TypeError, match="a callback must be callable with an event, but 3 is not"):
        make_trainer().fit(make_batches(), callbacks=[print, 3])


class Counts:
    """Counts events of a name, and keeps the count in the run's file."""

    def __init__(self, name):
        self.name, self.count, self.seen = name, 0, []

    def __call__(self, event):
        self.count += event.name == self.name
        self.seen.append((event.name, self.count))

    def state_dict(self):
        return {"count": self.count, "squares": np.arange(self.count) ** 2}

    def load_state_dict(self, values):
        np.testing.assert_array_equal(values["squares"], np.arange(values["count"]) ** 2)
        self.count = values["count"]


def test_a_callbacks_state_is_resumed_by_its_name(tmp_path):
    def counts():
        return [Counts("update"), lambda event: None, Counts("epoch")]

    cut, before = make_trainer(), counts()
    cut.fit(make_batches(), epochs=3, callbacks=[*before, stop_at(7)])
    cut.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", make_batches())
    # Saved once more before any callback was given again, it still has their states.
    again.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", make_batches())
    after = counts()
    again.fit(until_epoch=3, callbacks=after)
    assert [after[0].count, after[2].count] == [15, 3]
    # The state is there with the first event.
    assert after[0].seen[:2] == [("start", 7), ("update", 8)]


def test_a_state_without_its_callback_is_left_out_with_a_warning(tmp_path):
    cut = make_trainer()
    cut.fit(make_batches(), callbacks=[Counts("update"), Counts("epoch"), stop_at(2)])
    cut.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", make_batches())
    with pytest.warns(UserWarning, match="a callback 'Counts 2' with a state, but this fit"):
        again.fit(callbacks=[Counts("update")])
    again.save(tmp_path / "run.npz")
    last = gd.Trainer.resume(tmp_path / "run.npz", make_batches())
    last.fit(callbacks=[counter := Counts("update")])
    assert counter.count == 5 + 5


@pytest.mark.few
@tasks
def test_a_callback_that_predicts_and_evaluates_changes_no_bit(backend, task):
    plain, watched = (make_trainer(task, backend=backend) for _ in range(2))
    batches, x = make_batches(task), rows(37, seed=9)
    y = TASKS[task][2](x)

    def look(event):
        model = event.trainer.model
        model.predict(x, batch_size=10)
        model.forward(model.backend.asarray(x))
        model.evaluate(x, y, batch_size=10)
        event.trainer.evaluate(batches)
        model.copy()

    plain.fit(batches, epochs=2)
    watched.fit(batches, epochs=2, callbacks=[look])
    assert bits(watched) == bits(plain)
    assert measured(watched.history) == measured(plain.history)


@pytest.mark.parametrize("update", [1, 3, 5, 6])
def test_an_interrupt_leaves_model_and_trainer_usable(backend, update):
    whole, cut, batches = (
        make_trainer(backend=backend),
        make_trainer(backend=backend),
        make_batches(),
    )
    whole.fit(batches, epochs=2)

    def interrupt(event):
        if event.name == "update" and event.trainer.updates == update:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut.fit(batches, epochs=2, callbacks=[interrupt])
    assert np.isfinite(cut.model.predict(rows())).all()
    first = cut.model.predict(rows())
    kept = first.copy()
    cut.fit(until_epoch=2)
    np.testing.assert_array_equal(first, kept)
    assert bits(cut) == bits(whole)
    assert measured(cut.history) == measured(whole.history)


class Fails(gd.Layer):
    """Raises in the middle of a step if it is set to."""

    fail = None

    def forward(self, x, train=False):
        return x

    def backward(self, dy):
        if self.fail:
            raise KeyboardInterrupt
        return dy


def test_an_interrupt_in_the_middle_of_a_step_loses_that_step_only():
    whole, cut = ([gd.Dense(6), Fails(), gd.Tanh(), gd.Dense(1)] for _ in range(2))
    whole, cut = (
        gd.Trainer(gd.Sequential(layers, 4), "mse", gd.Adam(0.01)) for layers in (whole, cut)
    )
    batches = make_batches("deep")
    whole.fit(batches, epochs=2)
    cut.fit(batches, callbacks=[stop_at(3)])
    cut.model.layers[1].fail = True
    with pytest.raises(KeyboardInterrupt):
        cut.fit()
    first = cut.model.predict(rows())
    kept = first.copy()
    cut.model.layers[1].fail = False
    cut.fit(until_epoch=2)
    np.testing.assert_array_equal(first, kept)
    assert bits(cut) == bits(whole)


def test_an_error_in_the_middle_of_a_step_loses_that_step_only(backend):
    """Neither a pass is counted that made nothing, nor statistics moved, nor a part held."""

    def trainer():
        layers = [gd.Dense(6), gd.BatchNorm(), Fails(), gd.Dropout(0.3), gd.Tanh(), gd.Dense(1)]
        model = gd.Sequential(layers, 4, backend=backend, seed=3)
        return gd.Trainer(model, "mse", gd.Adam(0.01), accumulate=3)

    whole, cut = trainer(), trainer()
    whole.fit(make_batches("deep"), epochs=3)

    def fail(event):
        cut.model.layers[2].fail = cut.model.passes == 6

    # The seventh pass is the second batch of the second epoch, in the middle of a window.
    with pytest.raises(KeyboardInterrupt):
        cut.fit(make_batches("deep"), epochs=3, callbacks=[fail])
    cut.model.layers[2].fail = False
    assert cut.model.passes == 6
    cut.fit(until_epoch=3)
    assert written(cut) == written(whole)


# Runs in files -----------------------------------------------------------------------------------

updaters = st.sampled_from(
    [lambda: gd.SGD(0.1), lambda: gd.SGD(0.1, 0.9), lambda: gd.SGD(0.1, 0.9, True), gd.Adam]
)


@examples(25)
@given(
    st.sampled_from(list(TASKS)),
    updaters,
    st.integers(0, 15),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["float32", "float64"]),
)
def test_a_run_resumed_anywhere_is_the_run_that_never_stopped(
    task, updater, update, inside, shuffle, dtype
):
    options = {"metrics": metric_for(task), "dtype": dtype}
    whole = make_trainer(task, updater(), **options)
    validation = make_batches(task, n=11)
    whole.fit(make_batches(task, shuffle=shuffle), epochs=3, validation_data=validation)

    cut = make_trainer(task, updater(), **options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"

        def save(event):
            # From inside, the last update of an epoch is saved before the epoch is closed.
            if inside and event.name == "update" and event.trainer.updates == update:
                event.trainer.save(path)

        if update:
            cut.fit(
                make_batches(task, shuffle=shuffle),
                epochs=3,
                validation_data=validation,
                callbacks=[save, stop_at(update)],
            )
        if not (update and inside):
            cut.save(path)
        again = gd.Trainer.resume(path, make_batches(task, shuffle=shuffle))
    assert again.updates == update
    again.fit(make_batches(task, shuffle=shuffle), until_epoch=3, validation_data=validation)
    assert bits(again) == bits(whole)
    assert measured(again.history) == measured(whole.history)
    assert again.updater.step == whole.updater.step
    assert again.evaluate(validation) == whole.evaluate(validation)


class SaveAt:
    """Saves a run at an event of a name, the so-manieth of it, and stops the run."""

    def __init__(self, path, name, number):
        self.path, self.name, self.number, self.count = path, name, number, 0

    def __call__(self, event):
        names = ("batch", "update") if self.name == "batch" else (self.name,)
        self.count += event.name in names
        if event.name in names and self.count == self.number:
            event.trainer.save(self.path)
            event.trainer.stop()


@examples(25)
@given(
    st.sampled_from(
        [
            lambda: gd.SGD(gd.StepDecay(0.1, epochs=2), 0.9),
            lambda: gd.AdamW(gd.WarmUp(gd.CosineDecay(0.05, updates=9), updates=4)),
            lambda: gd.RMSprop(0.01),
            lambda: gd.Adagrad(gd.ExponentialDecay(0.1, 0.5, updates=4)),
        ]
    ),
    st.sampled_from([("batch", 24), ("epoch", 4), ("start", 1), ("end", 1)]),
    st.sampled_from([1, 2, 3, 5, 8]),
    st.sampled_from([{}, {"shuffle": False}, {"prefetch": 2}, {"tail": "drop"}, {"batch_size": 7}]),
    st.sampled_from(["float32", "float64"]),
    st.data(),
)
def test_a_run_with_everything_resumed_anywhere_is_the_run_that_never_stopped(
    updater, event, accumulate, options, dtype, data
):
    name, most = event
    number = data.draw(st.integers(1, most))
    validation = weighted_batches()
    whole = everything(updater(), dtype=dtype, accumulate=accumulate)
    whole.fit(weighted_batches(**options), epochs=4, validation_data=validation)

    cut = everything(updater(), dtype=dtype, accumulate=accumulate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"
        save = SaveAt(path, name, number)
        cut.fit(weighted_batches(**options), epochs=4, validation_data=validation, callbacks=[save])
        if not path.exists():
            cut.save(path)
        again = gd.Trainer.resume(path, weighted_batches(**options))
    assert again.options == whole.options
    again.fit(until_epoch=4, validation_data=validation)
    cut.fit(until_epoch=4, validation_data=validation)
    assert written(again) == written(whole) == written(cut)


def test_the_settings_of_a_run_are_resumed(tmp_path):
    options = {"accumulate": 3, "l1": 0.1, "l2": 0.2, "decay_bias": True, "reuse_buffers": False}
    options |= {"clip_value": 0.5, "clip_norm": 2.0, "clip_rows": 9.0, "fast": False}
    trainer = make_trainer(**options)
    assert trainer.options == options
    trainer.save(tmp_path / "run.npz")
    assert gd.Trainer.resume(tmp_path / "run.npz").options == options


@pytest.mark.few(3)
@pytest.mark.parametrize("event", ["update", "epoch", "end", "done"])
def test_a_run_saved_at_the_end_of_an_epoch_has_that_epoch_once(backend, tmp_path, event):
    # "update": after the last batch, before the epoch is finished.
    whole, cut = (everything(backend=backend, accumulate=2) for _ in range(2))
    whole.fit(weighted_batches(), epochs=3)
    path = tmp_path / "run.npz"

    def save(told):
        if told.name == event:
            told.trainer.save(path)

    cut.fit(weighted_batches(), epochs=2, callbacks=[save])
    again = gd.Trainer.resume(path, weighted_batches(), backend=backend)
    again.fit(until_epoch=3)
    assert written(again) == written(whole)
    assert again.history.epochs == 3


def test_a_run_resumes_on_every_backend(backend, tmp_path):
    whole, cut = (make_trainer(backend=backend, metrics=["accuracy"]) for _ in range(2))
    whole.fit(make_batches(), epochs=3)
    cut.fit(make_batches(), epochs=3, callbacks=[stop_at(7)])
    cut.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", make_batches(), backend=backend)
    assert backend.holds(again.model.flat_params)
    again.fit(until_epoch=3)
    assert bits(again) == bits(whole)
    assert measured(again.history) == measured(whole.history)


def half_a_run(tmp_path, **options):
    trainer = make_trainer()
    trainer.fit(make_batches(**options), epochs=3, callbacks=[stop_at(7)])
    trainer.save(tmp_path / "run.npz")
    return tmp_path / "run.npz", trainer


def test_saving_changes_nothing(tmp_path):
    _, trainer = half_a_run(tmp_path)
    whole = make_trainer()
    whole.fit(make_batches(), epochs=3)
    trainer.fit(until_epoch=3)
    assert bits(trainer) == bits(whole)


def test_a_learning_rate_that_was_changed_is_resumed(tmp_path):
    trainer = make_trainer()
    trainer.fit(make_batches())
    trainer.updater.learning_rate = 0.5
    trainer.save(tmp_path / "run.npz")
    assert gd.Trainer.resume(tmp_path / "run.npz").updater.learning_rate == 0.5


def test_copied_data_and_moved_files_are_the_same_run(tmp_path):
    path, trainer = half_a_run(tmp_path)
    (tmp_path / "other").mkdir()
    moved = shutil.move(path, tmp_path / "other" / "renamed.npz")
    again = gd.Trainer.resume(moved, make_batches())
    again.fit(until_epoch=3)
    trainer.fit(until_epoch=3)
    assert bits(again) == bits(trainer)


def changed_data():
    x = rows()
    y = TASKS["binary"][2](x)
    x[11, 2] += 1e-9
    return gd.Batches(x, y, batch_size=5, shuffle=True)


@pytest.mark.parametrize(
    ("batches", "name"),
    [
        (changed_data, "data"),
        (lambda: make_batches(n=24), "rows"),
        (lambda: make_batches(batch_size=6), "batch_size"),
        (lambda: make_batches(batch_size=None), "batch_size"),
        (lambda: make_batches(seed=1), "seed"),
        (lambda: make_batches(shuffle=False), "shuffle"),
        (lambda: make_batches(tail="drop"), "tail"),
    ],
)
def test_batches_of_another_run_are_refused(tmp_path, batches, name):
    path, _ = half_a_run(tmp_path)
    message = rf"these batches do not match the checkpoint: .*{name} (was|differ)"
    with pytest.raises(gd.CheckpointError, match=message):
        gd.Trainer.resume(path, batches())


def test_half_an_epoch_is_not_finished_with_other_rows(tmp_path):
    path, _ = half_a_run(tmp_path)
    again = gd.Trainer.resume(path)
    other = make_batches(n=31)
    # Either a refusal, or a new epoch over all 7 batches; never the other 5 of them.
    try:
        again.fit(other)
    except gd.CheckpointError:
        return
    assert again.updates == 7 + 7


def test_a_model_is_no_run(tmp_path):
    make_trainer().model.save(tmp_path / "m.npz")
    with pytest.raises(gd.CheckpointError, match="is a saved model, not a checkpoint: use minigd"):
        gd.Trainer.resume(tmp_path / "m.npz")


def test_a_resumed_run_without_batches_asks_for_them(tmp_path):
    path, _ = half_a_run(tmp_path)
    with pytest.raises(gd.DataError, match="there is no data to train on: pass arrays"):
        gd.Trainer.resume(path).fit()


# Refusals ----------------------------------------------------------------------------------------

CALLS = {
    "fit": lambda trainer, x, y: trainer.fit(x, y),
    "step": lambda trainer, x, y: trainer.step(x, y),
    "evaluate": lambda trainer, x, y: trainer.evaluate(x, y),
    "validation": lambda trainer, x, y: trainer.fit(make_batches(), validation_data=(x, y)),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def refused(call, x, y, message, task="binary", error=gd.DataError):
    """Check a refusal: its words, and that nothing was trained."""
    trainer = make_trainer(task)
    before = bits(trainer)
    with pytest.raises(error, match=message):
        call(trainer, x, y)
    assert trainer.updates == 0
    assert bits(trainer) == before


@calls
def test_x_and_y_of_different_lengths(call):
    refused(call, rows(23), np.ones(22), "x has 23 rows and y has 22", error=gd.ShapeError)


@calls
def test_rows_of_another_width(call):
    message = r"x has shape \(23, 3\) and the model takes rows of 4 numbers"
    refused(call, rows(width=3), np.ones(23), message, error=gd.ShapeError)


@calls
def test_x_in_one_dimension(call):
    message = r"x has shape \(23,\).*x.reshape\(-1, 1\) makes (it )?a column"
    refused(call, rows()[:, 0], np.ones(23), message, error=gd.ShapeError)


@calls
@pytest.mark.parametrize("task", ["binary", "deep"])
def test_targets_are_never_broadcast(call, task):
    for shape in ((23, 2), (23, 23), (1, 23), (23, 1, 1)):
        message = r"y has shape|x has 23 rows and y has 1"
        refused(call, rows(), np.ones(shape), message, task, gd.ShapeError)
    refused(
        call, rows(), np.ones(23), r"`\(n,\)` fits one output only", "regression", gd.ShapeError
    )


@calls
def test_labels_outside_the_classes(call):
    y = classes(rows())
    for bad in (3, 17, -1):
        y[5] = bad
        refused(call, rows(), y, f"for classes 0 to 2, and y holds {bad}", "classes")


@calls
def test_labels_of_yes_and_no_outside_0_and_1(call):
    y = np.array([1, 2] * 11 + [1])
    refused(call, rows(), y, "y holds 1 to 2: encode the two classes as 0 and 1")


@calls
def test_classes_that_are_no_integers(call):
    y = classes(rows()).astype(float)
    refused(call, rows(), y, "classes must be integers, and y is float64: use y.astype", "classes")


@calls
def test_rows_that_are_not_one_hot(call):
    refused(call, rows(), np.ones((23, 3)), "row must be one-hot or prob", "classes")


@calls
@pytest.mark.parametrize("what", ["x", "y"])
def test_text_and_objects(call, what):
    for values in (np.full((23, 4), "a"), np.full((23, 4), None)):
        x, y = (values, np.ones(23)) if what == "x" else (rows(), values[:, 0])
        refused(call, x, y, f"{what} must hold numbers, but its dtype is")


@calls
@pytest.mark.parametrize("what", ["x", "y"])
def test_ragged_lists(call, what):
    ragged = [[1.0, 2.0, 3.0, 4.0]] * 22 + [[1.0]]
    x, y = (ragged, np.ones(23)) if what == "x" else (rows(), ragged)
    refused(call, x, y, f"{what} can't be converted to an array")


@calls
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_placed(call, bad):
    x, y = rows(), rows()[:, 0]
    x[17, 2] = bad
    refused(call, x, y, f"x holds {bad} at row 17, column 2 .counted from 0", "deep")
    y[17] = bad
    refused(call, rows(), y, f"y holds {bad} at row 17 .counted from 0", "deep")
    wide = rows()[:, :2]
    wide[17, 1] = bad
    refused(call, rows(), wide, f"y holds {bad} at row 17, column 1", "regression")


@calls
def test_no_rows(call):
    refused(call, np.empty((0, 4)), np.empty(0), "there is nothing to train on|has no rows")


@calls
def test_no_targets(call):
    message = "training and evaluating need targets: give y as well as x|y must hold numbers"
    refused(call, rows(), None, message)


# In float64 1e300 is a number; what can't be done with it is to put it into float32. The batches
# before it may have been trained on, so that nothing is said about the parameters.
@calls
def test_an_x_too_large_for_float32_is_a_fault_of_the_data(call):
    x = rows()
    x[17, 2] = 1e300
    message = r"x .*row 17, column 2.*float32|x .*float32.*row 17, column 2"
    with pytest.raises(gd.DataError, match=message):
        call(make_trainer(), x, np.ones(23))


@calls
def test_a_y_too_large_for_float32_is_a_fault_of_the_data(call):
    y = rows()[:, 0]
    y[17] = 1e300
    with pytest.raises(gd.DataError, match=r"y .*row 17.*float32|y .*float32.*row 17"):
        call(make_trainer("deep"), rows(), y)


def test_data_that_turn_bad_after_the_check_are_placed():
    x = rows()
    trainer = make_trainer()
    batches = gd.Batches(x, TASKS["binary"][2](x), batch_size=5, shuffle=True)
    row = int(batches.order(1)[7])

    def spoil(event):
        if event.name == "epoch":
            x[row, 2] = np.nan

    with pytest.raises(gd.DataError, match=f"x holds nan at row {row}, column 2 .counted from 0"):
        trainer.fit(batches, epochs=2, callbacks=[spoil])
    assert trainer.updates == 6


def test_unknown_names_are_told_with_the_known_ones():
    model = make_trainer().model
    with pytest.raises(
        ValueError, match=r"unknown loss 'msr'; the known ones are 'binary_cro.*'mse'"
    ):
        gd.Trainer(model, "msr", "sgd")
    with pytest.raises(ValueError, match=r"unknown updater 'adamm'; the known .* 'adam', 'adamw'"):
        gd.Trainer(model, "binary_crossentropy", "adamm")
    with pytest.raises(
        ValueError, match=r"unknown metric 'acc'; the known ones are 'accuracy', .*'m"
    ):
        gd.Trainer(model, "binary_crossentropy", "sgd", metrics=["acc"])
    with pytest.raises(TypeError, match=r"metrics must be a list, \['accuracy'\], not one"):
        gd.Trainer(model, "binary_crossentropy", "sgd", metrics="accuracy")


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf, "0.1", None])
def test_a_learning_rate_that_is_none_is_refused(rate):
    for updater in (gd.SGD, gd.Adam):
        with pytest.raises(
            ValueError, match="learning_rate must be a number, at least 0 and finite, not"
        ):
            updater(rate)


def test_a_metric_that_does_not_fit_the_targets_is_refused_before_training():
    # An absolute error needs a number for each output, and classes are one for all three.
    trainer, x = make_trainer("classes", metrics=["mae"]), rows()
    with pytest.raises(gd.ShapeError, match="MeanAbsoluteError"):
        trainer.fit(x, classes(x))
    assert trainer.updates == 0


def test_logits_and_probabilities_are_not_mixed_up():
    ends_in_dense = gd.Sequential([gd.Dense(1)], 4)
    with pytest.raises(
        ValueError, match=r"BinaryCrossEntropy\(from_logits=True\), or end the mode"
    ):
        gd.Trainer(ends_in_dense, "binary_crossentropy", "sgd")
    with pytest.raises(ValueError, match=r"takes logits, but the model ends in Sigmoid"):
        gd.Trainer(make_trainer().model, gd.BinaryCrossEntropy(from_logits=True), "sgd")


def test_targets_come_from_one_place():
    with pytest.raises(TypeError, match="a Batches brings its own targets: leave y out"):
        make_trainer().fit(make_batches(), np.ones(23))


@tasks
def test_a_state_taken_in_the_middle_of_an_epoch_goes_on_in_another_trainer(task):
    whole, first, second = (make_trainer(task) for _ in range(3))
    batches = make_batches(task)
    whole.fit(batches, epochs=3)
    first.fit(
        make_batches(task),
        epochs=3,
        callbacks=[lambda event: event.trainer.stop() if event.trainer.updates == 8 else None],
    )
    values = first.state_dict()
    second.load_state_dict(values)
    first.fit(make_batches(task))  # what was taken does not change with its trainer
    second.fit(make_batches(task), until_epoch=3)
    assert bits(second) == bits(whole)
    assert measured(second.history) == measured(whole.history)


def test_a_state_of_another_updater_or_a_damaged_one_is_refused():
    values = make_trainer(updater=gd.SGD(0.1, 0.9)).state_dict()
    trainer = make_trainer()
    trainer.fit(make_batches())
    with pytest.raises(gd.CheckpointError, match="the state of SGD needs"):
        make_trainer(updater=gd.SGD(0.1, 0.9)).load_state_dict(trainer.state_dict())
    del values["largest"]  # what an earlier version saved has none
    make_trainer(updater=gd.SGD(0.1, 0.9)).load_state_dict(values)
    for name in values:
        damaged = {other: value for other, value in values.items() if other != name}
        with pytest.raises(gd.CheckpointError, match=f"the state of the run is damaged: '{name}'"):
            make_trainer(updater=gd.SGD(0.1, 0.9)).load_state_dict(damaged)
