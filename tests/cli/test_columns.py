"""Following the shell's advice about columns that it can't use works."""

import re
import shlex
import warnings

import numpy as np
import pandas as pd
import pytest

from minigd.cli.main import main
from minigd.cli.trained import load_table

N = 80


def table(**columns):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=N).round(3), "b": rng.normal(size=N).round(3)})
    for name, values in columns.items():
        frame[name] = values
    return frame.assign(y=(frame["a"] > 0).astype(int))


CODES = [f"A/5 {i}" if i % 4 == 0 else str(1000 + i) for i in range(N)]
TABLES = {
    "codes": table(ticket=CODES),
    "one text": table(c=["?" if i == 7 else str(i) for i in range(N)]),
    "three texts": table(c=[("?", "n/d", "x")[i % 3] if i < 9 else str(i) for i in range(N)]),
    "an underscore": table(c=["1_000" if i == 7 else str(i) for i in range(N)]),
    "a decimal comma": table(c=[f"{i},5" for i in range(N)]),
    "blank": table(empty=[None] * N),
    "many": table(
        name=[f"{i} Main Street" for i in range(N)],
        ticket=CODES,
        empty=[None] * N,
        c=["?" if i == 7 else str(i) for i in range(N)],
    ),
    "names that must be quoted": table(**{"the, ticket": CODES}),
    "upper NaN": table(c=["NAN" if i == 7 else str(i) for i in range(N)]),
}


def trained(path, capsys, *options):
    """Train as a person would: follow the first remedy of each message; return the messages."""
    words = ["train", str(path), "--target", "y", "--epochs", "2", "--hidden", "0"]
    words += ["--out", str(path.parent / "m.npz"), *options]
    messages = []
    while main(words) != 0:
        lines = capsys.readouterr().err.splitlines()
        message = [line for line in lines if line.startswith("minigd: ")][-1]
        assert message not in messages, "the same advice again"
        messages.append(message)
        advice = re.search(
            r"(?:out|pass|missing values, with|values with) (?:with )?(--.*)", message
        )
        assert advice is not None, message
        words += shlex.split(advice[1].partition(", or ")[0])
        assert len(messages) < 4
    return messages


@pytest.mark.few(4)
@pytest.mark.parametrize("name", TABLES)
def test_the_advice_of_the_shell_leads_to_a_model(name, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    TABLES[name].to_csv(path, index=False)
    messages = trained(path, capsys)
    assert len(messages) == (0 if name in ("upper NaN", "blank") else 1)
    assert load_table(tmp_path / "m.npz").schema.features[:2] == ["a", "b"]


def test_the_words_that_made_rows_leave_are_said_with_the_option(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    frame = table(country=["NA" if i % 2 else "ZA" for i in range(N)])
    frame.to_csv(path, index=False)
    trained(path, capsys)
    err = capsys.readouterr().err
    assert "missing category has its own level\n'NA' counted as missing there" in err
    assert "--no-default-na" in err
    trained(path, capsys, "--no-default-na")
    assert load_table(tmp_path / "m.npz").schema.levels == {"country": ["NA", "ZA"]}
    assert "NA" not in capsys.readouterr().err
    # The words are remembered for the tables that the model is used on.
    assert main(["evaluate", str(tmp_path / "m.npz"), str(path)]) == 0
    assert f"{N} rows" in capsys.readouterr().out
    frame["y"] = ["None" if i % 2 else "Apnea" for i in range(N)]
    frame.to_csv(path, index=False)
    words = ["train", str(path), "--target", "y", "--hidden", "0", "--out", str(tmp_path / "n.npz")]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(words) == 1
    err = capsys.readouterr().err
    assert f"{N // 2} rows left out, because 'None' in column 'y' means a missing value" in err
    assert "--no-default-na" in err
    assert main([*words, "--no-default-na", "--epochs", "2"]) == 0
    assert load_table(tmp_path / "n.npz").schema.classes == ["Apnea", "None"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_classes_of_64_bits_are_exact_from_file_to_predictions(suffix, tmp_path, capsys):
    ids = [998877665544332211, 1234567890123456789, 1234567890123456790]
    frame = table()
    frame["y"] = [ids[int(a > 0) + int(b > 0)] for a, b in zip(frame["a"], frame["b"], strict=True)]
    path = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    trained(path, capsys)
    assert load_table(tmp_path / "m.npz").schema.classes == [str(value) for value in ids]
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "m.npz"), str(path)]) == 0
    predicted = {line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]}
    assert predicted <= {str(value) for value in ids}


def test_lists_and_truth_values_of_parquet(tmp_path, capsys):
    path = tmp_path / "rows.parquet"
    table(
        emb=[[0.0, float(i)] for i in range(N)], garden=[i % 2 == 0 for i in range(N)]
    ).to_parquet(path)
    (message,) = trained(path, capsys)
    assert "column 'emb' holds values of type list" in message
    assert load_table(tmp_path / "m.npz").schema.features == ["a", "b", "garden"]


def test_what_became_of_rare_texts_is_said(tmp_path, capsys):
    path = tmp_path / "homes.csv"
    rng = np.random.default_rng(0)
    homes = pd.DataFrame({"area": [f"{k} m2" for k in range(150)] * 4, "rooms": 1.5, "y": 1.5})
    homes["rooms"] = rng.normal(size=600).round(3)
    homes["city"] = ["Bonn" if k % 3 else f"village {k % 200}" for k in range(600)]
    homes["codes"] = [str(k % 150) if k % 150 else "A/5" for k in range(600)]
    homes["day"] = pd.date_range("2024-01-01", periods=150).tolist() * 4
    homes["y"] = homes["rooms"] * 2
    homes.drop(columns="codes").to_csv(path, index=False)
    words = ["train", str(path), "--target", "y", "--epochs", "1", "--hidden", "0"]
    assert main([*words, "--out", str(tmp_path / "m.npz")]) == 0
    said = capsys.readouterr().err
    why = "it has 150 different texts, such as '0 m2', none of them in 10 rows or more"
    assert f"column 'area' is left out: {why}\n" in said
    assert "200 values of 'city' are not among its 2 levels, and count as other\n" in said
    assert load_table(tmp_path / "m.npz").schema.features == ["rooms", "city", "day"]
    homes.to_csv(path, index=False)
    assert main(words) == 1
    assert "column 'codes': 'A/5' is not a number" in capsys.readouterr().err
    homes.drop(columns="codes").to_csv(path, index=False)
    assert main([*words, "--min-count", "4", "--out", str(tmp_path / "m.npz")]) == 0
    assert "area" in load_table(tmp_path / "m.npz").schema.features
