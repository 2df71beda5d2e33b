"""On a GPU the steps of an epoch are not looked at; after a bad one the run goes back and says so.

What comes out is held to two runs that look at each step: that of NumPy, and bit by bit one on the
same stand-in whose callback asks for every update.
"""

import signal
import weakref

import numpy as np
import pytest
from budgets import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from oracles import strict_cupy
from oracles.limit import Limit

import minigd as gd
from minigd.execution.device_guard import DeviceGuard
from minigd.execution.finite_guard import Remembered
from minigd.optim.accumulation import Accumulation
from minigd.training import loop
from minigd.training.snapshot import Snapshot

SIZE, BATCHES = 5, 9
ROWS = SIZE * BATCHES - 2


UPDATERS = {
    "momentum": lambda rate: gd.SGD(rate, 0.9),
    "adam": gd.Adam,
    "amsgrad": lambda rate: gd.Adam(rate, amsgrad=True),
    "rmsprop": gd.RMSprop,
}
FAULTS = ("loss", "gradient", "update")


class Case:
    """A run whose batch number `bad`, counted from its first one, is not finite."""

    def __init__(self, fault="loss", bad=13, updater="adam", accumulate=1, **options):
        self.fault, self.bad, self.updater, self.accumulate = fault, bad, updater, accumulate
        self.weighted, self.shuffle, self.saved_at, self.every = False, False, None, 4
        vars(self).update(options)

    def __repr__(self):
        return ", ".join(f"{name}={value!r}" for name, value in vars(self).items())

    def rate(self):
        """Return a schedule; for a bad update it takes the parameters out of range."""
        if self.fault == "update":
            return gd.Piecewise([0.05, 1e308], updates=[max(1, self.bad // self.accumulate)])
        return gd.Piecewise([0.05, 0.02], updates=[3])

    def batches(self):
        rng = np.random.default_rng(7)
        x, weight = rng.normal(size=(ROWS, 3)), rng.integers(0, 3, size=ROWS) + np.eye(1, ROWS)[0]
        data = gd.Batches(x, x[:, :2] ** 2, SIZE, shuffle=self.shuffle, seed=2)
        if self.fault != "update":
            order = [*data.epoch(0)][self.bad % BATCHES].rows
            row = np.arange(ROWS)[order][0]
            weight[row] = 1
            x[row] *= 1e4
        y = x[:, :2] ** 2
        if self.fault == "loss":
            x[row] /= 1e4
            y[row] = 1e200
        weight = weight if self.weighted else None
        return gd.Batches(x, y, SIZE, shuffle=self.shuffle, seed=2, sample_weight=weight)

    def trainer(self, backend):
        layers = [
            gd.Dense(4, bias=False),
            Limit(),
            gd.BatchNorm(),
            gd.Tanh(),
            gd.Dropout(0.2),
            gd.Dense(2),
        ]
        model = gd.Sequential(layers, 3, backend=backend, dtype="float64", seed=3)
        updater = UPDATERS[self.updater](self.rate())
        return gd.Trainer(model, "mse", updater, metrics=["mae"], accumulate=self.accumulate)


def diverge(case, backend, callbacks=(), folder=None):
    """Run a case; return its error and everything that decides the next update."""
    trainer, data = case.trainer(backend), case.batches()
    if case.saved_at is not None:
        # A run that is stopped in the middle of its epoch, saved, and resumed.
        trainer.fit(data, callbacks=[stop_at(case.saved_at)])
        trainer.save(folder / "run.npz")
        trainer = gd.Trainer.resume(folder / "run.npz", data, custom=[Limit], backend=backend)
    with pytest.raises(gd.DivergenceError) as raised:
        trainer.fit(data, until_epoch=4, callbacks=callbacks)
    return str(raised.value), everything(trainer)


def stop_at(batch):
    def callback(event):
        if event.name in ("update", "batch") and event.trainer.batch == batch:
            event.trainer.stop()

    return callback


def everything(trainer):
    """Return all that decides the next update, on the host."""
    values = trainer.state_dict()
    window, totals, history = values["window"], values["totals"], trainer.history
    found = {**values["model"], **values["updater"], **totals["sums"], "weight": totals["weight"]}
    found |= {name: values[name] for name in ("passes", "updates", "epoch", "batch")}
    found |= {f"window {name}": value for name, value in window.items() if value is not None}
    names = history if history else ()
    return found | {f"all {n}": history[n] for n in names if n != "seconds"}


def check(case, stand_in, folder):
    """Compare a run with deferred checks with runs that check each step."""
    message, found = diverge(case, "cupy", folder=folder)
    expected_message, expected = diverge(case, "numpy", folder=folder)
    looked_at = diverge(case, "cupy", [lambda event: None], folder)[1]
    assert message == expected_message
    assert found.keys() >= expected.keys() | looked_at.keys()
    for name, value in found.items():
        # A vector that the first update makes is not there before it, or is 0.
        np.testing.assert_array_equal(value, looked_at.get(name, 0.0), err_msg=name)
        if value is not None:
            np.testing.assert_allclose(value, expected.get(name, 0.0), 1e-9, 1e-12, err_msg=name)


CASES = [
    Case(),
    Case("gradient", bad=4, updater="momentum", accumulate=2, weighted=True),
    Case("gradient", bad=2, updater="rmsprop", accumulate=3, every=2, shuffle=True),
    Case("update", bad=13, updater="amsgrad", accumulate=2, weighted=True, every=1),
    Case("update", bad=17, updater="momentum", shuffle=True, saved_at=3),
    Case("update", bad=8, accumulate=4, saved_at=6, every=100),
]


@pytest.mark.few(4)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_a_divergence_is_that_of_a_run_that_looks_at_each_step(
    case, stand_in, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "BATCHES", case.every)
    check(case, stand_in, tmp_path)


@pytest.mark.slow
@examples(4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=st.builds(
        Case,
        fault=st.sampled_from(FAULTS),
        bad=st.integers(0, 20),
        updater=st.sampled_from(list(UPDATERS)),
        accumulate=st.integers(1, 4),
        weighted=st.booleans(),
        shuffle=st.booleans(),
        saved_at=st.none() | st.integers(1, BATCHES - 1),
        every=st.sampled_from([1, 2, 5, 100]),
    )
)
def test_any_divergence_is_that_of_a_run_that_looks_at_each_step(
    case, stand_in, tmp_path, monkeypatch
):
    if case.saved_at is not None:
        # Otherwise the first part of the run diverges.
        case.fault, case.bad = "update", case.bad + BATCHES
    monkeypatch.setattr(loop, "BATCHES", case.every)
    check(case, stand_in, tmp_path)


# What would be wrong is seen ---------------------------------------------------------------------


def forget_running_statistics(patch):
    restore = Snapshot.restore

    def planted(self):
        self._arrays = self._arrays[:1]
        return restore(self)

    patch.setattr(Snapshot, "restore", planted)


def forget_the_window(patch):
    patch.setattr(Accumulation, "copy", lambda self: self)


def forget_the_updater(patch):
    restore = Snapshot.restore

    def planted(self):
        self._arrays[0].state = {n: v.copy() for n, v in self._arrays[0].updater.state.items()}
        return restore(self)

    patch.setattr(Snapshot, "restore", planted)


def count_one_batch_more(patch):
    restore = Snapshot.restore
    patch.setattr(Snapshot, "restore", lambda self: (*restore(self)[:1], self.batch + 1, 0.0))


def look_at_one_batch_less(patch):
    run = loop.Loop._run_batches
    patch.setattr(
        loop.Loop,
        "_run_batches",
        lambda self, session, most=None: run(self, session, most and max(0, most - 2)),
    )


def keep_the_passes(patch):
    patch.setattr(Remembered, "restore", lambda self: None)


def forget_the_totals(patch):
    restore = Snapshot.restore

    def planted(self):
        totals, *place = restore(self)
        totals.weight = 0.0
        return totals, *place

    patch.setattr(Snapshot, "restore", planted)


PLANTED = [
    (forget_running_statistics, Case(bad=14)),
    (forget_the_window, Case(bad=14, accumulate=3)),
    (forget_the_updater, Case(bad=14)),
    (count_one_batch_more, Case(bad=14)),
    (keep_the_passes, Case("update", bad=14)),
    (forget_the_totals, Case("update", bad=14)),
]


@pytest.mark.few(2)
@pytest.mark.parametrize(("plant", "case"), PLANTED, ids=[p.__name__ for p, _ in PLANTED])
def test_planted_errors_are_caught(plant, case, stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "BATCHES", case.every)
    check(case, stand_in, tmp_path)
    plant(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(case, stand_in, tmp_path)


# What is read ------------------------------------------------------------------------------------


class Counted(gd.Batches):
    """Notes how many numbers the host has read before each batch."""

    def __init__(self, *rows):
        super().__init__(*rows)
        self.reads = []  # of the last epoch

    def epoch(self, *place):
        self.reads.clear()
        for batch in super().epoch(*place):
            self.reads.append(strict_cupy.host_reads.count)
            yield batch


def good(backend, **options):
    x = np.random.default_rng(0).normal(size=(44, 3))
    layers = [gd.Dense(4), gd.BatchNorm(), gd.Tanh(), gd.Dense(2)]
    model = gd.Sequential(layers, 3, backend=backend, seed=3)
    trainer = gd.Trainer(model, "mse", "adam", metrics=["mae"], **options)
    return trainer, Counted(x, x[:, :2], 2)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_nothing_is_read_but_for_a_snapshot(stand_in, monkeypatch, accumulate):
    monkeypatch.setattr(loop, "BATCHES", 8)
    trainer, batches = good("cupy", accumulate=accumulate)
    trainer.fit(batches, epochs=2)
    assert [k + 1 for k, read in enumerate(np.diff(batches.reads)) if read] == [8, 16]
    assert batches.reads[-1] - batches.reads[0] == 2


def test_after_a_minute_there_is_a_new_snapshot(stand_in, monkeypatch):
    monkeypatch.setattr(loop, "SECONDS", 0.0)
    trainer, batches = good("cupy")
    trainer.fit(batches, epochs=2)  # in the first one the compiled step is compared with the layers
    assert set(np.diff(batches.reads)) == {1}


def test_progress_reads_the_flag_with_the_loss(stand_in, monkeypatch):
    monkeypatch.setattr("minigd.progress.Progress.update", lambda self, loss, *rest: loss > 0)
    case = Case(bad=2, every=100)
    trainer, seen = case.trainer("cupy"), []
    data = case.batches()
    run = loop.Loop.make_step
    monkeypatch.setattr(loop.Loop, "make_step", lambda *a: seen.append(1) or run(*a))
    with pytest.raises(gd.DivergenceError):
        trainer.fit(data, progress=True)
    assert len(seen) == 3 + 3  # and no step after the bad one


@pytest.mark.parametrize("bad", [5, 6])
def test_a_checkpoint_has_the_flag_read_when_it_saves(stand_in, tmp_path, bad):
    saved = []
    for backend in ("numpy", "cupy"):
        case, path = Case(bad=bad, accumulate=2), tmp_path / f"{backend}.npz"
        trainer, data = case.trainer(backend), case.batches()
        with pytest.raises(gd.DivergenceError) as raised:
            trainer.fit(data, callbacks=[gd.Checkpoint(path, every_updates=2)])
        again = gd.Trainer.resume(path, data, custom=[Limit], backend=backend)
        saved.append((str(raised.value), again.updates, again.batch))
    assert saved[0] == saved[1]
    assert saved[0][1:] == (2, 4)

    trainer, batches = good("cupy")
    trainer.fit(batches, callbacks=[gd.Checkpoint(tmp_path / "good.npz", every_updates=8)])
    # The first step is compared with the layers once it is compiled.
    assert [k + 1 for k, read in enumerate(np.diff(batches.reads)) if read] == [1, 8, 16]


def test_a_checkpoint_that_does_more_is_a_callback_as_others_are(stand_in, tmp_path):
    class Looking(gd.Checkpoint):
        def save(self, event):
            assert bool(np.isfinite(event.trainer.model.flat_params).all())
            super().save(event)

    case = Case(bad=5)
    with pytest.raises(gd.DivergenceError):
        case.trainer("cupy").fit(
            case.batches(), callbacks=[Looking(tmp_path / "a", every_updates=1)]
        )


def test_a_callback_that_comes_after_each_update_sees_no_bad_one(stand_in):
    case = Case(bad=11)
    trainer, seen = case.trainer("cupy"), []

    def look(event):
        if event.name == "update":
            seen.append(float(event.loss))
            assert bool(np.isfinite(event.trainer.model.flat_params).all())

    with pytest.raises(gd.DivergenceError):
        trainer.fit(case.batches(), epochs=3, callbacks=[look])
    assert len(seen) == 2  # of epoch 1, whose third batch is the bad one
    assert np.isfinite(seen).all()


# Rows that come once -----------------------------------------------------------------------------


def pieces(case):
    for batch in case.batches().epoch(0):
        yield batch.x, batch.y


@pytest.mark.parametrize("accumulate", [1, 2])
def test_rows_that_are_read_once_are_looked_at_at_each_step(stand_in, accumulate):
    found = []
    for backend in ("numpy", "cupy"):
        case = Case(bad=5, accumulate=accumulate)
        trainer = case.trainer(backend)
        rows = gd.Batches(gd.IterableSource(pieces(case)), batch_size=SIZE)
        with pytest.raises(gd.DivergenceError) as raised:
            trainer.fit(rows)
        found.append((str(raised.value), trainer.updates, trainer.batch))
    assert found[0] == found[1]


def test_rows_of_a_function_are_read_again(stand_in):
    case, calls = Case(bad=5), []
    trainer = case.trainer("cupy")
    source = gd.IterableSource(lambda: calls.append(1) or pieces(case))
    before = len(calls)
    with pytest.raises(gd.DivergenceError, match="epoch 1, update 6"):
        trainer.fit(gd.Batches(source, batch_size=SIZE))
    assert len(calls) - before == 1  # the first pass has begun with the source
    assert trainer.batch == 5


def test_a_step_by_hand_is_looked_at(stand_in):
    case = Case()
    trainer = case.trainer("cupy")
    x, y = stand_in.asarray(np.ones((4, 3))), stand_in.asarray(np.full((4, 2), 1e200))
    with pytest.raises(gd.DivergenceError, match="the loss is inf at epoch 1, update 1"):
        trainer.step(x, y)
    assert trainer.updates == trainer.updater.step == trainer.model.passes == 0


# What ends an epoch in its middle ----------------------------------------------------------------


class Ending(gd.Batches):
    """Ends an epoch before a batch: it raises, or calls a function."""

    place, how = None, None

    def epoch(self, epoch, start=0, workspace=None):
        for k, batch in enumerate(super().epoch(epoch, start, workspace), start):
            if k == self.place:
                self.how()
            yield batch


def interrupt():
    raise KeyboardInterrupt


def ending(case, how, place):
    data = case.batches()
    data.__class__, data.place, data.how = Ending, place, how
    return data


@pytest.mark.parametrize(("place", "raised"), [(4, gd.DivergenceError), (2, KeyboardInterrupt)])
def test_ctrl_c_ends_a_run_that_is_whole(stand_in, place, raised):
    case = Case(bad=3)
    trainer, ends = case.trainer("cupy"), []

    def end(event):
        ends.append((event.name, event.trainer.updates))
        assert bool(np.isfinite(event.trainer.model.flat_params).all())

    end.events = {"interrupt", "done"}
    with pytest.raises(raised):
        trainer.fit(ending(case, interrupt, place), callbacks=[end])
    assert trainer.updates == trainer.batch == min(place, 3)
    assert ends == [] if raised is gd.DivergenceError else ends[-1] == ("done", 2)


def test_a_second_ctrl_c_waits_until_the_run_is_whole(stand_in, monkeypatch):
    case, look = Case(bad=3), DeviceGuard.is_finite
    trainer = case.trainer("cupy")

    def pressed_again(self):
        signal.raise_signal(signal.SIGINT)
        return look(self)

    monkeypatch.setattr(DeviceGuard, "is_finite", pressed_again)
    with pytest.raises((KeyboardInterrupt, gd.DivergenceError)):
        trainer.fit(ending(case, interrupt, 5))
    assert bool(np.isfinite(trainer.model.flat_params).all())
    assert trainer.updates == trainer.updater.step == trainer.batch <= 3


def test_an_updater_of_another_model_is_refused_and_nothing_is_left_for_later(stand_in):
    case = Case()
    trainer, other = case.trainer("cupy"), case.trainer("cupy")
    trainer.updater._model = weakref.ref(other.model)
    with pytest.raises(ValueError, match="holds the state of another model"):
        trainer.fit(case.batches())
    assert not trainer._transaction.guard.defers


def test_a_snapshot_that_does_not_fit_says_what_to_do(stand_in, monkeypatch):
    case, full = Case(), stand_in.xp.cuda.memory.OutOfMemoryError(1000, 2000)

    def fail(*arguments):
        raise full

    monkeypatch.setattr("minigd.training.snapshot.Written", fail)
    with pytest.raises(gd.BackendError, match="state of Adam does not fit in memory"):
        case.trainer("cupy").fit(case.batches())


def test_a_run_that_is_stopped_behind_a_bad_update_has_diverged(stand_in):
    case = Case(bad=3)
    trainer = case.trainer("cupy")
    with pytest.raises(gd.DivergenceError, match="epoch 1, update 4"):
        trainer.fit(ending(case, trainer.stop, 6))
    assert trainer.updates == 3


def test_a_metric_that_raises_is_heard_only_where_the_numbers_are_good(stand_in):
    class Strict(gd.metrics.MeanAbsoluteError):
        def per_example(self, prediction, y):
            if bool((abs(y) > 1e9).any()):
                raise ValueError("a target is large")
            return super().per_example(prediction, y)

    for backend in ("numpy", "cupy"):
        for large, raised in ((1e200, gd.DivergenceError), (1e10, ValueError)):
            x, y = np.random.default_rng(0).normal(size=(44, 3)), np.ones((44, 2))
            y[31] = large
            model = gd.Sequential([gd.Dense(2)], 3, backend=backend, dtype="float64", seed=3)
            trainer = gd.Trainer(model, "mse", gd.SGD(1e-9), metrics=[Strict()])
            with pytest.raises(raised):
                trainer.fit(gd.Batches(x, y, 6))
            assert trainer.batch == 5


# Numbers that are not finite and do no harm ------------------------------------------------------


def test_a_parameter_that_is_not_finite_from_the_start_is_no_divergence(stand_in):
    found = []
    for backend in ("numpy", "cupy"):
        layers = [gd.Dense(4), gd.ReLU(), gd.Dense(2)]
        model = gd.Sequential(layers, 3, backend=backend, dtype="float64", seed=3)
        model.params["dense1.b"][0] = -np.inf  # a unit that never answers
        trainer, (_, batches) = gd.Trainer(model, "mse", "adam"), good(backend)
        trainer.fit(batches, epochs=2)
        found.append((trainer.history["loss"], trainer.updates, trainer.model.passes))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-9)
    assert found[0][1:] == found[1][1:]


class Sign(gd.Updater):
    """Goes by the sign of the gradient, so that an infinite one leaves no trace."""

    def __init__(self, learning_rate=0.1):
        super().__init__(learning_rate)

    def formula(self, learning_rate):
        def sign(p, g, *, learning_rate):
            return p - learning_rate * np.sign(g)

        return sign, {"learning_rate": learning_rate}


def test_an_updater_from_outside_is_not_trusted_to_keep_what_is_not_finite(stand_in):
    class Endless(gd.Layer):
        def forward(self, x, train=False):
            return x

        def backward(self, dy):
            return np.where(abs(dy) > 1e9, np.inf, dy)

    found = []
    for backend in ("numpy", "cupy"):
        x = np.random.default_rng(0).normal(size=(40, 3))
        y = x[:, :1].copy()
        y[22] = 1e12
        model = gd.Sequential([gd.Dense(1), Endless()], 3, backend=backend, dtype="float64", seed=3)
        with pytest.raises(gd.DivergenceError) as raised:
            model.fit(x, y, loss="mse", updater=Sign(), batch_size=5, shuffle=False)
        found.append(str(raised.value))
    assert found[0] == found[1]
    assert "update 5:" in found[0]
