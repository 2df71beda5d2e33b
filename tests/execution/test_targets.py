"""Every way of running a step comes to what the plain step does: NumPy's calls to the bit, others
within a stated bound, `drawn_runs.Bounds`.

Most runs do not compile: the source that is printed for Numba is run as Python, which shows what
was traced, shortened and printed. A few are compiled, in which each layer, loss and updater comes.
"""

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from oracles import drawn_runs
from oracles.drawn_runs import CHOICES, Bounds, check_same, settled, train
from oracles.interpreted import interpreted

import minigd as gd
from minigd.execution.targets import compiler
from minigd.execution.targets import numba as target
from minigd.training.loop import Loop

pytestmark = pytest.mark.skipif(not compiler.available(), reason="needs Numba and SciPy")

PARTS = 8
RUNS = drawn_runs.table(0)


@pytest.fixture
def in_python(monkeypatch):
    """Run the source of compiled steps as Python."""
    monkeypatch.setattr(target, "compiled", interpreted)


def check_run(run, how="epochs"):
    """Make a run in each way, and compare what it comes to."""
    run = settled(run)
    bounds = Bounds(run, how)
    _, found = train(run, how, fast=False)
    check_same(found, bounds.plain, "NumPy's calls")
    compiled, found = train(run, how, fast=True)
    assert compiled._loop.steps.reason is None
    assert any(compiled._loop.steps._compiled.values())
    bounds.check(found, "compiled")
    # Weighted or accumulated batches are single steps anyway.
    if run["weights"] == "none" and run["accumulate"] == 1 and how == "epochs":
        assert compiled.chunked == expected_in_chunks(run, compiled)
        _, single = train(run, "updates", fast=True)
        bounds.check(single, "compiled, with a callback")
        # Loss and metrics are summed in blocks, and else batch by batch.
        for name in [name for name in found if name.startswith("history")]:
            del found[name], single[name]
        check_same(single, found, "single steps and epochs")


def expected_in_chunks(run, trainer):
    """Return how many updates compiled epochs make: all whose batch is the program compiled."""
    step = next(iter(trainer._loop.steps._compiled.values()))
    sizes = trainer.batches.sizes
    return drawn_runs.EPOCHS * sum(map(step.takes, sizes)) if step.takes(sizes[0]) else 0


@pytest.fixture(autouse=True)
def count_chunks(monkeypatch):
    """Let a trainer count the updates that compiled epochs make, as `chunked`."""
    make = Loop._make_chunk

    def counted(loop, chunks, end):
        made = make(loop, chunks, end)
        loop.transaction.chunked = getattr(loop.transaction, "chunked", 0) + made
        return made

    monkeypatch.setattr(Loop, "_make_chunk", counted)
    monkeypatch.setattr(
        gd.Trainer,
        "chunked",
        property(lambda trainer: getattr(trainer._transaction, "chunked", 0)),
        raising=False,
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_each_two_choices_together_come_to_what_the_plain_step_does(part, in_python):
    for run in RUNS[part::PARTS]:
        check_run(run)


@given(run=st.fixed_dictionaries({name: st.sampled_from(v) for name, v in CHOICES.items()}))
@examples(8)
def test_drawn_runs_come_to_what_the_plain_step_does(run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "compiled", interpreted)
        check_run(run)
        check_run(run, "steps")


COMPILED = drawn_runs.each_once(0)


@pytest.mark.parametrize("number", range(len(COMPILED)))
def test_compiled_runs_come_to_what_the_plain_step_does(number):
    check_run(COMPILED[number])


@pytest.mark.slow
def test_many_compiled_runs_come_to_what_the_plain_step_does():
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    for run in drawn_runs.each_once(seed) + drawn_runs.each_once(seed + 1):
        try:
            check_run(run)
        except AssertionError as error:
            raise AssertionError(f"{error}\nseed {seed}, {run}") from error
