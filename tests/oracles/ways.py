"""Checks that each way of running steps gives the results of the plain step, and its errors."""

import re
from typing import Any

import numpy as np
import pytest
from oracles import drawn_runs
from oracles.drawn_runs import Bounds, check_same, settled, train

import minigd as gd
from minigd.training import chunks


def check_run(run: dict[str, Any], how: str = "epochs") -> None:
    """Make a run in each way, and compare the results."""
    run = settled(run)
    bounds = Bounds(run, how)
    replayed, found = train(run, how, fast=False)
    check_same(found, bounds.plain, "NumPy's calls")
    kept = replayed._loop.steps._numpy.values()
    assert all(kept)
    assert bool(kept) == (run["weights"] == "none")
    compiled, found = train(run, how, fast=True)
    assert compiled._loop.steps.reason is None
    assert any(compiled._loop.steps._compiled.values())
    bounds.check(found, "compiled")
    if how == "epochs":
        assert compiled.chunked == expected_in_chunks(compiled)
        _, single = train(run, "updates", fast=True)
        bounds.check(single, "compiled, with a callback")
        with pytest.MonkeyPatch.context() as patch:
            # Chunks of one batch, of two, of four.
            patch.setattr(chunks, "ROWS", run["sizes"][1])
            patch.setattr(chunks, "SECONDS", 1e9)
            _, cut = train(run, "pieces", fast=True)
        bounds.check(cut, "compiled, in pieces")
        # Loss and metrics are summed in blocks, and else batch by batch.
        for name in [name for name in found if name.startswith("history")]:
            del found[name], single[name], cut[name]
        check_same(single, found, "single steps and epochs")
        check_same(cut, found, "pieces and epochs")


def check_device(run: dict[str, Any], backend: Any) -> gd.Trainer:
    """Make a compiled run on a device, compare the results, and return its trainer."""
    run = settled(run)
    trainer, found = train(run, backend=backend)
    assert trainer._loop.steps.reason is None, trainer._loop.steps.reason
    # A batch of one row may be another program.
    assert run["sizes"][1] == 1 or any(trainer._loop.steps._compiled.values())
    Bounds(run).check(found, "on the device")
    return trainer


def expected_in_chunks(trainer: Any) -> int:
    """Return how many steps compiled epochs make: all whose batch is the program compiled.

    A step that is compiled for a later epoch may have room for fewer rows than the one before.
    """
    made = 0
    for epoch in range(drawn_runs.EPOCHS):
        step = trainer.step_of[epoch]
        batches = list(trainer.batches.epoch(epoch))
        sizes = [len(b.x) if b.weight is None else np.count_nonzero(b.weight) for b in batches]
        assert step is not None or not any(sizes)
        if any(sizes) and step.takes(max(sizes)):
            made += sum(step.takes(n) for n in sizes if n)
    return made


WAYS = {
    "NumPy's calls": {"fast": False},
    "compiled, single steps": {"fast": True, "callbacks": [lambda event: None]},
    "compiled, epochs": {"fast": True},
}
# How one batch diverges, the fifth, and the message.
BAD = {
    "the loss": (lambda x, y: y.__setitem__(9, 1e30), 0.01, "the loss is inf at epoch 1, update 5"),
    "a gradient": (
        lambda x, y: (x.__setitem__(9, 3e38), y.__setitem__(9, 50)),
        0.01,
        r"the gradient of dense1\.W is not finite at epoch 1, update 5",
    ),
    "an update": (
        lambda x, y: x.__setitem__(9, 1e10),
        1e30,
        "the update is too large for float32 at epoch 1, update 5",
    ),
}


def diverged(bad: str, rows: int = 20, **options: Any) -> tuple[gd.Trainer, str | None]:
    """Return a trainer and what was raised, where the fifth batch of two rows is bad."""
    spoil, rate, _ = BAD[bad]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)).astype("f4"), rng.normal(size=(20, 2)).astype("f4")
    layers = [gd.Dense(4), gd.Dropout(0.2), gd.BatchNorm(), gd.Dense(2)]
    if bad != "the loss":
        # No output depends on x, and the gradient does; what is to be too large begins at 0.
        x[:8] = 0
        layers = [gd.Dense(2, "zeros", bias=bad != "an update")]
    if bad == "an update":
        y[:8] = 0
    spoil(x, y)
    x, y = x[:rows], y[:rows]
    model = gd.Sequential(layers, inputs=3, seed=1)
    callbacks = options.pop("callbacks", [])
    updater = gd.SGD(rate, momentum=0.9)
    trainer = gd.Trainer(model, "mse", updater, **options)
    error = None
    try:
        with np.errstate(all="ignore"):
            trainer.fit(x, y, batch_size=2, shuffle=False, callbacks=callbacks)
    except gd.DivergenceError as raised:
        error = str(raised)
    return trainer, error


def check_divergence(way: str, bad: str) -> None:
    """Check that all is as before the bad update, and that the error is that of a plain run."""
    plain, said = diverged(bad, reuse_buffers=False, fast=False)
    trainer, error = diverged(bad, **WAYS[way])
    assert error == said
    assert re.match(BAD[bad][2], error)
    assert trainer._loop.steps.reason is None
    # As a run that ends with the last good batch.
    good, none = diverged(bad, rows=8, **WAYS[way])
    assert none is None
    found, expected = drawn_runs.results(trainer), drawn_runs.results(good)
    for name in found:
        if name != "grads" and not name.startswith("history"):
            np.testing.assert_array_equal(found[name], expected[name], name)
    assert (trainer.updates, trainer.batch) == (4, 4) == (good.updates, plain.batch)
    assert not trainer.history
