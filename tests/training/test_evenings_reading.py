"""The code that a plain `fit` runs, as an evening's reading.

A profile hook records which functions of minigd are entered, and their lines of code are counted.
"""

import ast
import inspect
import sys
from pathlib import Path

import numpy as np
from test_architecture import PACKAGE, lines_of_code

import minigd as gd
from minigd.execution import plain
from minigd.training import loop

MOST = 1_497
"""The largest number of lines of code. It may only decrease."""


def entered(run):
    """Return the first lines of the functions of minigd that are entered, by file."""
    codes = set()

    def note(frame, event, argument):
        if event == "call":
            codes.add(frame.f_code)

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    found = {}
    for code in codes:
        if Path(code.co_filename).is_relative_to(PACKAGE):
            found.setdefault(code.co_filename, set()).add(code.co_firstlineno)
    return found


def read(found):
    """Return the number of lines of code of these functions, by file."""
    counts = {}
    for file, starts in found.items():
        source = Path(file).read_text(encoding="utf-8")
        code, lines = lines_of_code(source), set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                first = min([node.lineno, *[d.lineno for d in node.decorator_list]])
                if first in starts:
                    lines |= code & set(range(first, node.end_lineno + 1))
        counts[str(Path(file).relative_to(PACKAGE))] = len(lines)
    return counts


def plain_fit():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(230, 4))
    layers = [gd.Dense(10), gd.Tanh(), gd.Dense(1), gd.Sigmoid()]
    model = gd.Sequential(layers, inputs=4)
    events = []

    def run():
        model.fit(
            X,
            (X[:, 0] > 0).astype(float),
            loss="binary_crossentropy",
            updater=gd.Adam(),
            metrics=["accuracy"],
            batch_size=50,
            epochs=2,
            callbacks=[lambda event: events.append(event.name)],
            reuse_buffers=False,
        )

    found = entered(run)
    assert events.count("update") == 10
    return found


def test_what_a_plain_fit_enters_can_be_read_in_an_evening():
    counts = read(plain_fit())
    print(f"a plain fit enters functions of {sum(counts.values())} lines of code:")
    for file, count in sorted(counts.items(), key=lambda item: -item[1]):
        print(f"{count:5} {file}")
    assert sum(counts.values()) <= MOST


def test_the_functions_of_a_step_are_among_them():
    found = plain_fit()
    for function in (
        plain.step,
        loop.Loop.run_epoch,
        gd.Dense.forward,
        gd.Dense.backward,
        gd.Adam.update,
        gd.BinaryCrossEntropy.backward,
    ):
        code = inspect.unwrap(function).__code__
        assert code.co_firstlineno in found[code.co_filename], function


def test_lines_of_functions_that_are_not_entered_do_not_count():
    def run():
        gd.Sequential([gd.Dense(1)], inputs=1)

    counts = read(entered(run))
    assert 0 < counts["nn/sequential.py"] < 120
    assert "training/loop.py" not in counts


def test_the_four_lines_of_a_step_stand_next_to_each_other():
    lines = inspect.getsource(plain.step).splitlines()
    start = next(i for i, line in enumerate(lines) if "objective.outputs(" in line)
    words = ["outputs(x)", "mean_loss(z, y", "backward(objective", "update(loss)"]
    for line, word in zip(lines[start : start + 4], words, strict=True):
        assert word in line
    nodes = ast.walk(ast.parse(inspect.getsource(loop)))
    calls = [ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)]
    assert calls.count("plain.step") == 1
