"""Signals that end a process, handlers of the program, and a second thread."""

import functools
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from budgets import examples
from hypothesis import example, given
from hypothesis import strategies as st

import minigd as gd
from minigd.training.interrupts import SIGNALS, Handler, Interrupt, Terminated

posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise there")


@pytest.fixture(autouse=True)
def default_handlers():
    before = {n: signal.getsignal(n) for n in SIGNALS}
    for number in SIGNALS:
        signal.signal(
            number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def rows(n=230):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4))
    return x, x @ rng.normal(size=4)


def make_trainer(**options):
    layers = [gd.Dense(6), gd.BatchNorm(), gd.Dropout(0.2), gd.Dense(1)]
    return gd.Trainer(gd.Sequential(layers, 4, seed=1), "mse", gd.Adam(0.01), **options)


def make_batches():
    return gd.Batches(*rows(), batch_size=50, shuffle=True, seed=2)


def bits(trainer):
    return [trainer.model.flat_params.tobytes(), trainer.updates, trainer.history["loss"]]


class Sends:
    """Sends a signal to this process at an event of a name, after so many updates."""

    def __init__(self, number, updates, name="update", times=1):
        self.number, self.updates, self.name, self.times = number, updates, name, times

    def __call__(self, event):
        if event.name == self.name and event.trainer.updates == self.updates:
            for _ in range(self.times):
                signal.raise_signal(self.number)


class Counts:
    """Counts events of each name, also over a run that was resumed."""

    def __init__(self):
        self.counts = {"update": 0, "batch": 0, "epoch": 0}

    def __call__(self, event):
        if event.name in self.counts:
            self.counts[event.name] += 1

    def state_dict(self):
        return dict(self.counts)

    def load_state_dict(self, values):
        self.counts = dict(values)


# A checkpoint for every end of the process --------------------------------------------------------


@functools.cache
def of_a_straight_run(accumulate):
    straight, counts = make_trainer(accumulate=accumulate), Counts()
    straight.fit(make_batches(), until_epoch=3, callbacks=[counts])
    return bits(straight), counts.counts


@examples(10)
@given(
    st.sampled_from(SIGNALS),
    st.integers(1, 14),
    st.sampled_from([1, 3]),
    st.sampled_from(["update", "batch"]),
    st.integers(1, 3),
)
@example(signal.SIGINT, 5, 1, "epoch", 1)
@example(signal.SIGTERM, 5, 1, "epoch", 2)
@example(signal.SIGTERM, 2, 3, "epoch", 1)
@example(signal.SIGTERM, 2, 3, "update", 1)
def test_a_signal_leaves_a_checkpoint_from_which_the_run_goes_on_to_the_same_bits(
    tmp_path_factory, number, updates, accumulate, name, times
):
    path = tmp_path_factory.mktemp("run") / "run.npz"
    times = 1 if number == signal.SIGINT else times  # a second Ctrl-C means at once
    straight, counts = of_a_straight_run(accumulate)
    cut = make_trainer(accumulate=accumulate)
    saving = gd.Checkpoint(path, every_epochs=100)
    sends = Sends(number, updates, name, times)
    try:
        cut.fit(make_batches(), until_epoch=3, callbacks=[sends, Counts(), saving])
    except (KeyboardInterrupt, Terminated) as error:
        ended = error
    else:
        assert bits(cut) == straight
        return
    if number == signal.SIGINT:
        assert isinstance(ended, KeyboardInterrupt)
    else:
        assert ended.code == 128 + number
    assert saving.saved_updates == cut.updates
    again = gd.Trainer.resume(path, make_batches())
    assert again.updates == updates
    counted = Counts()
    again.fit(until_epoch=3, callbacks=[counted])
    assert bits(again) == straight
    assert counted.counts == counts


def test_a_signal_while_rows_are_awaited_saves_too(tmp_path):
    def pieces():
        yield from (piece for piece in np.array_split(np.column_stack(rows()), 10))

    def read():
        for i, piece in enumerate(pieces()):
            if i == 4 and not done:
                done.append(i)
                signal.raise_signal(signal.SIGTERM)
            yield piece[:, :4], piece[:, 4]

    done = []
    path = tmp_path / "run.npz"
    batches = gd.Batches(gd.IterableSource(read), batch_size=23)
    with pytest.raises(Terminated):
        make_trainer().fit(batches, callbacks=[gd.Checkpoint(path)])
    again = gd.Trainer.resume(path, batches)
    assert again.batch == again.updates == 4
    again.fit(until_epoch=1)
    straight = make_trainer()
    straight.fit(batches)
    assert bits(again) == bits(straight)


def test_an_impatient_ctrl_c_saves_nothing_that_is_half_done(tmp_path):
    path = tmp_path / "run.npz"
    sends = Sends(signal.SIGINT, 3, times=2)
    with pytest.raises(KeyboardInterrupt):
        make_trainer().fit(make_batches(), callbacks=[sends, gd.Checkpoint(path)])
    assert not path.exists()


def test_only_callbacks_that_ask_for_it_hear_of_the_interrupt():
    heard = {"all": [], "asked": []}

    def hear(event):
        heard["all"].append(event.name)

    class Asking:
        events = frozenset({"interrupt", "done"})

        def __call__(self, event):
            heard["asked"].append(event.name)

    sends = Sends(signal.SIGTERM, 2)
    with pytest.raises(Terminated):
        make_trainer().fit(make_batches(), callbacks=[hear, Asking(), sends])
    assert heard == {"all": ["start", "update", "update", "done"], "asked": ["interrupt", "done"]}


def test_a_signal_during_a_step_that_fails_is_not_lost():
    class Failing(gd.Dense):
        def backward(self, dy):
            signal.raise_signal(signal.SIGTERM)
            raise ZeroDivisionError

    trainer = gd.Trainer(gd.Sequential([Failing(1)], 4), "mse", "sgd")
    with pytest.raises(Terminated) as caught:
        trainer.fit(make_batches())
    assert isinstance(caught.value.__context__, ZeroDivisionError)


SCRIPT = """
import sys, time
import numpy as np
import minigd as gd
x = np.random.default_rng(0).normal(size=(200, 4))
model = gd.Sequential([gd.Dense(1)], inputs=4)
def wait(event):
    if event.name == "epoch":
        print(event.trainer.epoch, flush=True)
        time.sleep(0.01)
saving = gd.Checkpoint(sys.argv[1], every_seconds=1000)
try:
    model.fit(x, x[:, :1], loss="mse", epochs=10**6, callbacks=[wait, saving])
finally:
    print("cleaned up", flush=True)
"""


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_script_that_is_ended_leaves_a_checkpoint_and_cleans_up(tmp_path, name):
    number = getattr(signal, name)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "run.npz")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line == "5\n":
                process.send_signal(number)
        assert line == "cleaned up\n"
        assert process.stderr.read() == ""
    assert process.returncode == 128 + number
    trainer = gd.Trainer.resume(tmp_path / "run.npz")
    assert trainer.epoch >= 5
    assert os.listdir(tmp_path) == ["run.npz"]


# Handlers of the program's own --------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", ["before", "during", "ignored"])
def test_a_handler_of_the_program_stays(number, kind):
    seen = []
    own = signal.SIG_IGN if kind == "ignored" else lambda *_: seen.append("own")
    if kind != "during":
        signal.signal(number, own)

    def install(event):
        if event.name == "update" and event.trainer.updates == 2:
            signal.signal(number, own)
            signal.raise_signal(number)

    make_trainer().fit(make_batches(), callbacks=[install])
    assert signal.getsignal(number) is own
    assert seen == ([] if kind == "ignored" else ["own"])


@pytest.mark.parametrize("kind", [Handler, Interrupt])
def test_handlers_are_as_before(kind):
    before = [signal.getsignal(n) for n in SIGNALS]
    with kind():
        assert [signal.getsignal(n) for n in SIGNALS] != before
        with Interrupt():
            pass
    assert [signal.getsignal(n) for n in SIGNALS] == before


def test_another_thread_leaves_signals_alone():
    found = []

    def enter():
        with Handler():
            found.extend(signal.getsignal(n) for n in SIGNALS)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler] + [signal.SIG_DFL] * (len(SIGNALS) - 1)


# Two threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["fit", "step", "save"])
def test_a_second_thread_is_refused_and_the_first_counts_right(tmp_path, second):
    straight, trainer = make_trainer(), make_trainer()
    straight.fit(make_batches(), epochs=2)
    x, y = rows(50)
    uses = {
        "fit": lambda: trainer.fit(make_batches()),
        "step": lambda: trainer.step(x, y),
        "save": lambda: trainer.save(tmp_path / "run.npz"),
    }
    errors = []

    def use():
        try:
            uses[second]()
        except RuntimeError as error:
            errors.append(str(error))

    def meet(event):
        if event.name == "update":
            thread = threading.Thread(target=use)
            thread.start()
            thread.join()

    trainer.fit(make_batches(), epochs=2, callbacks=[meet])
    assert len(errors) == 10
    assert set(errors) == {
        "another thread is using this trainer: give each thread its own trainer and model, or "
        "wait until the other thread is done"
    }
    assert bits(trainer) == bits(straight)
    # When the first is done, another thread may go on, also after an error.
    with pytest.raises(gd.DataError):
        trainer.fit(np.full((50, 4), np.nan), y)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(errors) == 10


def test_a_callback_may_use_its_own_trainer(tmp_path):
    trainer = make_trainer()
    x, y = rows(50)

    def use(event):
        if event.name == "epoch":
            trainer.evaluate(x, y)
            trainer.save(tmp_path / "run.npz")

    trainer.fit(make_batches(), callbacks=[use])
    assert (tmp_path / "run.npz").exists()
