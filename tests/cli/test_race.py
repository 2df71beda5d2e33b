"""`minigd race`, from a table to the order of the batch sizes."""

import numpy as np
import pytest

from minigd.cli.main import main
from minigd.cli.race import race


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["size,color,price"]
    for _ in range(300):
        size, color = rng.uniform(50, 200), rng.choice(["red", "blue"])
        lines.append(f"{size:.1f},{color},{1000 * size + 5000 * (color == 'red'):.0f}")
    path = tmp_path / "homes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_is_raced_over_rows_held_out(table):
    found = race(table, "price", [10, None], hidden=(), seconds=0.05, seeds=2)
    assert sorted(str(s.batch_size) for s in found.standings) == ["10", "None"]
    # The target is standardized, so without training the loss is about 1.
    assert all(0.3 < curve.loss[0] < 10 for curve in found.curves)
    full = [curve for curve in found.curves if curve.batch_size is None]
    rows = full[0].rows[1] / full[0].updates[1]
    assert 200 < rows < 280


def test_the_command_prints_the_table_and_draws(table, capsys, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    picture = tmp_path / "race.png"
    words = ["race", str(table), "--target", "price", "--batch-sizes", "20,all", "--hidden", "0"]
    assert main([*words, "--seconds", "0.05", "--seeds", "1", "--out", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert "training time (s) to reach loss" in out
    assert "all" in out
    assert "\nmedian of 1 seed, and" in out
    assert "regression of 'price'" in err
    assert picture.stat().st_size > 5000


def test_a_batch_size_that_is_none_is_a_misuse(table, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["race", str(table), "--target", "price", "--batch-sizes", "0,all"])
    assert caught.value.code == 2
    assert "must be an integer >= 1, not " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["r.foo", "r", "none/r.png"])
def test_a_picture_that_cannot_be_is_refused_before_the_race(table, tmp_path, capsys, name):
    pytest.importorskip("matplotlib")
    out = str(tmp_path / name)
    assert main(["race", str(table), "--target", "price", "--out", out]) == 1
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.startswith(f"minigd: '{out}' ")
    assert err.count("\n") == 1


def test_the_task_may_be_said(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n" + "".join(f"{i},{i % 5}\n" for i in range(60)))
    words = ["race", str(path), "--target", "y", "--batch-sizes", "10", "--hidden", "0"]
    words += ["--seconds", "0.02", "--seeds", "1"]
    assert main([*words, "--task", "regression"]) == 0
    assert "regression of 'y', as given" in capsys.readouterr().err
    assert main(words) == 0
    assert "if it is a quantity, pass --task regression" in capsys.readouterr().err
