"""The name of a bug: fifty planted ones, half of them by someone who had not read the checker.

What can't be told apart is named as two, what looks like nothing known is not named, and a right
network raises no alarm.
"""

import pytest
from gradients import naming, planted_named_layers, planted_named_losses
from gradients.planted_named_by_another import PLANTED as BY_ANOTHER

import minigd as gd

OWN = [*planted_named_layers.PLANTED, *planted_named_losses.PLANTED]
PLANTED = [*OWN, *BY_ANOTHER]


def diagnosis_of(bug):
    """Return what the checker says of a planted bug, which it must catch."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        bug.plant(monkeypatch)
        with pytest.raises(gd.GradientError) as caught:
            bug.check()
    return caught.value.diagnosis


@pytest.mark.parametrize("bug", PLANTED, ids=[bug.name for bug in PLANTED])
def test_a_planted_bug_is_caught(bug):
    diagnosis_of(bug)


def test_nine_of_ten_are_named_rightly():
    said = {bug: diagnosis_of(bug) for bug in PLANTED}
    missed = [
        f"{bug.name} ({bug.kind}): {says}"
        for bug, says in said.items()
        if not naming.named_rightly(says, bug.kind)
    ]
    print(*missed, sep="\n")
    assert len(missed) <= len(PLANTED) / 10, "\n".join(missed)
