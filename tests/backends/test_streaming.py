"""Where rows are stored and how they are cut does not change rows, order or bits of a model.

A run saved in the middle of an epoch continues from any source as if it had never stopped.
"""

import csv
import gzip
import io
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from budgets import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pyarrow import parquet

import minigd as gd

properties = examples(3, suppress_health_check=[HealthCheck.function_scoped_fixture])
N = 60
RNG = np.random.default_rng(0)
# Whole halves, so that no source can round them; exactness of the parser has its own test.
X = RNG.integers(-8, 9, size=(N, 3)) / 2
Y = np.arange(N) % 7
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": Y})


def csv_text():
    out = io.StringIO()
    csv.writer(out).writerows([FRAME.columns, *FRAME.itertuples(index=False)])
    return out.getvalue().encode()


def pieces(size):
    return [FRAME[i : i + size] for i in range(0, N, size)]


def npy(folder):
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    return gd.NpySource(folder / "x.npy", folder / "y.npy")


def csv_file(folder, size, pack=False):
    path = folder / "rows.csv"
    path.write_bytes(gzip.compress(csv_text(), mtime=0) if pack else csv_text())
    return gd.CsvSource(path, target="y", block_size=size, dtype="float64")


def csv_files(folder, size):
    header, *lines = csv_text().splitlines(keepends=True)
    paths = []
    for i in range(3):
        paths.append(folder / f"{i}.csv")
        paths[-1].write_bytes(header + b"".join(lines[20 * i : 20 * i + 20]))
    return gd.CsvSource(paths, target="y", block_size=size, dtype="float64")


def parquet_file(folder, size):
    path = folder / "rows.parquet"
    parquet.write_table(
        pa.Table.from_pandas(FRAME, preserve_index=False), path, row_group_size=size % 31 + 1
    )
    return gd.ParquetSource(path, target="y", block_rows=size, dtype="float64")


def iterable(make):
    def source(folder, size):
        made = [make(part) for part in pieces(size)]
        target = None if isinstance(made[0], tuple) else "y"
        return gd.IterableSource(lambda: iter(made), target=target, dtype="float64")

    return source


RANDOM_ACCESS = {
    "array": lambda folder, size: gd.ArraySource(X, Y),
    "npy": lambda folder, size: npy(folder),
    "csv": csv_file,
    "several csv": csv_files,
    "parquet": parquet_file,
    "cache": lambda folder, size: csv_file(folder, size).cache(folder / "cache"),
}
STREAMS = {
    "gzipped csv": lambda folder, size: csv_file(folder, size, pack=True),
    "frames": iterable(lambda part: part),
    "dicts": iterable(lambda part: part.to_dict("list")),
    "tuples": iterable(lambda part: (part[["a", "b", "c"]].to_numpy(), part["y"].to_numpy())),
    "arrow batches": iterable(lambda part: pa.RecordBatch.from_pandas(part, preserve_index=False)),
}
SOURCES = {**RANDOM_ACCESS, **STREAMS}


def network():
    layers = [gd.Dense(4), gd.Tanh(), gd.Dense(7), gd.Softmax()]
    return gd.Sequential(layers, inputs=3, seed=1)


def new_trainer():
    return gd.Trainer(network(), "categorical_crossentropy", gd.Adam(), metrics=["accuracy"])


def readers():
    return [t for t in threading.enumerate() if t.name == "minigd-prefetch"]


def check_same_batches(one, other):
    for own, its in zip(one, other, strict=True):
        np.testing.assert_array_equal(np.arange(N)[own.rows], np.arange(N)[its.rows])
        np.testing.assert_array_equal(own.x, its.x)
        np.testing.assert_array_equal(own.y, its.y)


def check_same_run(one, other):
    np.testing.assert_array_equal(one.model.flat_params, other.model.flat_params)
    for name in ("loss", "accuracy", "updates"):
        assert one.history[name] == other.history[name]


# How you slice does not matter -------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("kind", SOURCES)
@properties
@given(
    size=st.integers(1, 80),
    batch_size=st.integers(1, 70),
    ahead=st.integers(0, 4),
    tail=st.sampled_from(["keep", "drop"]),
)
def test_rows_in_order_are_the_same_from_everywhere(tmp_path, kind, size, batch_size, ahead, tail):
    batch_size = min(batch_size, N)
    source = SOURCES[kind](tmp_path, size)
    options = {"batch_size": batch_size, "tail": tail}
    own = gd.Batches(source, prefetch=ahead, **options)
    plain = gd.Batches(X, Y, **options)
    check_same_batches(own, plain)
    assert (own.sizes, own.dropped) == (plain.sizes, plain.dropped)
    assert readers() == []


@pytest.mark.parametrize("kind", RANDOM_ACCESS)
@properties
@given(
    size=st.integers(8, 3000),
    batch_size=st.integers(1, 70),
    ahead=st.integers(0, 4),
    seed=st.integers(0, 3),
)
def test_shuffled_rows_are_the_same_from_everywhere(tmp_path, kind, size, batch_size, ahead, seed):
    source = RANDOM_ACCESS[kind](tmp_path, size)
    options = {"batch_size": batch_size, "shuffle": True, "seed": seed}
    own, plain = gd.Batches(source, prefetch=ahead, **options), gd.Batches(X, Y, **options)
    for _ in range(2):
        check_same_batches(own, plain)


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", STREAMS)
@properties
@given(
    size=st.integers(1, 80),
    batch_size=st.integers(1, 70),
    ahead=st.integers(0, 4),
    buffer=st.integers(1, 120),
)
def test_buffered_rows_are_the_same_from_everywhere(
    tmp_path, kind, size, batch_size, ahead, buffer
):
    options = {"batch_size": batch_size, "shuffle": True, "buffer": buffer}
    own = gd.Batches(STREAMS[kind](tmp_path, size), prefetch=ahead, **options)
    plain = gd.Batches(gd.IterableSource([(X, Y)]), **options)
    for _ in range(2):
        check_same_batches(own, plain)


@pytest.mark.each
@pytest.mark.parametrize("ahead", [0, 3])
@pytest.mark.parametrize("kind", SOURCES)
def test_the_model_is_the_same_to_the_bit_from_everywhere(tmp_path, kind, ahead):
    plain = new_trainer()
    plain.fit(gd.Batches(X, Y, batch_size=16), epochs=2)
    own = new_trainer()
    own.fit(gd.Batches(SOURCES[kind](tmp_path, 37), batch_size=16, prefetch=ahead), epochs=2)
    check_same_run(own, plain)


@pytest.mark.each
@pytest.mark.parametrize("ahead", [0, 3])
@pytest.mark.parametrize("kind", RANDOM_ACCESS)
def test_the_shuffled_model_is_the_same_to_the_bit_from_everywhere(tmp_path, kind, ahead):
    options = {"batch_size": 16, "shuffle": True, "seed": 5}
    plain = new_trainer()
    plain.fit(gd.Batches(X, Y, **options), epochs=2)
    own = new_trainer()
    own.fit(gd.Batches(RANDOM_ACCESS[kind](tmp_path, 37), prefetch=ahead, **options), epochs=2)
    check_same_run(own, plain)


@properties
@given(st.integers(1, 60), st.integers(1, 40))
def test_a_buffer_brings_every_row_once_in_a_new_order_each_epoch(buffer, batch_size):
    source = gd.IterableSource([(np.arange(60.0)[:, None],)])
    batches = gd.Batches(source, batch_size=batch_size, shuffle=True, buffer=buffer, seed=3)
    orders = [[int(v) for (x,) in batches for v in x[:, 0]] for _ in range(3)]
    for order in orders:
        assert sorted(order) == list(range(60))
    if buffer >= 10:
        assert orders[0] != orders[1] != orders[2]
    # An epoch depends on the seed and its number alone.
    assert [int(v) for (x,) in batches.epoch(1) for v in x[:, 0]] == orders[1]


def test_a_batch_of_a_stream_knows_its_rows():
    source = gd.IterableSource([(X[i : i + 4], Y[i : i + 4]) for i in range(0, N, 4)])
    for batches in (
        gd.Batches(source, batch_size=7),
        gd.Batches(source, batch_size=7, shuffle=True, buffer=30),
    ):
        for batch in batches:
            np.testing.assert_array_equal(batch.x, X[batch.rows])
            np.testing.assert_array_equal(batch.y, Y[batch.rows])


def test_all_rows_at_once():
    file = io.BytesIO(csv_text())
    pieces = [(X[:50], Y[:50]), (X[50:], Y[50:])]
    for source in (gd.CsvSource(file, target="y"), gd.IterableSource(pieces)):
        (batch,) = gd.Batches(source, batch_size=None)
        np.testing.assert_array_equal(batch.x, X)


# Going on in the middle of an epoch --------------------------------------------------------------

RUNS = {
    **{f"{kind}, in order": (kind, {}) for kind in SOURCES},
    **{f"{kind}, shuffled": (kind, {"shuffle": True}) for kind in RANDOM_ACCESS},
    **{f"{kind}, buffered": (kind, {"shuffle": True, "buffer": 25}) for kind in STREAMS},
}


@pytest.mark.few(8)
@pytest.mark.parametrize("run", RUNS)
def test_a_run_saved_within_an_epoch_goes_on_to_the_same_bits(tmp_path, run):
    kind, options = RUNS[run]

    def batches(size, ahead=0):
        return gd.Batches(SOURCES[kind](tmp_path, size), batch_size=16, prefetch=ahead, **options)

    whole = new_trainer()
    whole.fit(batches(800), epochs=2)

    def stop(event):
        if event.name == "update" and event.trainer.updates == 6:
            event.trainer.stop()

    first = new_trainer()
    first.fit(batches(800, ahead=2), epochs=2, callbacks=[stop])
    assert (first.updates, first.epoch) == (6, 1)
    assert readers() == []
    first.save(tmp_path / "run.npz")
    # The blocks may have another size by then, and more or fewer batches be made beforehand.
    again = gd.Trainer.resume(tmp_path / "run.npz", batches(77, ahead=1))
    again.fit(until_epoch=2)
    check_same_run(again, whole)


@pytest.mark.parametrize("kind", ["csv", "tuples"])
def test_a_run_does_not_go_on_with_other_data(tmp_path, kind):
    def batches(x):
        if kind == "tuples":
            return gd.Batches(gd.IterableSource([(x, Y)]), batch_size=16)
        path = tmp_path / "rows.csv"
        pd.DataFrame(x, columns=list("abc")).assign(y=Y).to_csv(path, index=False)
        return gd.Batches(gd.CsvSource(path, target="y"), batch_size=16)

    trainer = new_trainer()
    trainer.fit(batches(X))
    trainer.save(tmp_path / "run.npz")
    gd.Trainer.resume(tmp_path / "run.npz", batches(X))
    other = X.copy()
    other[50] += 1
    with pytest.raises(gd.CheckpointError, match="these batches do not match the checkpoint"):
        gd.Trainer.resume(tmp_path / "run.npz", batches(other))


def test_a_stream_that_was_counted_in_between_is_still_the_same(tmp_path):
    def batches():
        return gd.Batches(gd.IterableSource([(X, Y)]), batch_size=16)

    def stop(event):
        event.trainer.stop()

    trainer = new_trainer()
    trainer.fit(batches(), callbacks=[stop])
    trainer.save(tmp_path / "run.npz")
    counted = batches()
    assert len(counted) == 4
    again = gd.Trainer.resume(tmp_path / "run.npz", counted)
    again.fit(epochs=1)
    assert again.updates == 4


# Leaving a loop ----------------------------------------------------------------------------------


@pytest.mark.few
@pytest.mark.parametrize("kind", SOURCES)
def test_leaving_a_loop_early_ends_the_thread_and_shortens_no_later_epoch(tmp_path, kind):
    batches = gd.Batches(SOURCES[kind](tmp_path, 20), batch_size=10, prefetch=2)
    for batch in batches:
        del batch
        break
    assert readers() == []
    assert sum(len(x) for x, _ in batches) == N
    assert readers() == []


class Interrupting:
    """A callback that presses Ctrl-C at an update."""

    def __init__(self, at):
        self.at = at

    def __call__(self, event):
        if event.name == "update" and event.trainer.updates == self.at:
            raise KeyboardInterrupt


@pytest.mark.each
@pytest.mark.parametrize("ahead", [0, 1, 4])
@pytest.mark.parametrize("kind", ["array", "csv", "parquet"])
def test_an_interrupted_epoch_leaves_no_thread_and_a_model_to_go_on_with(tmp_path, kind, ahead):
    batches = gd.Batches(SOURCES[kind](tmp_path, 20), batch_size=10, prefetch=ahead)
    trainer, whole = new_trainer(), new_trainer()
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.fit(batches, callbacks=[Interrupting(4)])
    # Even while the traceback is held.
    assert caught.tb is not None
    assert readers() == []
    assert trainer.updates == 4
    trainer.fit(batches)
    whole.fit(batches)
    check_same_run(trainer, whole)


class Stopping(gd.metrics.Accuracy):
    """A metric that presses Ctrl-C."""

    def per_example(self, prediction, y):
        raise KeyboardInterrupt


def test_an_interrupted_evaluation_leaves_no_thread():
    batches = gd.Batches(X, Y, batch_size=10, prefetch=3)
    trainer = gd.Trainer(network(), "categorical_crossentropy", "sgd", metrics={"m": Stopping()})
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.evaluate(batches)
    assert caught.tb is not None
    assert readers() == []


@pytest.mark.parametrize("ahead", [0, 3])
def test_an_error_of_the_source_comes_at_its_batch(ahead):
    def broken():
        yield X[:35], Y[:35]
        raise OSError("the line was cut")

    trainer, whole = new_trainer(), new_trainer()
    with pytest.raises(OSError, match="the line was cut"):
        trainer.fit(gd.Batches(gd.IterableSource(broken), batch_size=10, prefetch=ahead))
    whole.fit(gd.Batches(X[:30], Y[:30], batch_size=10))
    assert trainer.updates == 3
    np.testing.assert_array_equal(trainer.model.flat_params, whole.model.flat_params)
    assert readers() == []


# Sources for fit and evaluate --------------------------------------------------------------------


@pytest.mark.parametrize("kind", RANDOM_ACCESS)
def test_fit_and_evaluate_take_sources_as_they_take_arrays(tmp_path, kind):
    source = RANDOM_ACCESS[kind](tmp_path, 50)
    models = [network(), network()]
    options = {"loss": "categorical_crossentropy", "batch_size": 16, "metrics": ["accuracy"]}
    one = models[0].fit(X, Y, validation_data=(X, Y), epochs=2, **options)
    other = models[1].fit(source, validation_data=source, epochs=2, **options)
    np.testing.assert_array_equal(models[0].flat_params, models[1].flat_params)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert one[name] == other[name]
    assert models[0].evaluate(X, Y) == models[1].evaluate(source)


@pytest.mark.parametrize("kind", STREAMS)
def test_fit_and_evaluate_take_streams_in_order(tmp_path, kind):
    source = STREAMS[kind](tmp_path, 50)
    one, other = new_trainer(), new_trainer()
    one.fit(X, Y, batch_size=16, shuffle=False, validation_data=(X, Y))
    other.fit(source, batch_size=16, shuffle=False, validation_data=source)
    check_same_run(one, other)
    assert one.history["val_loss"] == other.history["val_loss"]
    assert one.evaluate(X, Y) == other.evaluate(source)


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_to_be_shuffled_without_buffer_says_what_can_be_done(tmp_path, kind):
    source = STREAMS[kind](tmp_path, 50)
    message = r"one after the other .*Batches\(\.\.\., buffer=10_000\), or cache.* shuffle=False"
    model = network()
    before = model.flat_params.copy()
    for fit in (
        lambda: gd.Batches(source, shuffle=True),
        lambda: model.fit(source, loss="categorical_crossentropy"),
        lambda: new_trainer().fit(source),
    ):
        with pytest.raises(ValueError, match=message):
            fit()
    np.testing.assert_array_equal(model.flat_params, before)


def test_targets_beside_a_source_are_refused():
    with pytest.raises(TypeError, match="a source brings its own targets"):
        network().fit(gd.ArraySource(X, Y), Y, loss="categorical_crossentropy")


@pytest.mark.parametrize("shuffle", [False, True])
def test_evaluating_the_source_that_is_being_read_disturbs_nothing(shuffle):
    source = gd.CsvSource(io.BytesIO(csv_text()), target="y", block_size=64)
    one, other = new_trainer(), new_trainer()

    def look(event):
        event.trainer.evaluate(source)

    one.fit(source, shuffle=shuffle, batch_size=16, callbacks=[look])
    other.fit(source, shuffle=shuffle, batch_size=16)
    check_same_run(one, other)


def test_a_stream_too_short_for_one_batch_with_a_dropped_tail_is_refused():
    batches = gd.Batches(gd.IterableSource([(X, Y)]), batch_size=N + 1, tail="drop")
    with pytest.raises(gd.DataError, match="do not fill one batch of 61, and tail='drop'"):
        new_trainer().fit(batches)


def test_rows_without_targets_say_so():
    with pytest.raises(gd.DataError, match=r"y|target"):
        new_trainer().fit(gd.Batches(gd.IterableSource([(X,)]), batch_size=10))


def test_a_dropped_tail_of_a_stream_is_counted():
    batches = gd.Batches(gd.IterableSource([(X, Y)]), batch_size=25, tail="drop")
    assert [len(x) for x, _ in batches] == [25, 25]
    assert batches.dropped == 10
    assert "10 rows dropped" in repr(batches)
