"""Rows on their way to a GPU: none is overwritten, in any order of the streams.

A stand-in with two streams runs its work late, and in an order that hypothesis draws.
"""

import types

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st

import minigd as gd
from minigd.backends.host_to_device import DEPTH, Staging


class Machine:
    """Streams whose work is done when `steps` says so, or when the host waits for an event."""

    def __init__(self, steps):
        self.steps = iter(steps)
        self.streams = []
        self.main = Stream(self)
        cuda = types.SimpleNamespace(
            Stream=lambda non_blocking: Stream(self),
            Event=lambda block, disable_timing: Event(self),
            get_current_stream=lambda: self.main,
            alloc_pinned_memory=bytearray,
        )
        self.xp = types.SimpleNamespace(ndarray=Device, empty=Device.empty, cuda=cuda)

    def some(self):
        """Let one of the streams get on, or none, as drawn."""
        which = next(self.steps, None)
        if which is not None and which < len(self.streams):
            self.streams[which].advance()

    def until(self, done):
        """Let the streams get on until the host may go on, the copies as far ahead as they can."""
        while not done():
            turn = reversed(self.streams)
            assert any(stream.advance() for stream in turn), "the streams wait for ever"


class Stream:
    """Work that is done in its order, each piece once what it waits for has come."""

    def __init__(self, machine):
        self.work = []
        self.machine = machine
        machine.streams.append(self)

    def advance(self):
        if not self.work:
            return False
        ready, action = self.work[0]
        if not ready():
            return False
        self.work.pop(0)
        action()
        return True

    def give(self, action):
        self.work.append((lambda: True, action))

    def wait_event(self, event):
        number = event.recorded
        self.work.append((lambda: event.reached >= number, lambda: None))

    def record(self, event=None):
        event = event or Event(self.machine)
        event.record(self)
        return event


class Event:
    """`recorded` counts the calls of `record`, and `reached` those that the stream has reached."""

    def __init__(self, machine):
        self.machine, self.recorded, self.reached = machine, 0, 0

    def record(self, stream=None):
        self.recorded += 1
        number = self.recorded
        (stream or self.machine.main).give(lambda: setattr(self, "reached", number))

    def synchronize(self):
        number = self.recorded
        self.machine.until(lambda: self.reached >= number)


class Device:
    """Memory of the GPU: a copy into it is work of a stream."""

    def __init__(self, values):
        self.values = values

    @classmethod
    def empty(cls, shape, dtype):
        return cls(np.empty(shape, dtype))

    def __getitem__(self, index):
        return Device(self.values[index])

    def set(self, host, stream):
        stream.give(lambda: self.values.__setitem__(..., host))

    nbytes = property(lambda self: self.values.nbytes)


def bring(sizes, steps):
    """Bring batches over, work on each, and return what the work saw."""
    machine = Machine(steps)
    staging, seen = Staging(machine.xp), []
    for i, n in enumerate(sizes):
        x, y = np.full((n, 2), i, "float32"), np.full((n, 2), -i, "float32")
        there = staging("x", x), staging("y", y)
        machine.some()
        # The host has let go of its rows before the GPU looks at them.
        x[...] = y[...] = 1000
        machine.main.give(lambda there=there: seen.append([d.values.copy() for d in there]))
        machine.some()
    machine.until(lambda: not any(stream.work for stream in machine.streams))
    return staging, seen


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    steps=st.lists(st.integers(0, 2), max_size=30),
)
@examples(50)
def test_each_batch_is_seen_whole_whatever_the_streams_do(sizes, steps):
    _, seen = bring(sizes, steps)
    assert len(seen) == len(sizes)
    for i, (n, (x, y)) in enumerate(zip(sizes, seen, strict=True)):
        np.testing.assert_array_equal(x, np.full((n, 2), i))
        np.testing.assert_array_equal(y, np.full((n, 2), -i))


def without(kind, name, monkeypatch):
    """Leave one of the orders between host and streams out."""
    monkeypatch.setattr(kind, name, lambda self, *args: None)


@pytest.mark.parametrize(("kind", "name"), [(Stream, "wait_event"), (Event, "synchronize")])
def test_an_order_that_is_left_out_is_found_out(kind, name, monkeypatch):
    without(kind, name, monkeypatch)
    wrong = 0
    for seed in range(20):
        steps = np.random.default_rng(seed).integers(0, 3, 40).tolist()
        _, seen = bring([3] * 10, steps)
        wrong += any((x != i).any() or (y != -i).any() for i, (x, y) in enumerate(seen))
    assert wrong


def test_the_buffers_are_few_and_stay():
    staging, _ = bring([5, 5, 5, 5, 3, 5, 2], [])
    assert staging.nbytes == 2 * DEPTH * 5 * 2 * 4


def test_rows_that_are_there_stay_where_they_are(stand_in):
    x = stand_in.asarray(np.ones((3, 2)))
    assert Staging(stand_in.xp)("x", x) is x


def rows(n=230):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 4))
    return X, (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_what_streams_trains_to_the_bits_of_what_stays(stand_in, kind):
    X, y = rows()
    X = (40 * X + 128).clip(0, 255).astype(kind)
    params = []
    for budget in (0, "1GB"):
        backend = gd.get_backend("cupy", device_budget=budget)
        layers = [gd.Dense(5), gd.Tanh(), gd.Dense(2), gd.Softmax()]
        model = gd.Sequential(layers, inputs=4, backend=backend)
        trainer = gd.Trainer(model, "categorical_crossentropy", gd.SGD(1e-3))
        batches = gd.Batches(X, y, batch_size=50, shuffle=True)
        trainer.fit(batches, epochs=3, validation_data=(X, y))
        params.append((backend.to_numpy(model.flat_params), trainer.history["val_loss"]))
    np.testing.assert_array_equal(params[0][0], params[1][0])
    assert params[0][1] == params[1][1]


def test_rows_within_the_budget_are_brought_over_once(stand_in, monkeypatch):
    X, y = rows()
    whole = X.nbytes + y.nbytes
    brought = []
    call = Staging.__call__
    monkeypatch.setattr(
        Staging,
        "__call__",
        lambda self, name, x: brought.append(not stand_in.holds(x)) or call(self, name, x),
    )
    for budget in (whole, whole - 1):
        brought.clear()
        model = gd.Sequential(
            [gd.Dense(2), gd.Softmax()],
            inputs=4,
            backend=gd.get_backend("cupy", device_budget=budget),
        )
        model.fit(X, y, loss="categorical_crossentropy", batch_size=50, epochs=2)
        assert len(brought) == 2 * 2 * 5
        assert any(brought) == (budget < whole) == all(brought)


def test_on_the_cpu_rows_stay_where_they_are():
    batches = gd.Batches(*rows(), batch_size=50)
    assert batches.on(gd.get_backend("numpy")) is batches


def test_a_stream_is_not_brought_over_whole(stand_in):
    X, y = rows()
    source = gd.IterableSource([(X, y)])
    batches = gd.Batches(source, batch_size=50)
    assert batches.on(gd.get_backend("cupy", device_budget="1GB")) is batches


@pytest.mark.parametrize("size", ["2 gigabytes", "GB", "-1MB", "", "nan", -5])
def test_a_budget_that_is_no_size_is_refused(stand_in, size):
    with pytest.raises(ValueError, match=r"invalid size .*: expected bytes"):
        gd.get_backend("cupy", device_budget=size)


def test_a_budget_is_for_a_gpu():
    with pytest.raises(ValueError, match="options of 'cupy'"):
        gd.get_backend("numpy", device_budget="2GB")


def test_a_batch_that_does_not_fit_is_told_with_one_that_does(stand_in, monkeypatch):
    X, y = rows()
    layers = [gd.Dense(64), gd.Dropout(0.1), gd.Dense(2), gd.Softmax()]
    model = gd.Sequential(layers, inputs=4, backend="cupy")
    trainer = gd.Trainer(model, "categorical_crossentropy", "sgd")
    before = stand_in.to_numpy(model.flat_params)
    error = stand_in.xp.cuda.memory.OutOfMemoryError
    forward = gd.Dropout.forward

    def full(self, x, train=False):
        if len(x) > 60:
            raise error(x.nbytes, 0)
        return forward(self, x, train)

    monkeypatch.setattr(gd.Dropout, "forward", full)
    monkeypatch.setattr(type(model.backend), "free_bytes", lambda self: 50_000)
    with pytest.raises(gd.BackendError, match=r"batch of 230 rows does not fit") as caught:
        trainer.fit(X, y, batch_size=None)
    np.testing.assert_array_equal(stand_in.to_numpy(model.flat_params), before)
    assert trainer.updates == 0
    told = str(caught.value)
    size = int(told.partition("batch_size=")[2].split()[0])
    assert 0 < size < 230
    parts = int(told.partition("accumulate=")[2].split()[0])
    assert (parts - 1) * size < 230 <= parts * size
    trainer.fit(X, y, batch_size=min(size, 60))
