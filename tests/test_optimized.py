"""`python -O` drops assertions, and no error that a user gets is one of them."""

import ast
import subprocess
import sys
from pathlib import Path

import minigd as gd

PACKAGE = Path(gd.__file__).parent

CALLS = """
import numpy as np
import minigd as gd

class NoDx(gd.Layer):
    def forward(self, x, train=False):
        return x
    def backward(self, dy):
        return None

def unused():
    layer = gd.Dense(2)
    gd.Sequential([layer], 3)
    return layer

x = np.arange(15.0).reshape(5, 3)
stream = gd.IterableSource([(x, None)])
for call in (
    lambda: unused().row_squares(x[:, :2]),
    lambda: unused().backward(x[:, :2]),
    lambda: gd.check_layer(NoDx(), x),
    lambda: gd.check_gradients(gd.Sequential([NoDx()], 3, dtype="float64"), "mse", x, x),
    lambda: gd.CosineDecay(0.1),
    lambda: gd.WarmUp(0.1, updates=3, epochs=3),
    lambda: gd.Batches(x, sample_weight=np.ones(5)),
    lambda: gd.Sequential([gd.Dense(1)], 3).fit(stream, loss="mse", shuffle=False),
    lambda: gd.Trainer.resume("/no/such/run.npz"),
    lambda: gd.Trainer(gd.Sequential([gd.Dense(1)], 3), "mse", "sgd", accumulate=0),
    lambda: gd.Trainer(gd.Sequential([gd.Dense(1)], 3), "mse", "sgd").step(x, x),
    lambda: gd.Trainer(gd.Sequential([gd.Dense(1)], 3), "mse", "sgd").fit(),
):
    try:
        print("no error", call())
    except Exception as error:
        print(type(error).__name__, error)
"""


def narrows(test):
    """Tell whether a test only says of which type something is."""
    if isinstance(test, ast.Compare):
        return [type(op) for op in test.ops] == [ast.IsNot] and (
            ast.unparse(test.comparators[0]) == "None"
        )
    return isinstance(test, ast.Call) and ast.unparse(test.func) == "isinstance"


def test_assertions_only_narrow_types():
    others = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        if path.parent != PACKAGE / "tests"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert) and not narrows(node.test)
    ]
    assert others == []


def test_errors_are_the_same_without_assertions():
    said = [
        subprocess.run(
            [sys.executable, *option, "-c", CALLS], capture_output=True, text=True, check=True
        ).stdout
        for option in ([], ["-O"])
    ]
    assert said[0] == said[1]
    assert "AssertionError" not in said[0]
    assert "no error" not in said[0]
    assert len(said[0].splitlines()) >= 12
