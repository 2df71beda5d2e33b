"""The command that is proposed if the given one can't run as it is."""

import shlex

import numpy as np
import pandas as pd
import pytest

from minigd.cli.main import main
from minigd.cli.trained import load_table

N = 60
RNG = np.random.default_rng(0)


def frame(**columns):
    """Return a table whose target depends on a."""
    a = RNG.normal(size=N).round(3)
    return pd.DataFrame({"a": a, "b": RNG.integers(0, 9, N) / 2, **columns, "y": (a > 0) + 0})


def csv(**options):
    return lambda table: table.to_csv(index=False, **options)


def commented(table):
    lines = csv()(table).splitlines()
    return "\n".join([*lines[:9], "# the logger was moved", *lines[9:], "#,,,,"]) + "\n"


def by_r(table):
    """Return a table as R's write.table writes it: without a name above those of the rows."""
    header, *lines = table.to_csv(sep="\t", index=False).splitlines()
    return "\n".join([header, *(f'"row {i}"\t{line}' for i, line in enumerate(lines))])


CASES = {
    # What is typed after the table and the target, and what is proposed.
    "separator": (frame(), csv(sep=";"), "y", "--separator ';'"),
    "blanks": (frame(), lambda t: t.to_string(index=False), "y", "--separator blanks"),
    "tabs, and a cell that is empty": (
        frame(b=["" if i == 40 else f"{i % 9}" for i in range(N)])[["b", "y"]].assign(
            y=lambda t: ["unknown" if b == "" else f"{i * 7 + 0.5}" for i, b in enumerate(t["b"])]
        ),
        *(csv(sep="\t"), "y", "--separator tab --na unknown"),
    ),
    "tabs, some of them doubled": (
        frame(),
        lambda t: csv(sep="\t", header=False)(t).replace("7\t", "7\t\t"),
        *("3", "--separator blanks --no-header"),
    ),
    "comments": (frame(), lambda t: "# by hand\n# twice\n" + csv()(t), "y", "--skip-lines 2"),
    "no header": (frame(), csv(header=False), "y", "--no-header"),
    "a place": (frame(), csv(header=False), "3", "--no-header"),
    "decimal comma": (frame(), csv(sep=";", decimal=","), "y", "--separator ';' --decimal ,"),
    "thousands": (frame(c=[f"${1000 + i:,}" for i in range(N)]), csv(), "y", "--thousands ,"),
    "a mark": (frame(c=["?" if i == 7 else f"{i}" for i in range(N)]), csv(), "y", "--na '?'"),
    "infinite": (frame(c=[f"{i}" if i % 9 else "inf" for i in range(N)]), csv(), "y", "--na inf"),
    "minus infinity": (frame(c=["-inf", *range(1, N)]), csv(), "y", "--na=-inf"),
    **{
        f"a last row, {word}": (
            pd.DataFrame({"year": [1900 + i * 7 % 120 for i in range(N)], **frame()}),
            lambda t, word=word: f"{csv()(t)}{word},{t['a'].sum():.3f},{t['b'].sum()},30\n",
            "y",
            f"--comment '{word}'",
        )
        for word in ("Total", "Summe:", "GRAND TOTAL")
    },
    **{
        f"{mark} among few levels": (
            frame(c=[mark if i == 7 else i % 4 for i in range(N)]),
            *(csv(), "y", f"--na '{mark}'"),
        )
        for mark in (r"\N", "(null)", "#DIV/0!", "Null", "#ref!")
    },
    "a minus sign of Unicode": (
        frame(c=[f"{30.5 - i}".replace("-", "\u2212") for i in range(N)]),
        *(csv(), "y", "--thousands ,"),
    ),
    "a minus sign of Unicode, and a unit": (
        frame().assign(y=[f"{30.5 - i} °C".replace("-", "\u2212") for i in range(N)]),
        *(csv(), "y", "--thousands , --strip °C"),
    ),
    "units": (
        frame(c=[f"{i / 10}%" for i in range(N)]).assign(y=[f"{i * 1.7:.1f}kg" for i in range(N)]),
        *(csv(), "y", "--strip '% kg'"),
    ),
    "a unit, and a decimal comma": (
        frame(c=[f"{i / 10} %".replace(".", ",") for i in range(N)]),
        *(csv(sep=";", decimal=","), "y", "--separator ';' --decimal , --strip %"),
    ),
    "a target in single quotes": (
        frame().assign(y=[f"'{i * 1.7:.1f}'" for i in range(N)]),
        *(csv(), "y", "--strip ''\"'\"''"),
    ),
    "a unit of the target": (
        frame().assign(y=[f"{i * 1.7:.1f} kg" for i in range(N)]),
        *(csv(), "y", "--strip kg"),
    ),
    "days of MySQL": (
        frame(c=["0000-00-00" if i % 9 == 0 else f"2024-05-{i % 28 + 1:02}" for i in range(N)]),
        *(csv(), "y", "--na 0000-00-00"),
    ),
    "days of MySQL beside another mark": (
        frame(
            c=["0000-00-00" if i % 9 == 0 else f"2024-05-{i % 28 + 1:02}" for i in range(N)],
            d=["?" if i == 7 else f"{i}" for i in range(N)],
        ),
        *(csv(), "y", "--na '0000-00-00,?'"),
    ),
    "codes": (frame(c=[("3+", "1", "2")[i % 3] for i in range(N)]), csv(), "y", "--categories c"),
    "exchanged": (
        *(frame(c=[f"{i % 9 + 1}/2/2014" for i in range(N)]), csv(), "y"),
        "--dates c=%d/%m/%Y",
    ),
    "UTF-16": (frame(), lambda t: csv()(t).encode("utf-16"), "y", "--encoding utf-16"),
    "cp1252": (
        frame(c=[("Köln", "Bonn", "Zürich")[i % 3] for i in range(N)]),
        *(lambda t: csv()(t).encode("cp1252"), "y", "--encoding cp1252"),
    ),
    "cp1252 of a single letter": (
        frame(c=[("é", "5 €", "x")[i % 3] for i in range(N)]),
        *(lambda t: csv()(t).encode("cp1252"), "y", "--encoding cp1252"),
    ),
    "comments between rows": (frame(), commented, "y", "--comment '#'"),
    "names of rows": (frame(), by_r, "y", "--separator tab --exclude 'Unnamed: 0'"),
    "all at once": (
        frame(c=["?" if i == 7 else f"{i}" for i in range(N)]),
        lambda t: ("A list, by hand\n\n" + csv(sep=";", decimal=",")(t)).encode("utf-16"),
        *("y", "--encoding utf-16 --separator ';' --skip-lines 2 --decimal , --na '?'"),
    ),
    "at once without a header": (
        *(frame(), lambda t: t.to_csv(sep="\t", decimal=",", index=False, header=False), "3"),
        "--separator tab --no-header --decimal ,",
    ),
    "texts of several lines": (
        frame(c=['a "long"\ntext, with; marks' * (i % 3) for i in range(N)]),
        *(csv(sep=";"), "y", "--separator ';'"),
    ),
}


@pytest.mark.few
@pytest.mark.parametrize("name", CASES)
def test_what_is_proposed_trains_and_can_be_pasted(name, tmp_path, capsys):
    table, write, target, options = CASES[name]
    path, out = tmp_path / "my rows.csv", tmp_path / "m.npz"
    written = write(table)
    path.write_bytes(written if isinstance(written, bytes) else written.encode())
    words = ["train", str(path), "--target", target, "--epochs", "1", "--hidden", "0"]
    words += ["--out", str(out)]
    assert main(words) == 1
    message, proposal = capsys.readouterr().err.splitlines()[-2:]
    assert message.startswith("minigd: ")
    program, *proposed = shlex.split(proposal)
    assert program == "minigd"
    assert shlex.split(options)[0] in proposed
    assert set(shlex.split(options)) <= set(proposed)
    assert not out.exists()
    assert main(proposed) == 0
    begins = (["a", "b"], ["1", "2"], ["b", "y"], ["year", "a"])
    assert load_table(out).schema.columns[:2] in begins
    out.unlink()
    capsys.readouterr()
    assert main([*words, "--guess"]) == 0
    assert proposal in capsys.readouterr().err.splitlines()
    assert out.exists()


def test_a_model_knows_the_units_of_its_table(tmp_path, capsys):
    path, out = tmp_path / "rows.csv", tmp_path / "m.npz"
    table = frame(c=[f"{i % 31 + 200} m2" for i in range(N)])
    path.write_text(csv()(table))
    words = ["train", str(path), "--target", "y", "--epochs", "1", "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert (
        "column 'c' holds numbers with a unit, such as '200 m2'; read them with --strip m2" in said
    )
    assert main([*words, "--strip", "m2"]) == 0
    plain = table.assign(c=[i % 31 + 200.0 for i in range(N)])
    model = load_table(out)
    np.testing.assert_array_equal(model.predict_proba(path), model.predict_proba(plain))


def test_classes_and_last_rows_that_look_odd_are_named(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    table = frame().assign(y=[("Yes", "No", "yes ", "YES")[i % 4] for i in range(N)])
    table = pd.DataFrame({"place": [f"p{i % 3}" for i in range(N)], **table})
    path.write_text(csv()(table) + "Total,1,2,No\n")
    words = ["train", str(path), "--target", "y", "--epochs", "1", "--hidden", "0"]
    words += ["--out", str(tmp_path / "m")]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "column 'y' holds 'YES' and 'Yes' and 'yes ', which differ in case or blanks" in said
    assert f"{path}, line {N + 2}: column 'place' ends in 'Total'; if the line sums up" in said
    assert main([*words, "--comment", "Total"]) == 0
    assert "'Total'" not in capsys.readouterr().err
    path.write_text(csv()(table.assign(y=table["y"].str.lower().str.strip())))
    assert main(words) == 0
    assert "differ" not in capsys.readouterr().err


def test_two_units_in_one_column_are_not_one_number(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    for texts in ([f"{i} kg" for i in range(N - 1)] + ["500 g"], [*range(N - 30), *["5%"] * 30]):
        path.write_text(csv()(frame(c=texts)))
        main(["train", str(path), "--target", "y", "--epochs", "1", "--out", str(tmp_path / "m")])
        assert "--strip" not in capsys.readouterr().err


# Separator, decimal mark, encoding, header, lines above, ends of lines, a mark, a comment between.
TOGETHER = [
    ("^", ".", "utf-8", True, "", "\n", "?", False),
    ("~", ",", "cp1252", True, "", "\r\n", "n/a", True),
    (":", ".", "utf-16", True, "Prices of 2024\n\n", "\n", "-", False),
    (":", ",", "utf-8", True, "by hand, of course\n", "\n", "", False),
    ("^", ".", "utf-16", False, "# by hand\n# twice\n", "\r\n", ".", False),
    ("\t", ",", "utf-8", False, "# by hand\n# twice\n", "\n", ".", False),
    ("\t", ",", "utf-8", False, "Prices of 2024\n\n", "\n", "?", True),
    ("|", ",", "utf-8-sig", False, "", "\n", "n/a", True),
    ("|", ".", "cp1252", False, "by hand, of course\n", "\n", "-", False),
    (";", ",", "utf-16", True, "", "\r\n", "?", True),
    (",", ".", "utf-16", False, "by hand, of course\n", "\n", "?", False),
    ("   ", ".", "utf-8", True, "", "\n", "?", True),
    ("   ", ",", "utf-8-sig", False, "", "\n", "n/a", True),
]


@pytest.mark.few
@pytest.mark.parametrize("how", TOGETHER, ids=repr)
def test_notations_that_come_together_are_found_together(how, tmp_path, capsys):
    separator, decimal, encoding, header, above, end, mark, comment = how
    levels = [int(i * 7.3) % 8 for i in range(N)]
    table = frame(levels=[mark if mark and i % 20 == 3 else n for i, n in enumerate(levels)])
    table["place"] = [("Köln", "Zürich", "Bonn")[i % 3] for i in range(N)]
    table = table[["a", "levels", "place", "y"]]
    cells = [[str(cell) for cell in row] for row in table.to_numpy(object).tolist()]
    lines = [separator.join([row[0].replace(".", decimal), *row[1:]]) for row in cells]
    lines = [separator.join(table.columns), *lines] if header else lines
    lines[30:30] = ["# battery changed now"] if comment else []
    path, out = tmp_path / "rows.csv", tmp_path / "m.npz"
    path.write_bytes((above + "\n".join(lines) + "\n").replace("\n", end).encode(encoding))
    words = ["train", str(path), "--target", "y" if header else "4", "--epochs", "1"]
    assert main([*words, "--hidden", "0", "--out", str(out), "--guess"]) == 0
    schema = load_table(out).schema
    assert schema.features == (["a", "levels", "place"] if header else ["1", "2", "3"])
    assert list(schema.levels.values()) == [["Bonn", "Köln", "Zürich"]]
    assert " left out:" not in capsys.readouterr().err


def test_a_text_far_below_the_first_rows_is_in_the_proposal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("minigd.cli.proposal._SAMPLE", 400)
    table = frame(c=["?" if i == N - 1 else f"{i}" for i in range(N)])
    path = tmp_path / "rows.csv"
    for encoding in ("utf-8", "utf-16"):
        path.write_bytes(csv()(table).encode(encoding))
        words = ["train", str(path), "--target", "y", "--epochs", "1", "--encoding", encoding]
        assert main([*words, "--out", str(tmp_path / "m.npz"), "--guess"]) == 0
        assert " --na '?'" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["--exclude", "--dates"])
def test_what_is_given_is_kept_beside_what_is_proposed(tmp_path, capsys, given):
    exchanged = [f"{i % 9 + 1}/2/2014" for i in range(N)]
    table = frame(c=exchanged, d=exchanged, e=[f"{i}" if i % 9 else f"A/{i}" for i in range(N)])
    path = tmp_path / "rows.csv"
    path.write_text(csv()(table))
    more = {"--exclude": ["e,d"], "--dates": ["c=%m/%d/%Y"]}[given]
    words = ["train", str(path), "--target", "y", "--epochs", "1", given, *more]
    assert main([*words, "--out", str(tmp_path / "m.npz")]) == 1
    proposed = shlex.split(capsys.readouterr().err.splitlines()[-1])
    assert proposed[:2] == ["minigd", "train"]
    [value] = [proposed[i + 1] for i, word in enumerate(proposed) if word == given]
    assert value.startswith(more[0])
    assert main(proposed[1:]) == 0


CODES = [f"{i % 20}" if i % 9 else f"A/{i}" for i in range(N)]
DAYS = [f"2014-{i % 12 + 1:02}-{i % 28 + 1:02}" for i in range(N)]
GAPS = [day if i % 7 else "" for i, day in enumerate(DAYS)]
EXCHANGED = [f"{i % 9 + 1}/2/2014" for i in range(N)]

HELD_OUT = {
    # What is typed after the table and the target, and what is proposed in addition.
    "by a group of codes": (frame(c=CODES), csv(sep=";"), "--group c", "--separator ';'"),
    "by another column of codes": (
        *(frame(c=CODES, d=CODES), csv(), "--group c"),
        "--exclude d",
    ),
    "by a time that is missing": (
        *(frame(c=GAPS), csv(), "--time c --missing mean"),
        "--missing c=drop",
    ),
    "by a time, in one word": (
        *(frame(c=GAPS), csv(sep=";"), "--time=c --missing=mean"),
        "--separator ';' --missing c=drop",
    ),
    "by a time in doubt": (
        *(frame(c=EXCHANGED, d=EXCHANGED), csv(), "--time c --dates d=%m/%d/%Y"),
        "--dates d=%m/%d/%Y,c=%d/%m/%Y",
    ),
    "by a time that is not a feature": (
        *(frame(c=EXCHANGED), csv(sep=";"), "--time c --exclude c"),
        "--separator ';' --dates c=%d/%m/%Y",
    ),
}


@pytest.mark.parametrize("name", HELD_OUT)
def test_rows_are_held_out_by_what_was_given(name, tmp_path, capsys):
    table, write, given, options = HELD_OUT[name]
    path, out = tmp_path / "rows.csv", tmp_path / "m.npz"
    path.write_text(write(table))
    words = ["train", str(path), "--target", "y", "--epochs", "1", "--hidden", "0"]
    assert main([*words, "--out", str(out), *shlex.split(given)]) == 1
    proposed = shlex.split(capsys.readouterr().err.splitlines()[-1])
    assert proposed[:2] == ["minigd", "train"]
    assert set(shlex.split(options)) <= set(proposed)
    # The given values stay, even if another one is added to them.
    assert set(shlex.split(given)) - set(proposed) <= {"d=%m/%d/%Y"}
    assert ("--exclude c" in given) == ("--exclude c" in " ".join(proposed))
    assert main(proposed[1:]) == 0
    schema = load_table(out).schema
    assert ("c" in schema.features) == ("--time" in given and "--exclude" not in given)
    if "mean" in given:
        assert schema.missing["*"] == "mean"


@pytest.mark.parametrize("how", ["--group", "--time"])
def test_a_column_that_rows_are_held_out_by_is_not_left_out(how, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text(csv()(frame(c=CODES)))
    words = ["train", str(path), "--target", "y", "--epochs", "1", "--hidden", "0", how, "c"]
    # Codes can't be put in order, so only another column helps.
    assert main([*words, "--guess"]) == (how == "--time")
    assert "minigd train" not in capsys.readouterr().err


def test_nothing_is_proposed_where_nothing_helps(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    for text, target in (("a,y\n1,2\n", "z"), ("", "y"), ("a,y\n1,2\n1,3\n", "a")):
        path.write_text(text)
        assert main(["train", str(path), "--target", target, "--out", str(tmp_path / "m")]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert not [line for line in lines if line.startswith("minigd train")]
    assert main(["train", str(tmp_path / "none.csv"), "--target", "y", "--guess"]) == 1


def test_a_command_that_can_be_run_is_not_changed_by_guess(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text(csv()(frame()))
    words = ["train", str(path), "--target", "y", "--epochs", "1", "--out", str(tmp_path / "m")]
    assert main([*words, "--guess"]) == 0
    assert "minigd train" not in capsys.readouterr().err
