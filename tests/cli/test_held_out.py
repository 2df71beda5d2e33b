"""A table with few different rows causes a warning, and one with many does not."""

import numpy as np
import pandas as pd
import pytest

import minigd as gd
from minigd.cli.held_out import split_for_validation
from minigd.cli.main import main


def titanic_like(n=3000):
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, 2, n) for name in ("male", "adult", "crew")}
    table = pd.DataFrame(columns)
    table["survived"] = np.where(rng.random(n) < 0.3 + 0.4 * table["male"], "yes", "no")
    return table


@pytest.mark.parametrize("command", [["train"], ["race", "--seconds", "0.2"]])
def test_few_different_rows_are_told(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    titanic_like().to_csv("table.csv", index=False)
    more = ["--epochs", "1"] if command == ["train"] else ["--batch-sizes", "100"]
    assert main([command[0], "table.csv", "--target", "survived", *command[1:], *more]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "rows held out differ" in told
    assert "evaluate on a separate file" in told


@pytest.mark.parametrize("kinds", [0, 15, 400])
def test_many_different_rows_are_not(capsys, kinds):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 3)) if kinds == 0 else rng.integers(0, kinds, (3000, 2)) * 1.0
    split_for_validation(gd.ArraySource(x, rng.integers(0, 2, 3000)))
    assert "held out differ" not in capsys.readouterr().err
