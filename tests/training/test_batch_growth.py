"""Batch sizes by a schedule: each epoch is cut by its own size, in every way to run steps.

The truth is a loop by hand over batches of one size per epoch.
"""

import numpy as np
import pytest
from oracles.interpreted import interpreted

import minigd as gd

ROWS = 53
X = np.random.default_rng(0).normal(size=(ROWS, 3))
Y = np.random.default_rng(1).normal(size=ROWS)
WEIGHT = np.random.default_rng(2).integers(0, 3, size=ROWS).astype(float)

# name: (the schedule, the size in each of five epochs)
GROWTHS = {
    "by a factor": (lambda: gd.BatchGrowth(8, 3, 60, epochs=2), [8, 8, 24, 24, 60]),
    "without an end": (lambda: gd.BatchGrowth(10, 1.5, epochs=1), [10, 15, 22, 34, 51]),
    "piecewise": (lambda: gd.Piecewise([20, 5, 30], epochs=[1, 3]), [20, 5, 5, 30, 30]),
    "along a line": (lambda: gd.PolynomialDecay(10, 20, epochs=4), [10, 12, 15, 18, 20]),
    "after a warm-up": (lambda: gd.WarmUp(20, epochs=3), [5, 10, 15, 20, 20]),
}
growths = pytest.mark.parametrize(("make", "sizes"), GROWTHS.values(), ids=GROWTHS)


def batches(size, **options):
    options = {"shuffle": True, "seed": 3, **options}
    source = options.pop("source", None)
    if source is not None:
        return gd.Batches(source, batch_size=size, **options)
    return gd.Batches(X, Y, batch_size=size, **options)


def trainer(**options):
    layers = [gd.Dense(2), gd.BatchNorm(), gd.Tanh(), gd.Dropout(0.2), gd.Dense(1)]
    model = gd.Sequential(layers, 3, dtype="float64", seed=1)
    return gd.Trainer(model, "mse", gd.Adam(0.01, epsilon=1e-3), metrics=["mae"], **options)


def by_hand(sizes, accumulate=1, **options):
    """Make the steps of epochs one by one, each epoch cut into batches of one size."""
    made = trainer(accumulate=accumulate, reuse_buffers=False)
    for epoch, size in enumerate(sizes):
        given = batches(size, **options)
        for x, y, *weight in given.epoch(epoch):
            made.step(x, y, *weight)
        if len(given) % accumulate:
            made._loop.transaction.finish_window()
    return made


def assert_same(one, other, rtol=0.0):
    np.testing.assert_allclose(one.model.flat_params, other.model.flat_params, rtol=rtol, atol=rtol)
    for name, values in one.model.arrays().items():
        np.testing.assert_allclose(values, other.model.arrays()[name], rtol=rtol, atol=rtol)
    assert one.updates == other.updates


# How rows are cut ----------------------------------------------------------------------------


@growths
def test_each_epoch_has_its_own_size(make, sizes):
    grown = batches(make())
    assert grown.batch_size == sizes[0]
    assert (len(grown), grown.sizes) == (len(batches(sizes[0])), batches(sizes[0]).sizes)
    for epoch, size in enumerate(sizes):
        wanted = batches(size)
        assert grown.at(epoch).sizes == wanted.sizes
        assert len(grown.at(epoch)) == len(wanted)
        for one, other in zip(grown.epoch(epoch), wanted.epoch(epoch), strict=True):
            np.testing.assert_array_equal(one.rows, other.rows)
            np.testing.assert_array_equal(one.x, other.x)
        late = [len(x) for x, y in grown.epoch(epoch, start=1)]
        assert late == wanted.sizes[1:]


def test_a_loop_by_hand_gets_one_epoch_after_the_other():
    grown = batches(gd.BatchGrowth(20, 2, epochs=1))
    assert [[len(x) for x, y in grown] for _ in range(3)] == [[20, 20, 13], [40, 13], [53]]


def test_a_fixed_size_is_at_any_epoch_what_it_is():
    fixed = batches(20)
    assert fixed.at(7) is fixed
    assert fixed.growth is None


@pytest.mark.parametrize(
    "options",
    [
        {"source": gd.IterableSource(lambda: iter([(X, Y)])), "buffer": 20},
        {"source": gd.IterableSource(lambda: iter([(X, Y)])), "shuffle": False},
        {"shuffle": False},
        {"prefetch": 2},
        {"tail": "drop"},
        {"sample_weight": WEIGHT},
    ],
    ids=[
        "stream with a buffer",
        "stream in order",
        "in order",
        "prefetched",
        "dropped",
        "weighted",
    ],
)
def test_all_ways_of_cutting_follow(options):
    grown = batches(gd.BatchGrowth(8, 3, epochs=1), **options)
    for epoch, size in enumerate([8, 24]):
        wanted = batches(size, **options)
        for one, other in zip(grown.epoch(epoch), wanted.epoch(epoch), strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)


# What a trainer makes of it ------------------------------------------------------------------


@growths
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.each
def test_updates_are_those_of_a_loop_by_hand(make, sizes, accumulate):
    made = trainer(accumulate=accumulate)
    made.fit(batches(make()), epochs=5)
    assert_same(made, by_hand(sizes, accumulate))
    counts = [-(-len(batches(size)) // accumulate) for size in sizes]
    assert made.history["updates"] == np.cumsum(counts).tolist()


@pytest.mark.parametrize(
    ("weight", "accumulate"),
    [(None, 1), pytest.param(None, 3, marks=pytest.mark.slow), (WEIGHT, 3)],
    ids=["plain", "several to an update", "weighted"],
)
def test_compiled_steps_follow(monkeypatch, weight, accumulate):
    monkeypatch.setattr("minigd.execution.targets.numba.Compiled", interpreted)
    options = {} if weight is None else {"sample_weight": weight}
    made = trainer(accumulate=accumulate, fast=True)
    made.fit(batches(gd.BatchGrowth(8, 3, epochs=1), **options), epochs=3)
    assert made.compiled
    assert_same(made, by_hand([8, 24, 72], accumulate, **options), rtol=1e-10)


def test_arrays_given_to_fit_follow():
    first, second = (trainer().model for _ in range(2))
    growth = gd.Piecewise([10, 30], epochs=[1])
    history = first.fit(X, Y, loss="mse", batch_size=growth, epochs=2)
    assert history["updates"] == [6.0, 8.0]
    again = gd.Trainer(second, "mse", "adam")
    for size, epoch in ((10, 1), (30, 2)):
        again.fit(X, Y, batch_size=size, until_epoch=epoch)
    np.testing.assert_array_equal(first.flat_params, second.flat_params)


def stop_at(update):
    def callback(event):
        if event.trainer.updates == update and event.name == "update":
            event.trainer.stop()

    return callback


@pytest.mark.parametrize("update", [1, 7, 10, 15])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_resumed_run_goes_on_to_the_bit(tmp_path, monkeypatch, update, accumulate, fast):
    monkeypatch.setattr("minigd.execution.targets.numba.Compiled", interpreted)

    def growing():
        return batches(gd.BatchGrowth(8, 2, 20, epochs=1))

    whole = trainer(accumulate=accumulate, fast=fast)
    # Called in each update, so that the epoch's loss is summed in the same order.
    whole.fit(growing(), epochs=4, callbacks=[stop_at(None)])
    cut = trainer(accumulate=accumulate, fast=fast)
    cut.fit(growing(), epochs=4, callbacks=[stop_at(update)])
    assert cut.updates == min(update, whole.updates)
    cut.save(tmp_path / "run.npz")
    again = gd.Trainer.resume(tmp_path / "run.npz", growing())
    again.fit(until_epoch=4, callbacks=[stop_at(None)])
    assert_same(again, whole)
    for name in ("loss", "mae", "updates"):
        assert again.history[name] == whole.history[name]


@pytest.mark.parametrize(("update", "epoch"), [(3, 1), (6, 1), (13, 1), (14, 2), (15, 2)])
def test_a_stop_at_the_last_batch_of_an_epoch_completes_it(update, epoch):
    # 3 updates, then 11, then 2.
    made = trainer()
    sizes = gd.Piecewise([20, 5, 30], epochs=[1, 2])
    made.fit(batches(sizes), epochs=3, callbacks=[stop_at(update)])
    assert (made.updates, made.epoch, made.history.epochs) == (update, epoch, epoch)


def test_other_sizes_do_not_go_with_a_saved_run(tmp_path):
    cut = trainer()
    cut.fit(batches(gd.BatchGrowth(8, epochs=2)), epochs=1)
    cut.save(tmp_path / "run.npz")
    for other in (8, gd.BatchGrowth(8, epochs=3), gd.Piecewise([8, 16], epochs=[2])):
        with pytest.raises(gd.CheckpointError, match=r"batch_size was .*'BatchGrowth'.* and is "):
            gd.Trainer.resume(tmp_path / "run.npz", batches(other))
    gd.Trainer.resume(tmp_path / "run.npz", batches(gd.BatchGrowth(8, epochs=2)))


def test_progress_counts_the_updates_of_all_epochs(monkeypatch):
    totals = []
    monkeypatch.setattr("minigd.progress.bar", lambda total, **options: totals.append(total))
    trainer(accumulate=2).fit(batches(gd.BatchGrowth(8, 3, epochs=1)), epochs=3, progress=True)
    assert totals == [4 + 2 + 1]


# What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (gd.StepDecay(100, updates=3), r"counts in epochs, such as .*, not StepDecay\(.*upd"),
        (gd.Constant(20), "a schedule that counts in epochs"),
        (lambda epoch: 20, "a schedule that counts in epochs, .* not <function"),
        (gd.BatchGrowth, "a schedule that counts in epochs, .* not <class"),
        (gd.CosineDecay(0.3, epochs=3), "batch_size must be an integer, at least 1, not 0"),
    ],
)
def test_what_gives_no_size_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        batches(given)


def test_a_size_below_one_in_a_later_epoch_leaves_the_epochs_before():
    made = trainer()
    with pytest.raises(ValueError, match="batch_size must be an integer, at least 1, not 0"):
        made.fit(batches(gd.CosineDecay(10, epochs=2)), epochs=3)
    assert (made.epoch, made.batch) == (2, 0)


def test_an_epoch_whose_batches_are_larger_than_the_rows_says_so():
    grown = batches(gd.BatchGrowth(30, 2, epochs=1), tail="drop")
    assert (grown.sizes, grown.dropped) == ([30], 23)
    with pytest.raises(gd.DataError, match="53 rows do not fill one batch of 60"):
        grown.at(1)


def test_it_shows_its_schedule():
    assert "batch_size=BatchGrowth(batch_size=8, factor=2.0, epochs=2)" in repr(
        batches(gd.BatchGrowth(8, epochs=2))
    )
