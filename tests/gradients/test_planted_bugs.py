"""Each planted bug fails each check that should notice it, and the real engine fails none.

A suite that lets one of these through would let it through in the engine, too.
"""

import pytest
from gradients.planted.activations import ACTIVATIONS
from gradients.planted.by_batch import BATCH_NORM, DROPOUT
from gradients.planted.dense import DENSE
from gradients.planted.epochs import EPOCHS
from gradients.planted.losses import LOSSES
from gradients.planted.updaters import UPDATERS
from gradients.planted.weights import PENALTIES, WEIGHTS, WINDOWS

import minigd as gd

BUGS = [*DENSE, *ACTIVATIONS, *BATCH_NORM, *DROPOUT, *LOSSES, *PENALTIES, *WEIGHTS, *WINDOWS]
BUGS += [*EPOCHS, *UPDATERS]


RIGHT = set()
"""Checks that the real engine has passed in this process. Several bugs share them."""


@pytest.mark.few(30)
@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_is_caught(bug, monkeypatch):
    for check in bug.checks:
        if repr(check) not in RIGHT:
            check()
            RIGHT.add(repr(check))
    bug.plant(monkeypatch)
    missed = []
    for check in bug.checks:
        try:
            check()
        except (AssertionError, gd.GradientError):
            continue
        missed.append(check)
    assert not missed, f"{bug.name} passes {missed}"


def test_no_bug_is_listed_twice():
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 20
