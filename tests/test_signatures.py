"""Nothing public changes by accident: names, methods, parameters and defaults are recorded.

If a change is meant to change one, record them again with `python tests/oracles/signatures.py`.
"""

import re

import pytest
from oracles import signatures

import minigd as gd


def test_public_signatures_are_those_written_down():
    pytest.importorskip("sklearn")
    kept = signatures.FILE.read_text(encoding="utf-8").splitlines()
    found = signatures.signatures()
    gone, added = sorted(set(kept) - set(found)), sorted(set(found) - set(kept))
    assert (gone, added) == ([], []), "python tests/oracles/signatures.py writes them again"
    assert found == kept


def test_every_public_name_is_there():
    lines = signatures.FILE.read_text(encoding="utf-8").splitlines()
    names = {re.match(r"(class )?(gd\.\w+)", line)[2] for line in lines}
    modules = {f"gd.{name}" for name in signatures.MODULES}
    assert {f"gd.{name}" for name in gd.__all__} - modules <= names


def test_a_changed_signature_is_found():
    class Changed(gd.SGD):
        def __init__(self, learning_rate=0.1, nesterov=False):
            pass

        def update(self, model):
            """Take one argument less."""

        @property
        def rate(self):
            """Add a name."""

    Changed.__module__ = "minigd.optim.updaters"
    lines = list(signatures.described("gd.SGD", Changed))
    assert lines == [
        "class gd.SGD(SGD, Updater)",
        "gd.SGD(learning_rate=0.1, nesterov=False)",
        "gd.SGD.rate: property",
        "gd.SGD.update(self, model)",
    ]
