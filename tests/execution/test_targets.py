"""Every way of running a step comes to what the plain step does, NumPy's calls to the bit.

Others do within a stated bound, `drawn_runs.Bounds`: a GPU's kernels, on the stand-in for CuPy, and
what is compiled for the CPU. Most of those runs do not compile: the source that is printed for
Numba is run as Python, which shows what was traced, shortened and printed. A few are compiled, in
which each layer and each updater comes.
"""

import numpy as np
import pytest
from budgets import examples
from hypothesis import given
from hypothesis import strategies as st
from oracles import drawn_runs, host_cuda
from oracles.drawn_runs import CHOICES
from oracles.interpreted import interpreted
from oracles.ways import BAD, WAYS, check_device, check_divergence, check_run

from minigd.execution.targets import compiler
from minigd.execution.targets import numba as target

pytestmark = pytest.mark.skipif(not compiler.available(), reason="needs Numba and SciPy")

PARTS = 8
RUNS = drawn_runs.table(0)


@pytest.fixture
def in_python(monkeypatch):
    """Run the source of compiled steps as Python."""
    monkeypatch.setattr(target, "Compiled", interpreted)


@pytest.mark.few(3)
@pytest.mark.parametrize("part", range(PARTS))
def test_some_of_the_runs_in_which_each_two_choices_meet(part, in_python):
    for run in RUNS[part :: 5 * PARTS]:
        check_run(run)


@pytest.mark.slow
def test_the_others_come_to_what_the_plain_step_does(in_python):
    for part in range(PARTS, 4 * PARTS):
        for run in RUNS[part :: 4 * PARTS]:
            check_run(run)


@given(run=st.fixed_dictionaries({name: st.sampled_from(v) for name, v in CHOICES.items()}))
@examples(5)
def test_drawn_runs_come_to_what_the_plain_step_does(run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "Compiled", interpreted)
        check_run(run)
        check_run(run, "steps")


INCLUDED = {
    *(("updater", name) for name in ("momentum", "adam", "adamw on biases")),
    *(("clipping", name) for name in ("value", "norm", "rows")),
}
"""What is compiled for another choice too: Nesterov's, AdamW, and all kinds of clipping."""


def few(runs):
    """Return the fewest runs, about, that have each layer, updater and kind of clipping."""
    names = ("first", "hidden", "second", "updater", "clipping", "dtype")
    alike = {"first": "layer", "hidden": "layer", "second": "layer"}
    values = [{(alike.get(name, name), run[name]) for name in names} for run in runs]
    missing, kept = set().union(*values) - INCLUDED, []
    while missing:
        best = max(range(len(runs)), key=lambda k: len(values[k] & missing))
        missing -= values[best]
        kept.append(runs[best])
    return kept


COMPILED = few(drawn_runs.each_once(0))


@pytest.mark.parametrize(
    "number",
    [
        0,
        *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, len(COMPILED))),
    ],
)
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


ON_DEVICE = drawn_runs.each_once(0) + drawn_runs.each_once(1)


@pytest.mark.skipif(host_cuda.compiler() is None, reason=host_cuda.MISSING)
@pytest.mark.few(2)
@pytest.mark.parametrize("number", range(len(ON_DEVICE)))
def test_runs_on_a_device_come_to_what_the_plain_step_does(number, stand_in):
    check_device(ON_DEVICE[number], stand_in)


@pytest.mark.gpu
@pytest.mark.parametrize("number", range(len(ON_DEVICE)))
def test_runs_on_a_gpu_come_to_what_the_plain_step_does(number, gpu):
    check_device(ON_DEVICE[number], gpu)


@pytest.mark.slow
@pytest.mark.skipif(host_cuda.compiler() is None, reason=host_cuda.MISSING)
@pytest.mark.parametrize("part", range(PARTS))
def test_many_runs_on_a_device_come_to_what_the_plain_step_does(part, stand_in):
    for run in RUNS[part :: 2 * PARTS]:
        check_device(run, stand_in)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_diverges_is_left_as_it_was_before_the_bad_update(way, bad, in_python):
    check_divergence(way, bad)
