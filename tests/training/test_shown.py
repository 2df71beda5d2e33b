"""What a model and a history show of themselves, in a script, a session, a notebook and a frame."""

import contextlib
import io
import subprocess
import sys

import numpy as np
import pytest

import minigd as gd

MODEL = "import minigd as gd; model = gd.Sequential([gd.Dense(2), gd.Tanh(), gd.Dense(1)], 3)\n"


def out_of(code, mode="exec"):
    """Return what code writes, compiled as a script is, or as each line of a session is."""
    text, names = io.StringIO(), {}
    exec(MODEL, names)
    with contextlib.redirect_stdout(text):
        exec(compile(code, "<code>", mode), names)
    return text.getvalue()


@pytest.mark.parametrize(
    ("code", "mode", "times"),
    [
        ("model.summary()", "exec", 1),
        ("model.summary(50, updater='sgd')", "exec", 1),
        ("print(model.summary())", "exec", 1),
        ("text = model.summary()", "exec", 0),
        ("assert 'dense1' in model.summary()", "exec", 0),
        ("for _ in range(2):\n    model.summary()", "exec", 2),
        ("if model.summary(): pass", "exec", 0),
        ("[model.summary() for _ in range(2)]", "exec", 0),
        ("def show(): model.summary()\nshow()", "exec", 1),
        ("def show(): return model.summary()\nprint(show())", "exec", 1),
        ("model.summary()", "single", 1),  # a session shows the value itself
        ("text = model.summary()", "single", 0),
    ],
)
def test_a_summary_is_shown_once_or_kept(code, mode, times):
    assert out_of(code, mode).count("dense1 ") == times


def test_a_script_prints_a_summary():
    done = subprocess.run(
        [sys.executable, "-c", MODEL + "model.summary()"], capture_output=True, text=True
    )
    assert done.stderr == ""
    model = gd.Sequential([gd.Dense(2), gd.Tanh(), gd.Dense(1)], 3)
    text = model.summary()
    assert done.stdout == f"{text}\n"


COLUMNS = {"loss": [0.5, 0.25, 0.125], "val_loss": [0.5, float("nan"), 0.75]}


def test_a_frame_of_a_history_is_its_table():
    pandas = pytest.importorskip("pandas")
    history = gd.History(COLUMNS)
    frame = pandas.DataFrame(history)
    assert list(frame.columns) == ["loss", "val_loss"]
    pandas.testing.assert_frame_equal(frame, pandas.DataFrame(COLUMNS))
    found = gd.Sequential([gd.Dense(1)], 1).fit(np.ones((9, 1)), np.ones(9), loss="mse", epochs=3)
    assert pandas.DataFrame(found)["loss"].tolist() == found["loss"]


def test_a_frame_of_polars_too():
    polars = pytest.importorskip("polars")
    assert polars.DataFrame(gd.History(COLUMNS)).columns == ["loss", "val_loss"]


def test_a_notebook_shows_a_history_as_a_table():
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("lxml")
    (frame,) = pandas.read_html(io.StringIO(gd.History(COLUMNS)._repr_html_()))
    assert frame["epoch"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(frame["val_loss"], COLUMNS["val_loss"])


def test_the_table_in_a_notebook_has_a_row_for_each_epoch_and_names_are_escaped():
    text = gd.History({"<b>": [0.5, 0.25]})._repr_html_()
    assert text == (
        "<table><tr><th>epoch</th><th>&lt;b&gt;</th></tr><tr><td>1</td><td>0.5</td></tr>"
        "<tr><td>2</td><td>0.25</td></tr></table>"
    )
    assert gd.History()._repr_html_() == "<table><tr><th>epoch</th></tr></table>"


def test_a_long_table_shows_its_ends():
    text = gd.History({"loss": list(map(float, range(1000)))})._repr_html_()
    assert text.count("<tr>") == 22
    assert "<td>10</td><td>9</td></tr><tr><td>…</td><td>…</td></tr><tr><td>991</td>" in text


def test_a_history_is_copied_with_its_columns():
    import copy
    import json
    import pickle

    history = gd.History(COLUMNS)
    for again in (copy.copy(history), copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert type(again) is gd.History
        assert repr(again) == repr(history)
    assert json.loads(json.dumps(gd.History({"loss": [0.5]}))) == {"loss": [0.5]}


def test_metrics_may_have_their_own_names_as_keys():
    X = np.linspace(-1, 1, 40).reshape(-1, 1)
    model = gd.Sequential([gd.Dense(1)], 1)
    history = model.fit(X, X, loss="mse", metrics={"r2": "r2"}, validation_data=(X, X))
    assert {"r2", "val_r2"} <= set(history)
    assert set(model.evaluate(X, X)) == {"loss", "r2"}
