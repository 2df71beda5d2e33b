"""Callbacks: their decisions, compared with naive loops, and their files, even with disk errors.

A resumed run must make the decisions of a run that was never interrupted.
"""

import contextlib
import csv
import errno
import io
import itertools
import math
import os
import signal
import time

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd

BATCHES = 6  # of 7 rows, and the last of 5


def rows(n=40, width=10, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width))


def targets(n=40, seed=1):
    return np.random.default_rng(seed).normal(size=n)


def make_batches(n=40, **options):
    return gd.Batches(rows(n), targets(n), **{"batch_size": 7, "shuffle": True, **options})


VALIDATION = rows(20, seed=2), targets(20, seed=3)


def make_trainer(updater=None, **options):
    layers = [gd.Dense(12), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.3), gd.Dense(1)]
    model = gd.Sequential(layers, 10, seed=3)
    return gd.Trainer(model, "mse", updater or gd.Adam(0.01), **options)


def bits(model):
    """Return parameters and running statistics, as bytes."""
    return b"".join(array.tobytes() for array in model.arrays().values())


def all_bits(trainer):
    """Return what decides the next update, as bytes."""
    return bits(trainer.model) + b"".join(v.tobytes() for v in trainer.updater.state.values())


def measured(history):
    """Return the history without the seconds, which are never the same twice."""
    return {name: values for name, values in history.items() if name != "seconds"}


class Scripted:
    """Writes given values into the history, instead of the computed ones.

    It has a state, like callbacks that use the history, and gets an epoch before them.
    """

    def __init__(self, column, values):
        self.column, self.values = column, values

    def __call__(self, event):
        if event.name == "epoch":
            event.trainer.history[self.column][-1] = self.values[event.trainer.epoch - 1]

    def state_dict(self):
        return {}

    def load_state_dict(self, values):
        pass


class Lost(Exception):
    """Takes the place of a kill, at which nothing more is done."""


def lose_at(update, name="update"):
    def lose(event):
        if event.name == name and event.trainer.updates == update:
            raise Lost

    return lose


# Early stopping ----------------------------------------------------------------------------------


def naive_stop(values, patience, min_delta, mode):
    """Return the epoch of the best value, and the last epoch, counted from 1; 0 for no best."""
    best, best_epoch, since = None, 0, 0
    for epoch, value in enumerate(values, start=1):
        gain = math.inf if best is None else (best - value if mode == "min" else value - best)
        if not math.isnan(value) and gain > min_delta:
            best, best_epoch, since = value, epoch, 0
        else:
            since += 1
        if since == patience:
            return best_epoch, epoch
    return best_epoch, len(values)


quarters = st.integers(-8, 8).map(lambda n: n / 4)


@examples(25)
@given(
    st.lists(st.one_of(quarters, quarters, st.just(math.nan)), min_size=1, max_size=12),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.sampled_from(["min", "max"]),
)
def test_it_stops_where_a_naive_loop_does_and_puts_the_best_back(values, patience, delta, mode):
    best, last = naive_stop(values, patience, delta, mode)
    trainer, seen = make_trainer(), []

    def remember(event):
        if event.name == "epoch":
            seen.append(bits(event.trainer.model))

    stopping = gd.EarlyStopping("loss", patience, delta, mode)
    trainer.fit(
        make_batches(),
        epochs=len(values),
        callbacks=[Scripted("loss", values), remember, stopping],
    )
    assert trainer.epoch == last
    assert stopping.stopped == (last - best == patience)
    assert bits(trainer.model) == seen[(best or last) - 1]


def test_the_best_of_real_losses_is_put_back_with_its_running_statistics():
    trainer = make_trainer()
    history = trainer.fit(
        make_batches(),
        epochs=300,
        validation_data=VALIDATION,
        callbacks=[gd.EarlyStopping(patience=8)],
    )
    best = int(np.argmin(history["val_loss"]))
    assert trainer.epoch == best + 1 + 8 < 300
    assert trainer.evaluate(*VALIDATION)["loss"] == history["val_loss"][best]
    straight = make_trainer()
    straight.fit(make_batches(), epochs=best + 1)
    assert bits(straight.model) == bits(trainer.model)


def test_the_best_is_put_back_where_nothing_was_stopped_and_left_out_if_not_wanted():
    values = [3.0, 1.0, 2.0, 2.0]
    trainers = {epochs: make_trainer() for epochs in (2, 4)}
    for epochs, trainer in trainers.items():
        trainer.fit(make_batches(), epochs=epochs)
    for restore, epochs in ((True, 2), (False, 4)):
        trainer = make_trainer()
        stopping = gd.EarlyStopping("loss", restore_best=restore)
        trainer.fit(make_batches(), epochs=4, callbacks=[Scripted("loss", values), stopping])
        assert bits(trainer.model) == bits(trainers[epochs].model)


def test_infinity_is_never_an_improvement_and_anything_is_one_on_nothing():
    trainer = make_trainer()
    values = [math.inf, math.nan, 1e300, 1e299]
    stopping = gd.EarlyStopping("loss", patience=3, min_delta=1.0)
    trainer.fit(make_batches(), epochs=4, callbacks=[Scripted("loss", values), stopping])
    assert not stopping.stopped
    assert stopping.best == 1e299


# Ctrl-C ------------------------------------------------------------------------------------------


def press_at(update, name, how):
    """Return a callback at which Ctrl-C is pressed, once."""
    pressed = []

    def press(event):
        if event.name == name and event.trainer.updates == update and not pressed:
            pressed.append(how)
            if how == "raised":
                raise KeyboardInterrupt
            signal.raise_signal(signal.SIGINT)

    return press


def interrupted_run(update, name, how, *callbacks, values=(3.0, 1.0, 2.0, 0.5, 2.0)):
    """Return a run that was interrupted, its early stopping, and bits of each epoch and of then."""
    trainer, seen, stopping = make_trainer(), [], gd.EarlyStopping("loss", patience=3)

    def remember(event):
        if event.name == "epoch":
            seen.append(bits(event.trainer.model))
        if event.name == "update":
            seen[trainer.epoch :] = [bits(event.trainer.model)]

    press = press_at(update, name, how)
    own = [Scripted("loss", values), remember, stopping, *callbacks, press]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(make_batches(), until_epoch=5, callbacks=own)
    assert trainer.updates == update
    return trainer, stopping, own, seen


class Saving(gd.Checkpoint):
    """Saves at each event before Ctrl-C comes, and at none after `fit` has ended."""

    last = False

    def __call__(self, event):
        if event.name in ("update", "epoch", "end"):
            self.save(event)


# Updates at which Ctrl-C comes, and the epoch that is the best one by then; 0 for none.
MOMENTS = [(3, "update", 0), (6, "epoch", 1), (8, "update", 1), (12, "epoch", 2), (13, "update", 2),
           (20, "update", 2), (24, "epoch", 4), (26, "update", 4)]  # fmt: skip
each_moment = pytest.mark.parametrize(("update", "name", "best"), MOMENTS)


@pytest.mark.few
@each_moment
@pytest.mark.parametrize("how", ["raised", "pressed"])
def test_ctrl_c_puts_the_best_back(update, name, best, how):
    trainer, _, _, seen = interrupted_run(update, name, how)
    assert bits(trainer.model) == seen[best - 1 if best else -1]


@each_moment
def test_a_run_that_ctrl_c_ended_goes_on_to_the_same_bits(tmp_path, update, name, best):
    values = (3.0, 1.0, 2.0, 0.5, 2.0)
    straight = make_trainer()
    own = [Scripted("loss", values), gd.EarlyStopping("loss", patience=3)]
    straight.fit(make_batches(), until_epoch=5, callbacks=own)
    straight.fit(epochs=2, callbacks=own[1:])

    trainer, _, own, _ = interrupted_run(update, name, "pressed")
    trainer.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", make_batches())
    for run, stopping in ((trainer, own[2]), (again, gd.EarlyStopping("loss", patience=3))):
        run.fit(until_epoch=5, callbacks=[Scripted("loss", values), own[1], stopping])
        run.fit(epochs=2, callbacks=[stopping])
        assert all_bits(run) == all_bits(straight)
        assert measured(run.history) == measured(straight.history)


@each_moment
def test_a_checkpoint_holds_the_last_and_not_the_best(tmp_path, update, name, best):
    path = tmp_path / "run.npz"
    _, _, _, seen = interrupted_run(update, name, "raised", Saving(path))
    assert bits(gd.load(path)) == seen[-1]


def test_model_fit_leaves_the_best_at_ctrl_c():
    model = make_trainer().model
    seen = []

    def remember(event):
        if event.name == "epoch":
            seen.append(bits(event.trainer.model))

    with pytest.raises(KeyboardInterrupt):
        model.fit(
            rows(), targets(), loss="mse", batch_size=7, epochs=5,
            callbacks=[Scripted("loss", [1.0, 2.0, 3.0, 4.0, 5.0]), remember,
                       gd.EarlyStopping("loss"), press_at(18, "epoch", "pressed")],
        )  # fmt: skip
    assert len(seen) == 3
    assert bits(model) == seen[0]


def test_only_done_is_told_at_ctrl_c_and_a_second_one_waits_for_it():
    events = []

    def hear(event):
        events.append(event.name)
        if event.name == "done":
            signal.raise_signal(signal.SIGINT)  # as the best parameters are put back
            events.append("whole")

    with pytest.raises(KeyboardInterrupt):
        make_trainer().fit(make_batches(), callbacks=[hear, press_at(2, "update", "pressed")])
    assert events == ["start", "update", "update", "done", "whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


LESS = ["loss", "mae", "mse", "rmse", "mean_absolute_error"]
MORE = ["accuracy", "precision", "recall", "f1", "r2"]


@pytest.mark.parametrize("monitor", LESS + MORE)
@pytest.mark.parametrize("place", ["", "val_"])
def test_more_is_better_for_scores_and_less_for_losses(monitor, place):
    score = monitor in MORE[:4]
    last, loss = ([gd.Sigmoid()], "binary_crossentropy") if score else ([], "mse")
    model = gd.Sequential([gd.Dense(1), *last], 10)
    metrics = [] if monitor == "loss" else [monitor]
    trainer = gd.Trainer(model, loss, "adam", metrics)
    y = (targets() > 0).astype(int) if score else targets()
    values = [1.0, 3.0, 2.0, 2.0, 2.0]
    stopping = gd.EarlyStopping(place + monitor, patience=2)
    trainer.fit(
        rows(),
        y,
        epochs=5,
        validation_data=(rows(), y),
        callbacks=[Scripted(place + monitor, values), stopping],
    )
    assert trainer.epoch == (4 if monitor in MORE else 3)


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    message = "watches 'val_loss', but the history has only loss, mae, seconds, updates: pass"
    for callback in (gd.EarlyStopping(), gd.ReduceOnPlateau()):
        with pytest.raises(ValueError, match=f"{type(callback).__name__} {message}"):
            make_trainer(metrics=["mae"]).fit(make_batches(), callbacks=[callback])


@pytest.mark.parametrize("kind", [gd.EarlyStopping, gd.ReduceOnPlateau])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0}, "patience must be an integer, at least 1, not 0"),
        ({"patience": 2.5}, "patience must be an integer"),
        ({"min_delta": -0.1}, "min_delta must be a number, at least 0"),
        ({"min_delta": math.nan}, "min_delta must be a number"),
        ({"mode": "least"}, "mode must be 'auto', 'min' or 'max', not 'least'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def stopped_run(path):
    trainer, stopping = make_trainer(), gd.EarlyStopping(patience=3)
    trainer.fit(
        make_batches(),
        until_epoch=200,
        validation_data=VALIDATION,
        callbacks=[stopping, gd.Checkpoint(path)],
    )
    assert stopping.stopped
    return trainer, stopping


def test_a_run_that_was_stopped_and_is_started_again_stays_stopped(tmp_path):
    path = tmp_path / "run.npz"
    first, stopping = stopped_run(path)
    for _ in range(3):
        again, events = gd.Trainer.resume(path, make_batches()), []
        again.fit(
            until_epoch=200,
            validation_data=VALIDATION,
            callbacks=[gd.EarlyStopping(patience=3), gd.Checkpoint(path), events.append],
        )
        assert [event.name for event in events] == ["start", "end", "done"]
        assert bits(again.model) == bits(first.model)
        assert measured(again.history) == measured(first.history)
    # Neither does the same trainer go on.
    first.fit(until_epoch=200, validation_data=VALIDATION, callbacks=[stopping])
    assert first.updates == again.updates


@pytest.mark.parametrize("resumed", [False, True])
def test_epochs_more_have_patience_anew(tmp_path, resumed):
    trainer, stopping = stopped_run(tmp_path / "run.npz")
    epochs = trainer.epoch
    if resumed:
        trainer = gd.Trainer.resume(tmp_path / "run.npz")
        stopping = gd.EarlyStopping(patience=3)
    values = [math.nan] * (epochs + 9)
    trainer.fit(
        make_batches(),
        epochs=9,
        validation_data=VALIDATION,
        callbacks=[Scripted("val_loss", values), stopping],
    )
    assert trainer.epoch == epochs + 3


def test_another_model_is_watched_afresh_and_the_same_one_is_not():
    stopping = gd.EarlyStopping("loss", patience=2)
    first, second = make_trainer(), make_trainer()
    first.fit(make_batches(), epochs=2, callbacks=[Scripted("loss", [1.0, 1.0]), stopping])
    assert (stopping.best, stopping.waited) == (1.0, 1)
    first.fit(make_batches(), epochs=5, callbacks=[Scripted("loss", [1.0] * 7), stopping])
    assert first.epoch == 3
    second.fit(make_batches(), epochs=5, callbacks=[Scripted("loss", [2.0] * 5), stopping])
    assert second.epoch == 3
    assert stopping.best == 2.0


# Plateaus ----------------------------------------------------------------------------------------


def naive_scales(values, factor, patience, min_delta, min_scale):
    """Return what multiplies the rate after each epoch."""
    scales, scale, best, since = [], 1.0, None, 0
    for value in values:
        if not math.isnan(value) and (best is None or best - value > min_delta):
            best, since = value, 0
        else:
            since += 1
        if since == patience:
            since = 0
            if scale > min_scale:
                scale = max(scale * factor, min_scale)
        scales.append(scale)
    return scales


@examples(25)
@given(
    st.lists(st.one_of(quarters, quarters, st.just(math.nan)), min_size=1, max_size=12),
    st.sampled_from([0.1, 0.5]),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([0.0, 0.03, 0.3]),
)
def test_the_rate_is_lowered_where_a_naive_loop_lowers_it(values, factor, patience, delta, least):
    trainer, scales = make_trainer(), []
    plateau = gd.ReduceOnPlateau("loss", factor, patience, delta, min_scale=least)

    def note(event):
        if event.name == "epoch":
            scales.append(event.trainer.updater.scale)

    trainer.fit(
        make_batches(),
        epochs=len(values),
        callbacks=[Scripted("loss", values), plateau, note],
    )
    assert scales == naive_scales(values, factor, patience, delta, least)


def test_it_goes_together_with_a_schedule():
    schedule = gd.CosineDecay(0.1, updates=40)
    trainer, rates = make_trainer(gd.SGD(schedule)), []
    values = [1.0, 2.0, 2.0, 2.0, 2.0]

    def note(event):
        if event.name in ("start", "update"):
            rates.append(event.trainer.updater.learning_rate)

    trainer.fit(
        make_batches(),
        epochs=5,
        callbacks=[Scripted("loss", values), gd.ReduceOnPlateau("loss", 0.5, 2), note],
    )
    scales = np.repeat([1.0, 0.5], [3 * BATCHES + 1, 2 * BATCHES])
    t = np.arange(5 * BATCHES + 1)
    np.testing.assert_allclose(rates[:-1], (scales * 0.05 * (1 + np.cos(np.pi * t / 40)))[:-1])


@pytest.mark.parametrize("factor", [0, 1, 1.5, -0.1, math.nan])
def test_a_factor_that_does_not_lower_is_refused(factor):
    with pytest.raises(ValueError, match="factor must be"):
        gd.ReduceOnPlateau(factor=factor)


# Lost and started again --------------------------------------------------------------------------

SCHEDULES = {
    "a number": lambda: 0.01,
    "by update": lambda: gd.WarmUp(gd.CosineDecay(0.02, updates=60), updates=9),
    "by epoch": lambda: gd.StepDecay(0.02, 0.5, epochs=2),
}


def script(path, until_epoch, rate, lose=None):
    """Go on from the file if it is there, as a script that is started again does."""
    batches = make_batches()
    if path.exists():
        trainer = gd.Trainer.resume(path, batches)
    else:
        trainer = make_trainer(gd.Adam(rate()), accumulate=4)
    deciding = [gd.EarlyStopping("loss", patience=4), gd.ReduceOnPlateau("val_loss", 0.5, 2, 0.2)]
    log = gd.CsvLog(path.with_suffix(".csv"))
    trainer.fit(
        batches,
        until_epoch=until_epoch,
        validation_data=VALIDATION,
        callbacks=[
            # Worse from epoch 7 on, so that the run is stopped in epoch 10.
            Scripted("loss", [*[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], *[7.0] * 24]),
            *deciding,
            log,
            gd.Checkpoint(path, every_updates=1),
            *([] if lose is None else [lose]),
        ],
    )
    return trainer, [callback.state_dict() for callback in deciding]


def decided(states):
    return [
        {name: v for name, v in state.items() if name not in ("arrays", "last")} for state in states
    ]


def without_seconds(path):
    with open(path, newline="") as file:
        return [{k: v for k, v in line.items() if k != "seconds"} for line in csv.DictReader(file)]


@pytest.fixture(scope="module", params=SCHEDULES)
def straight(request, tmp_path_factory):
    """Return a rate, and the run with it that is never interrupted."""
    path = tmp_path_factory.mktemp("straight") / "run.npz"
    trainer, states = script(path, 30, SCHEDULES[request.param])
    # Six batches, four to an update: two updates an epoch, the second one of two batches.
    assert (trainer.epoch, trainer.updates) == (10, 20)
    assert trainer.updater.scale < 1
    return SCHEDULES[request.param], trainer, states, without_seconds(path.with_suffix(".csv"))


@pytest.mark.each
@pytest.mark.parametrize(
    ("update", "name"), [(1, "update"), (6, "update"), (12, "epoch"), (15, "update"), (20, "end")]
)
def test_what_callbacks_decide_is_the_same_in_a_run_that_was_lost(tmp_path, straight, update, name):
    rate, whole, states, log = straight
    path = tmp_path / "run.npz"
    with pytest.raises(Lost):
        script(path, 30, rate, lose_at(update, name))
    again, found = script(path, 30, rate)
    assert all_bits(again) == all_bits(whole)
    assert measured(again.history) == measured(whole.history)
    assert again.updater.scale == whole.updater.scale
    assert again.updater.learning_rate == whole.updater.learning_rate
    assert without_seconds(path.with_suffix(".csv")) == log
    assert decided(found) == decided(states)
    arrays, expected = found[0]["arrays"], states[0]["arrays"]
    assert {k: v.tobytes() for k, v in arrays.items()} == {
        k: v.tobytes() for k, v in expected.items()
    }


def test_a_checkpoint_in_front_of_the_others_holds_what_they_decide_at_the_same_event(tmp_path):
    def train(path, lose):
        batches = make_batches()
        trainer = gd.Trainer.resume(path, batches) if path.exists() else make_trainer()
        callbacks = [gd.Checkpoint(path), gd.ReduceOnPlateau("loss", 0.5, 1, min_delta=9.0), *lose]
        trainer.fit(batches, until_epoch=4, callbacks=callbacks)
        return trainer.updater.scale

    straight = train(tmp_path / "straight.npz", [])
    with pytest.raises(Lost):
        train(tmp_path / "run.npz", [lose_at(2 * BATCHES + 1)])
    assert train(tmp_path / "run.npz", []) == straight == 0.125


# Names -------------------------------------------------------------------------------------------


def test_several_of_one_kind_are_told_apart_by_a_number(tmp_path):
    def several():
        return [
            gd.EarlyStopping("loss", patience=50),
            gd.ReduceOnPlateau("loss"),
            gd.EarlyStopping("val_loss", patience=60),
        ]

    trainer, first = make_trainer(), several()
    trainer.fit(make_batches(), epochs=3, validation_data=VALIDATION, callbacks=first)
    names = ["EarlyStopping", "ReduceOnPlateau", "EarlyStopping 2"]
    assert list(trainer.state_dict()["callbacks"]) == names
    trainer.save(tmp_path / "run.npz")
    again, second = gd.Trainer.resume(tmp_path / "run.npz", make_batches()), several()
    again.fit(epochs=0, validation_data=VALIDATION, callbacks=second)
    assert [c.best for c in second] == [c.best for c in first]
    assert second[0].best == min(trainer.history["loss"])
    assert second[2].best == min(trainer.history["val_loss"]) != second[0].best


def test_a_callback_with_a_state_that_is_not_given_again_is_asked_for(tmp_path):
    trainer = make_trainer()
    trainer.fit(make_batches(), callbacks=[gd.EarlyStopping("loss"), gd.ReduceOnPlateau("loss")])
    trainer.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", make_batches())
    with pytest.warns(
        UserWarning, match="a callback 'EarlyStopping' with a state, but this fit has no"
    ):
        again.fit(callbacks=[gd.ReduceOnPlateau("loss")])


def test_a_callback_without_a_state_is_not_asked_for(tmp_path):
    trainer = make_trainer()
    trainer.fit(make_batches(), callbacks=[gd.PrintEvery(1000), lambda event: None])
    trainer.save(tmp_path / "run.npz")
    gd.Trainer.resume(tmp_path / "run.npz", make_batches()).fit()


# Custom ones -------------------------------------------------------------------------------------


def test_a_callback_takes_five_lines():
    seen = []

    def stop_when_good(event):
        if event.name == "epoch":
            seen.append(event.loss)
            if event.loss < 0.5:
                event.trainer.stop()

    history = make_trainer().fit(make_batches(), epochs=500, callbacks=[stop_when_good])
    assert seen == history["loss"]
    assert seen[-1] < 0.5 <= min(seen[:-1])


class Average:
    """The mean of the losses of all updates; NumPy's scalars and arrays are kept as they are."""

    def __init__(self):
        self.total, self.parts = np.float32(0), np.zeros(2, dtype="float32")

    def __call__(self, event):
        if event.name == "update":
            self.total = self.total + np.float32(event.loss)
            self.parts[event.trainer.updates % 2] += np.float32(event.loss)

    def state_dict(self):
        return {"total": self.total, "nested": {"array": self.parts}}

    def load_state_dict(self, values):
        self.total, self.parts = values["total"], values["nested"]["array"]


def test_a_callback_of_ones_own_keeps_its_state_to_the_bit(tmp_path):
    whole, cut = Average(), Average()
    make_trainer().fit(make_batches(), epochs=2, callbacks=[whole])
    trainer = make_trainer()
    with pytest.raises(Lost):
        trainer.fit(make_batches(), epochs=2, callbacks=[cut, lose_at(8)])
    trainer.save(tmp_path / "run.npz")
    again = Average()
    trainer = gd.Trainer.resume(tmp_path / "run.npz", make_batches())
    trainer.fit(until_epoch=2, callbacks=[again])
    assert again.total.dtype == whole.total.dtype == np.float32
    assert again.total.tobytes() == whole.total.tobytes()
    assert again.parts.tobytes() == whole.parts.tobytes()


@pytest.mark.parametrize("given", [print, gd.PrintEvery(3), 5, [3], [None]])
def test_what_is_no_list_of_callbacks_is_refused(given):
    with pytest.raises(TypeError, match=r"callbacks must be a list|must be callable|not iterable"):
        make_trainer().fit(make_batches(), callbacks=given)


# Checkpoints -------------------------------------------------------------------------------------


class Noted(gd.Checkpoint):
    """Notes at which event it saves, and after how many updates."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        self.saved = []

    def save(self, event):
        self.saved.append((event.name, event.trainer.updates))
        super().save(event)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("epoch", 6), ("epoch", 12), ("epoch", 18)]),
        ({"every_epochs": 2}, [("epoch", 12)]),
        ({"every_updates": 4}, [("update", n) for n in (4, 8, 12, 16)]),
        ({"every_updates": 5, "every_epochs": 3}, [*(("update", n) for n in (5, 10, 15)),
                                                    ("epoch", 18)]),
        ({"every_updates": 1000}, []),
    ],
)  # fmt: skip
def test_it_saves_when_it_is_told_to_and_when_training_ends(tmp_path, options, expected):
    checkpoint = Noted(tmp_path / "run.npz", **options)
    trainer = make_trainer()
    trainer.fit(make_batches(), epochs=3, callbacks=[checkpoint])
    assert checkpoint.saved == [*expected, ("end", 18)]
    assert os.listdir(tmp_path) == ["run.npz"]
    assert all_bits(gd.Trainer.resume(tmp_path / "run.npz", make_batches())) == all_bits(trainer)


def test_it_saves_after_so_many_seconds_also_between_the_batches_of_an_update(
    tmp_path, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def second(event):
        now[0] += event.name in ("batch", "update")

    checkpoint = Noted(tmp_path / "run.npz", every_seconds=2.5)
    trainer = make_trainer(accumulate=4)
    trainer.fit(make_batches(), epochs=2, callbacks=[second, checkpoint])
    # In each epoch three batches, one with an update, two, and the update of those two.
    assert checkpoint.saved == [("batch", 0), ("batch", 1), ("batch", 2), ("batch", 3), ("end", 4)]


@pytest.mark.parametrize(
    "options", [{"every_updates": 0}, {"every_epochs": 1.5}, {"every_seconds": -1.0}]
)
def test_times_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        gd.Checkpoint("run.npz", **options)


class FullFile(io.FileIO):
    """A file on a disk that has room for so many bytes more."""

    room = 0

    def write(self, data):
        data = bytes(data)
        if FullFile.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = super().write(data[: FullFile.room])
        FullFile.room -= taken
        return taken


@contextlib.contextmanager
def full_disk(monkeypatch, room):
    """Let every file that is opened for writing find a disk with so much room, below Python's."""
    FullFile.room = room
    real = open

    def opened(path, mode="r", *args, newline=None, **options):
        kind = mode.replace("b", "")
        if kind == "r":
            return real(path, mode, *args, newline=newline, **options)
        buffered = io.BufferedWriter(FullFile(path, kind))
        return buffered if "b" in mode else io.TextIOWrapper(buffered, "utf-8", newline=newline)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", opened)
        yield


@contextlib.contextmanager
def failing_fsync(monkeypatch, room):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        yield


@contextlib.contextmanager
def read_only_folder(monkeypatch, room):
    # The permission itself would not stop a superuser, under whom tests in containers run.
    real = open

    def opened(path, mode="r", *args, **options):
        if mode[0] != "r":
            raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, mode, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", opened)
        yield


TROUBLE = {
    "full from the start": (full_disk, 0),
    "full in the middle": (full_disk, 0.5),
    "full at the last bytes": (full_disk, 0.99),
    "full at the flush": (failing_fsync, 0),
    "read-only": (read_only_folder, 0),
}


@pytest.mark.parametrize(("trouble", "room"), TROUBLE.values(), ids=TROUBLE)
def test_a_disk_that_takes_nothing_leaves_the_old_file_and_the_run_going(
    tmp_path, monkeypatch, trouble, room
):
    path = tmp_path / "run.npz"
    straight, trainer = make_trainer(), make_trainer()
    straight.fit(make_batches(), epochs=3)
    trainer.fit(make_batches(), epochs=1, callbacks=[gd.Checkpoint(path)])
    whole, before = path.read_bytes(), all_bits(trainer)
    with (
        trouble(monkeypatch, int(room * len(whole))),
        pytest.warns(RuntimeWarning, match=r"run\.npz' could not be written .*training continues"),
    ):
        trainer.fit(until_epoch=2, callbacks=[gd.Checkpoint(path)])
    assert path.read_bytes() == whole
    assert os.listdir(tmp_path) == ["run.npz"]
    assert all_bits(gd.Trainer.resume(path, make_batches())) == before
    # With room again it is saved again, and nothing of the training was lost.
    trainer.fit(until_epoch=3, callbacks=[gd.Checkpoint(path)])
    assert all_bits(trainer) == all_bits(straight)
    assert all_bits(gd.Trainer.resume(path, make_batches())) == all_bits(straight)


def test_a_folder_that_is_not_there_is_a_warning_too(tmp_path):
    trainer = make_trainer()
    with pytest.warns(RuntimeWarning, match="there is no folder .*missing"):
        trainer.fit(make_batches(), callbacks=[gd.Checkpoint(tmp_path / "missing" / "run.npz")])
    assert trainer.epoch == 1


class Nameless(gd.Layer):
    """Does not keep its argument, so that no file can hold it."""

    def __init__(self, size):
        pass

    def forward(self, x, train=False):
        return x

    def backward(self, dy):
        return dy


def test_a_model_that_can_not_be_saved_is_an_error_and_no_warning(tmp_path):
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1), Nameless(3)], 10), "mse", "sgd")
    with pytest.raises(TypeError, match=r"write `self.size = size` in it"):
        trainer.fit(make_batches(), callbacks=[gd.Checkpoint(tmp_path / "run.npz")])
    assert os.listdir(tmp_path) == []


class Spoiled(gd.Layer):
    """Passes everything on, until a training pass after which its gradient is NaN."""

    def __init__(self, last=10**9):
        self.last = last

    def forward(self, x, train=False):
        return x

    def backward(self, dy):
        self.last -= 1
        return dy * np.nan if self.last < 0 else dy


@pytest.mark.parametrize("accumulate", [1, 4])
def test_nan_stops_the_run_and_the_last_checkpoint_holds_the_last_good_update(tmp_path, accumulate):
    path = tmp_path / "run.npz"
    layers = [gd.Dense(6), gd.BatchNorm(), Spoiled(8), gd.Dropout(0.2), gd.Dense(1)]
    trainer = gd.Trainer(
        gd.Sequential(layers, 10, seed=1), "mse", gd.Adam(0.01), accumulate=accumulate
    )
    checkpoint = Noted(path, every_updates=1)
    with pytest.raises(gd.DivergenceError, match=r"the gradient of batchnorm1\.\w+ is not finite"):
        trainer.fit(make_batches(), epochs=5, callbacks=[checkpoint])
    # Of nine batches eight were good; four are an update, or the two left at the epoch's end.
    assert checkpoint.saved[-1] == ("update", 8 if accumulate == 1 else 2)
    again = gd.Trainer.resume(path, make_batches(), custom=[Spoiled])
    assert again.updates == trainer.updates == checkpoint.saved[-1][1]
    if accumulate == 1:
        assert all_bits(again) == all_bits(trainer)
    again.model.layers[2].last = 10**9
    again.fit(until_epoch=3)
    layers[2] = Spoiled()
    whole = gd.Trainer(
        gd.Sequential([type(layer)(**layer.config()) for layer in layers], 10, seed=1),
        "mse",
        gd.Adam(0.01),
        accumulate=accumulate,
    )
    whole.fit(make_batches(), epochs=3)
    assert all_bits(again) == all_bits(whole)


def test_what_a_kill_left_half_written_is_removed_at_the_start(tmp_path):
    left = [f".{name}.{'a1' * 16}.tmp" for name in ("run.npz", "log.csv", "other.npz")]
    for name in left:
        (tmp_path / name).write_bytes(b"half")
    callbacks = [gd.CsvLog(tmp_path / "log.csv"), gd.Checkpoint(tmp_path / "run.npz")]
    make_trainer().fit(make_batches(), epochs=0, callbacks=callbacks)
    assert sorted(os.listdir(tmp_path)) == [left[2], "run.npz"]


# The log -----------------------------------------------------------------------------------------


def read_log(path):
    with open(path, newline="") as file:
        head, *lines = csv.reader(file)
    return head, [[float(value) for value in line] for line in lines]


def assert_log_is_history(path, history):
    head, lines = read_log(path)
    assert head == ["epoch", *history]
    expected = [
        [epoch + 1, *(column[epoch] for column in history.values())]
        for epoch in range(history.epochs)
    ]
    np.testing.assert_array_equal(lines, expected)  # to the last bit; NaN is equal to NaN


def test_the_log_is_the_history_after_each_epoch(tmp_path):
    path, trainer = tmp_path / "log.csv", make_trainer(metrics=["mae"])

    def look(event):
        if event.name == "epoch":
            assert_log_is_history(path, event.trainer.history)

    trainer.fit(
        make_batches(), epochs=4, validation_data=VALIDATION, callbacks=[gd.CsvLog(path), look]
    )
    assert read_log(path)[0] == ["epoch", *trainer.history]
    assert len(read_log(path)[1]) == 4
    assert os.listdir(tmp_path) == ["log.csv"]


def test_an_epoch_is_a_line_more_and_leaves_the_others_alone(tmp_path):
    path, trainer, texts = tmp_path / "log.csv", make_trainer(), []

    def look(event):
        if event.name == "epoch":
            texts.append((path.read_bytes(), os.stat(path).st_ino))

    trainer.fit(make_batches(), epochs=4, callbacks=[gd.CsvLog(path), look])
    for (before, place), (after, later) in itertools.pairwise(texts):
        assert after.startswith(before)
        assert after.count(b"\n") == before.count(b"\n") + 1
        assert later == place
    trainer.fit(epochs=2, callbacks=[gd.CsvLog(path)])
    assert path.read_bytes().startswith(texts[-1][0])
    assert_log_is_history(path, trainer.history)


def test_a_run_that_goes_on_drops_the_lines_of_epochs_that_it_makes_again(tmp_path):
    path, run = tmp_path / "log.csv", tmp_path / "run.npz"
    callbacks = [gd.CsvLog(path), gd.Checkpoint(run, every_epochs=2)]
    with pytest.raises(Lost):
        make_trainer().fit(
            make_batches(), epochs=9, callbacks=[*callbacks, lose_at(5 * BATCHES, "epoch")]
        )
    assert len(read_log(path)[1]) == 5
    with open(path, "a") as file:
        file.write("6,0.12")  # killed in the middle of a line
    trainer = gd.Trainer.resume(run, make_batches())
    assert trainer.epoch == 4
    trainer.fit(until_epoch=7, callbacks=[gd.CsvLog(path)])
    assert_log_is_history(path, trainer.history)


def test_a_new_run_begins_a_new_log(tmp_path):
    path = tmp_path / "log.csv"
    make_trainer().fit(make_batches(), epochs=5, callbacks=[gd.CsvLog(path)])
    trainer = make_trainer()
    trainer.fit(make_batches(), epochs=2, callbacks=[gd.CsvLog(path)])
    assert_log_is_history(path, trainer.history)


def test_a_column_that_comes_later_is_nan_before(tmp_path):
    path, trainer = tmp_path / "log.csv", make_trainer()
    trainer.fit(make_batches(), epochs=2, callbacks=[gd.CsvLog(path)])
    trainer.fit(epochs=2, validation_data=VALIDATION, callbacks=[gd.CsvLog(path)])
    assert_log_is_history(path, trainer.history)
    assert "val_loss" in read_log(path)[0]
    assert np.isnan(trainer.history["val_loss"]).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("trouble", "room"), [(full_disk, 0), (full_disk, 7), (read_only_folder, 0)]
)
@pytest.mark.parametrize("started", [True, False])
def test_a_log_that_can_not_be_written_lacks_nothing_afterwards(
    tmp_path, monkeypatch, trouble, room, started
):
    path, trainer, log = tmp_path / "log.csv", make_trainer(), gd.CsvLog(tmp_path / "log.csv")
    if started:
        trainer.fit(make_batches(), epochs=2, callbacks=[log])
    before = path.read_bytes() if started else None
    stack = contextlib.ExitStack()

    def epochs_of_trouble(event):
        # Behind the log's own "start", so that it is the line of an epoch that does not fit.
        if event.name == "start":
            stack.enter_context(trouble(monkeypatch, room))
        elif event.name == "epoch":
            FullFile.room = 0
            texts.append(path.read_bytes() if path.exists() and path.stat().st_size else None)
        elif event.name == "end":
            stack.close()

    texts = []
    with pytest.warns(RuntimeWarning, match=r"log\.csv' could not be written .*training continues"):
        trainer.fit(make_batches(), epochs=2, callbacks=[log, epochs_of_trouble])
    assert texts == [before, before]
    assert os.listdir(tmp_path) == (["log.csv"] if started else [])
    trainer.fit(epochs=1, callbacks=[log])
    assert_log_is_history(path, trainer.history)


def test_the_lines_that_were_missed_come_with_the_next_one(tmp_path, monkeypatch):
    path, trainer = tmp_path / "log.csv", make_trainer()
    stack = contextlib.ExitStack()

    def trouble_in_epoch_2(event):
        if event.name == "epoch" and event.trainer.epoch == 1:
            stack.enter_context(full_disk(monkeypatch, 9))
        elif event.name == "epoch" and event.trainer.epoch == 2:
            stack.close()

    with pytest.warns(RuntimeWarning, match="could not be written"):
        trainer.fit(make_batches(), epochs=3, callbacks=[gd.CsvLog(path), trouble_in_epoch_2])
    assert_log_is_history(path, trainer.history)


def bytes_of_another_program(path):
    path.write_bytes(b"\xff\xfe" + path.read_bytes())


def a_long_field(path):
    path.write_text("x" * 200_000, encoding="utf-8")


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [bytes_of_another_program, a_long_field, a_pipe])
def test_a_log_that_another_program_changes_ends_no_training(tmp_path, damage):
    path, trainer = tmp_path / "log.csv", make_trainer()

    def change(event):
        if event.name == "epoch" and event.trainer.epoch == 1:
            damage(path)

    with contextlib.ExitStack() as stack:
        if damage is a_pipe:
            stack.enter_context(pytest.warns(RuntimeWarning, match="not a regular file"))
        trainer.fit(make_batches(), epochs=3, callbacks=[gd.CsvLog(path), change])
    assert trainer.epoch == 3
    if damage is not a_pipe:
        assert_log_is_history(path, trainer.history)


# Lines -------------------------------------------------------------------------------------------


def test_a_line_every_so_many_updates(capsys):
    trainer, lines = make_trainer(gd.SGD(gd.StepDecay(0.1, 0.5, epochs=1))), []

    def note(event):
        if event.name == "update" and event.trainer.updates % 4 == 0:
            lines.append(
                f"epoch {event.trainer.epoch + 1}  update {event.trainer.updates}  "
                f"loss {float(event.loss):.4g}  learning rate {0.1 * 0.5**event.trainer.epoch:.4g}"
            )

    trainer.fit(make_batches(), epochs=2, callbacks=[gd.PrintEvery(4), note])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == lines
    assert [line.split("  ")[:2] for line in lines] == [
        ["epoch 1", "update 4"],
        ["epoch 2", "update 8"],
        ["epoch 2", "update 12"],
    ]


def test_lines_need_a_number_of_updates_and_a_console(monkeypatch):
    with pytest.raises(ValueError, match="updates must be an integer, at least 1, not 0"):
        gd.PrintEvery(0)
    trainer = make_trainer()
    monkeypatch.setattr("sys.stderr", None)
    trainer.fit(make_batches(), callbacks=[gd.PrintEvery(1)])
    assert trainer.epoch == 1


# A callback used again ---------------------------------------------------------------------------


def noisy():
    rng = np.random.default_rng(0)
    X, Xv = rng.normal(size=(40, 6)), rng.normal(size=(100, 6))
    return X, X[:, 0] + 3 * rng.normal(size=40), Xv, Xv[:, 0] + rng.normal(size=100)


def wide():
    return gd.Sequential([gd.Dense(64), gd.Tanh(), gd.Dense(1)], inputs=6)


def test_a_second_fit_starts_afresh():
    X, y, Xv, yv = noisy()
    model, stop = wide(), gd.EarlyStopping(patience=3)
    model.fit(X, y, loss="mse", epochs=30, validation_data=(Xv, yv), callbacks=[stop])
    first = model.flat_params.copy()
    history = model.fit(
        X, 10 * y + 50, loss="mse", epochs=20, validation_data=(Xv, 10 * yv + 50), callbacks=[stop]
    )
    assert history.epochs > 4
    assert not np.array_equal(first, model.flat_params)


@pytest.mark.parametrize("saved", [False, True])
def test_a_run_in_two_parts_is_the_run_in_one(tmp_path, saved):
    X, y, Xv, yv = noisy()
    batches = gd.Batches(X, y, batch_size=10, shuffle=True)

    def part(trainer, until, stop):
        trainer.fit(batches, until_epoch=until, validation_data=(Xv, yv), callbacks=[stop])
        return trainer

    whole = part(gd.Trainer(wide(), "mse", gd.Adam(0.01)), 30, gd.EarlyStopping(patience=40))
    stop = gd.EarlyStopping(patience=40)
    cut = part(gd.Trainer(wide(), "mse", gd.Adam(0.01)), 15, stop)
    best = min(whole.history["val_loss"][:15])
    assert cut.evaluate(Xv, yv)["loss"] == best
    if saved:
        # Saved after the end, with the best parameters in the model.
        cut.save(tmp_path / "run.npz")
        cut, stop = gd.Trainer.resume(tmp_path / "run.npz", batches), gd.EarlyStopping(patience=40)
    part(cut, 30, stop)
    assert cut.history["loss"] == whole.history["loss"]
    np.testing.assert_array_equal(cut.model.flat_params, whole.model.flat_params)


def test_a_model_that_was_changed_in_between_is_taken_as_it_is():
    X, y, Xv, yv = noisy()
    trainer, stop = gd.Trainer(wide(), "mse", gd.SGD(0.0)), gd.EarlyStopping(patience=40)
    trainer.fit(X, y, epochs=2, validation_data=(Xv, yv), callbacks=[stop])
    trainer.model.flat_params[...] = 0.25
    trainer.fit(epochs=1, validation_data=(Xv, yv), callbacks=[lambda event: None])
    assert (trainer.model.flat_params == 0.25).all()


def test_a_class_in_the_place_of_a_callback_is_refused():
    X, y, _, _ = noisy()
    with pytest.raises(TypeError, match=r"EarlyStopping is a class.*parentheses"):
        wide().fit(X, y, loss="mse", callbacks=[gd.EarlyStopping])


def test_a_state_that_no_file_can_hold_is_named(tmp_path):
    class Sets:
        def __call__(self, event):
            pass

        def state_dict(self):
            return {"seen": {1, 2}}

        def load_state_dict(self, values):
            pass

    X, y, _, _ = noisy()
    trainer = gd.Trainer(wide(), "mse", "adam")
    trainer.fit(X, y, callbacks=[Sets()])
    with pytest.raises(TypeError, match=r"callbacks/Sets/seen can't be saved: it is \{1, 2\}"):
        trainer.save(tmp_path / "run.npz")


@pytest.mark.parametrize(
    "events", ["epoch", ["epochs"], {"epoch", "Update"}, None, 3, [], {"a": 1}]
)
def test_events_that_never_come_are_no_wish(events):
    class Recorder:
        def __init__(self):
            self.events = events

        def __call__(self, event):
            raise AssertionError("nobody is trained for the wrong events")

    X = np.zeros((6, 2))
    model = gd.Sequential([gd.Dense(1)], inputs=2)
    with pytest.raises((TypeError, ValueError), match=r"callbacks: Recorder\.events "):
        model.fit(X, X[:, 0], loss="mse", callbacks=[Recorder()])


@pytest.mark.parametrize("events", [{"epoch"}, ("epoch",), ["epoch"], frozenset({"epoch"}), set()])
def test_a_callback_gets_the_events_that_it_names(events):
    seen = []

    def record(event):
        seen.append(event.name)

    record.events = events
    X = np.zeros((6, 2))
    gd.Sequential([gd.Dense(1)], inputs=2).fit(X, X[:, 0], loss="mse", callbacks=[record])
    assert seen == list(events)
