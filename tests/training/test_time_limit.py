"""A time limit: the step or chunk at hand is made, the run is saved, and goes on to the same bits.

The clock is one that the test moves.
"""

import signal

import numpy as np
import pytest
from oracles.interpreted import interpreted

import minigd as gd
from minigd.training import interrupts

X = np.random.default_rng(0).normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5]


@pytest.fixture
def clock(monkeypatch):
    """Let a clock say how often it was asked: once to begin with, then after each step."""
    times = []
    monkeypatch.setattr(interrupts, "clock", lambda: times.append(0) or len(times) - 1)
    return times


def batches():
    return gd.Batches(X, Y, batch_size=10, shuffle=True, seed=3)


def trainer(**options):
    layers = [gd.Dense(4), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.2), gd.Dense(1)]
    model = gd.Sequential(layers, 3, dtype="float64", seed=1)
    return gd.Trainer(model, "mse", gd.Adam(0.01), **options)


def same(one, other):
    assert one.model.flat_params.tobytes() == other.model.flat_params.tobytes()
    assert (one.updates, one.epoch, one.batch) == (other.updates, other.epoch, other.batch)
    for name in ("loss", "updates"):
        assert one.history[name] == other.history[name]


# Of an epoch of six batches, the clock is asked after each and after the epoch.
@pytest.mark.parametrize(
    ("limit", "updates", "epoch"),
    [(0, 1, 0), (1, 1, 0), (4, 4, 0), (5.5, 6, 1), (6, 6, 1), (7, 6, 1), (8, 7, 1), (13, 12, 2)],
)
def test_it_stops_after_the_step_in_which_the_time_is_up(clock, capsys, limit, updates, epoch):
    made = trainer()
    made.fit(batches(), epochs=9, time_limit=limit)
    assert (made.updates, made.epoch, made.history.epochs) == (updates, epoch, epoch)
    words = f"the time limit of {limit:g} s was reached after {updates} updates, in epoch"
    assert capsys.readouterr().err.count(words) == 1
    made.fit(until_epoch=3)
    whole = trainer()
    whole.fit(batches(), epochs=3)
    same(made, whole)


def test_a_run_that_ends_before_is_left_alone(clock, capsys):
    made = trainer()
    made.fit(batches(), epochs=2, time_limit=1000)
    assert made.epoch == 2
    assert capsys.readouterr().err == ""


def test_each_fit_has_a_time_of_its_own(clock):
    made = trainer()
    made.fit(batches(), epochs=9, time_limit=3)
    made.fit(until_epoch=2)
    assert made.epoch == 2
    whole = trainer()
    whole.fit(batches(), epochs=2)
    same(made, whole)


@pytest.mark.parametrize("options", [{}, {"accumulate": 4}, {"reuse_buffers": False}])
@pytest.mark.parametrize("limit", [0, 2, 5, 9])
@pytest.mark.each
def test_a_script_that_is_started_again_ends_as_one_without_a_limit(
    clock, tmp_path, options, limit
):
    path, starts, made = tmp_path / "run.npz", 0, None
    while made is None or made.epoch < 3:
        made = gd.Trainer.resume(path, batches()) if path.exists() else trainer(**options)
        clock.clear()
        made.fit(batches(), until_epoch=3, time_limit=limit, callbacks=[gd.Checkpoint(path)])
        starts += 1
    assert starts > 1
    whole = trainer(**options)
    whole.fit(batches(), epochs=3)
    same(made, whole)
    same(gd.Trainer.resume(path, batches()), whole)


def test_early_stopping_leaves_the_best_in_the_model_and_the_file_the_last(clock, tmp_path):
    stop, path = gd.EarlyStopping("loss"), tmp_path / "run.npz"
    made = trainer()
    callbacks = [stop, gd.Checkpoint(path)]
    made.fit(batches(), epochs=9, time_limit=16, callbacks=callbacks)
    assert made.epoch == 2
    made.fit(until_epoch=4, callbacks=callbacks)
    whole = trainer()
    whole.fit(batches(), epochs=4, callbacks=[gd.EarlyStopping("loss")])
    same(made, whole)


def test_compiled_steps_stop_after_their_chunk(clock, monkeypatch):
    monkeypatch.setattr("minigd.execution.targets.numba.Compiled", interpreted)
    monkeypatch.setattr("minigd.training.chunks.ROWS", 20)  # two batches
    made = trainer(fast=True)
    made.fit(batches(), epochs=3, time_limit=0)
    assert (made.updates, made.epoch) == (2, 0)
    made.fit(until_epoch=3)
    whole = trainer(fast=True)
    whole.fit(batches(), epochs=3)
    same(made, whole)


def test_a_model_knows_it_too(clock):
    model = trainer().model
    history = model.fit(X, Y, loss="mse", batch_size=10, epochs=9, time_limit=8)
    assert history.epochs == 1


def test_a_signal_is_passed_on_all_the_same(clock):
    def ctrl_c(event):
        if event.name == "update" and event.trainer.updates == 2:
            signal.raise_signal(signal.SIGINT)

    made, before = trainer(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            made.fit(batches(), time_limit=100, callbacks=[ctrl_c])
    finally:
        signal.signal(signal.SIGINT, before)
    assert made.updates == 2


@pytest.mark.parametrize("limit", [-1, np.nan, np.inf, "60", True])
def test_a_limit_that_makes_no_sense_is_refused(limit):
    made = trainer()
    with pytest.raises(ValueError, match="time_limit must be a number, at least 0 and finite, not"):
        made.fit(batches(), time_limit=limit)
    assert made.updates == 0
