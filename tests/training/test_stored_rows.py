"""Rows of a file that are at hand as numbers are trained on as arrays in memory are: to the bit."""

import numpy as np
import pytest

import minigd as gd
from minigd.execution.targets.compiler import available
from minigd.training import chunks
from minigd.training.loop import Loop

FAST = [False, pytest.param(True, marks=pytest.mark.skipif(not available(), reason="no Numba"))]
ROWS = 330


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(ROWS, 3))
    y = x @ [1.0, -2.0, 0.5] + rng.normal(size=ROWS)
    lines = [",".join(map(repr, row)) for row in np.column_stack([x, y, y > 0]).tolist()]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(["a,b,c,y,k", *lines]) + "\n")
    return file


def trained(source, fast, gather=None, shuffle=True, part=False, **options):
    """Return parameters and history of three epochs, the first of which is left in the middle."""
    if part:
        source, _ = source.split(0.3)
    if gather is not None:
        source.gather = gather
    batches = gd.Batches(source, batch_size=20, shuffle=shuffle, seed=2, **options)
    model = gd.Sequential([gd.Dense(4), gd.Tanh(), gd.Dense(1)], inputs=3, seed=1)
    trainer = gd.Trainer(model, "mse", "adam", metrics=["mae"], fast=fast)

    def stop(event):
        if event.name == "update" and event.trainer.updates == 5:
            event.trainer.stop()

    trainer.fit(batches, until_epoch=1, callbacks=[stop])
    trainer.fit(batches, until_epoch=3)
    history = {name: v for name, v in trainer.history.items() if name != "seconds"}
    return model.flat_params.tobytes(), history, trainer.evaluate(batches)


@pytest.mark.each
@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize(
    "options",
    [{}, {"gather": 50}, {"gather": 1}, {"shuffle": False}, {"part": True}, {"tail": "drop"},
     {"sample_weight": np.arange(ROWS) % 3}],
    ids=lambda options: "-".join(options) or "shuffled",
)  # fmt: skip
def test_it_comes_to_the_bits_of_arrays(path, monkeypatch, fast, options):
    monkeypatch.setattr(chunks, "ROWS", 40)
    source = gd.CsvSource(path, target="y", exclude=["k"])
    assert source.checked
    arrays = gd.ArraySource(*source.take(slice(0, ROWS)))
    assert trained(source, fast, **options) == trained(arrays, fast, **options)


@pytest.mark.skipif(not available(), reason="no Numba")
def test_its_epochs_are_compiled_as_those_of_arrays_are(path, monkeypatch):
    source = gd.CsvSource(path, target="y", exclude=["k"])
    one_by_one = []
    run_batches = Loop._run_batches
    monkeypatch.setattr(Loop, "_run_batches", lambda *a: one_by_one.append(1) or run_batches(*a))
    model = gd.Sequential([gd.Dense(1)], inputs=3, seed=1)
    model.fit(source, loss="mse", updater="adam", batch_size=20, epochs=2, fast=True)
    assert not one_by_one


@pytest.mark.parametrize("fast", FAST)
def test_targets_that_do_not_fit_are_refused_before_anything_is_trained(path, fast):
    source = gd.CsvSource(path, target="y", exclude=["k"])
    model = gd.Sequential([gd.Dense(2), gd.Softmax()], inputs=3, seed=1)
    before = model.flat_params.copy()
    with pytest.raises(gd.DataError):
        model.fit(source, loss="categorical_crossentropy", updater="adam", fast=fast)
    assert (model.flat_params == before).all()


def test_a_source_whose_means_are_settled_later_is_looked_at_batch_by_batch(path):
    path.write_text(path.read_text().replace("a,b,c,y,k\n", "a,b,c,y,k\n,1,1,1,1\n"))
    source = gd.CsvSource(path, target="y", missing="mean")
    assert not source.checked
    assert not source.unfilled().checked
    assert np.isfinite(np.concatenate([x for x, _ in source.chunks()])).all()
