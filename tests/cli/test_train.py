"""A table becomes a model file; Ctrl-C anywhere and --resume give bit-identical results."""

import os
import re
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest

import minigd as gd
from minigd.cli import train as module
from minigd.cli.main import main
from minigd.cli.messages import counted
from minigd.cli.train import train
from minigd.cli.trained import load_table
from minigd.storage import npz

QUICK = ("--hidden", "8", "--learning-rate", "0.01")


def run(folder, *arguments):
    """Train on the houses, into a folder."""
    data = str(folder / "houses.csv")
    return main(["train", data, "--target", "price", "--exclude", "id,date", *QUICK, *arguments])


def bits(path):
    """Return the parameters and the history without its seconds."""
    description, arrays = npz.read(path)
    history = {k: v for k, v in description["history"].items() if k != "seconds"}
    return {name: array.tobytes() for name, array in arrays.items()}, history


# Results -----------------------------------------------------------------------------------------


def test_figures_are_those_of_the_part_held_out(folder):
    trained = load_table(folder / "houses.npz")
    rows = gd.CsvSource(folder / "houses.csv", schema=trained.schema)
    part, held_out = rows.split(0.2, seed=0)
    assert 50 < held_out.rows < 110
    figures = trained.model.evaluate(held_out)
    for name, value in figures.items():
        assert trained.history[f"val_{name}"][trained.best] == pytest.approx(value, rel=1e-6)
    x, y = held_out.take(slice(0, held_out.rows))
    error = y - trained.model.predict(x)[:, 0].astype(float)
    r2 = 1 - (error**2).sum() / ((y - y.mean()) ** 2).sum()
    assert figures["r2"] == pytest.approx(r2, abs=1e-6)
    assert r2 > 0.9
    mean = part.take(slice(0, part.rows))[0].mean(axis=0, dtype=float)
    buffers = trained.model.layers[0].buffers["mean"]
    np.testing.assert_allclose(buffers, [*mean[:2], 0, 0, 0], rtol=1e-6)


def test_what_is_said_and_what_is_printed(folder, tmp_path, capsys):
    assert run(folder, "--epochs", "12", "--out", str(tmp_path / "m.npz")) == 0
    out, err = capsys.readouterr()
    history = load_table(tmp_path / "m.npz").history
    best = int(np.argmin(history["val_loss"]))
    held_out, linear, constant, *rest, _, epochs, saved, _, _ = out.splitlines()
    columns = rest[-1]
    figure = re.search(r"held out: loss (\S+)  r2 (\S+)  mae \S+  rmse \S+", held_out)
    assert float(figure[1]) == pytest.approx(history["val_loss"][best], rel=1e-3)
    assert float(figure[2]) == pytest.approx(history["val_r2"][best], rel=1e-3)
    assert re.fullmatch(rf"best of 12 epochs: {best + 1}  \(48 updates, \S+ seconds\)", epochs)
    assert saved == f"saved: {tmp_path / 'm.npz'}"
    assert linear.startswith("a linear model: loss ")
    assert constant.startswith("always ")
    assert columns.startswith("columns that matter most")
    assert "regression of 'price', which holds more than 20 different whole numbers\n" in err
    assert re.search(r"\n3\d\d rows to train on, \d\d held out, 5 columns\n", err)
    assert "epoch 12/12  loss" in err
    assert "\r" not in err
    assert sorted(os.listdir(tmp_path)) == ["m.npz"]


def test_a_run_stops_early_with_the_best_parameters(folder, tmp_path):
    trained = train(
        folder / "houses.csv", "price", tmp_path / "m.npz", exclude=["id", "date", "area"],
        hidden=[64], learning_rate=0.05, epochs=80, progress=False,
    )  # fmt: skip
    history = trained.history
    assert history.epochs < 80
    assert history.epochs == trained.best + 1 + 20
    rows = gd.CsvSource(folder / "houses.csv", schema=trained.schema)
    loss = load_table(tmp_path / "m.npz").model.evaluate(rows.split(0.2)[1])["loss"]
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-6)
    assert loss < history["val_loss"][-1]


@pytest.mark.parametrize("batch_size", [100, 10, 1])
def test_short_epochs_are_more(folder, tmp_path, monkeypatch, batch_size):
    asked = []

    def fit(self, batches, *, until_epoch, **options):
        asked.extend([until_epoch, len(batches)])
        raise ValueError("enough")

    monkeypatch.setattr(gd.Trainer, "fit", fit)
    with pytest.raises(ValueError, match="enough"):
        train(
            folder / "houses.csv", "price", tmp_path / "m.npz", exclude=["id", "date"],
            batch_size=batch_size,
        )  # fmt: skip
    epochs, updates = asked
    assert 60 <= epochs <= 1000
    assert epochs == 1000 or epochs * updates >= 6000
    assert epochs == 60 or (epochs - 1) * updates < 6000


def test_missing_values_are_said_aloud(tmp_path, capsys):
    lines = [f"{i},{'red' if i % 3 else ''},{i % 2}\n" for i in range(60)]
    (tmp_path / "rows.csv").write_text("a,color,y\n" + "".join(lines) + ",red,1\n?,red,0\n")
    arguments = ["train", str(tmp_path / "rows.csv"), "--target", "y", "--na", "?", "--epochs", "1"]
    assert main([*arguments, "--out", str(tmp_path / "m.npz")]) == 0
    err = capsys.readouterr().err
    assert "missing values: a 2, color 20; a missing number is the mean, and a column that" in err
    names = ["a", "a=missing", "color=missing", "color=red"]
    assert load_table(tmp_path / "m.npz").schema.names == names
    assert main([*arguments, "--missing", "drop", "--out", str(tmp_path / "m.npz")]) == 0
    where = f"{tmp_path / 'rows.csv'}, line 2, column 'color': the value is missing"
    assert f"22 of 62 rows are left out; the first is {where}\n" in capsys.readouterr().err
    one = ["--missing", "a=-1,color=category"]
    assert main([*arguments, *one, "--out", str(tmp_path / "m.npz")]) == 0
    assert load_table(tmp_path / "m.npz").schema.names == ["a", "color=missing", "color=red"]


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", ["csv.gz", "csv.xz", "npy"])
def test_rows_that_cannot_be_shuffled_in_place_lie_beside_the_model_for_a_while(
    tmp_path, capsys, kind
):
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)).astype("float32"), columns=["0", "1", "2"])
    path = tmp_path / f"rows.{kind}"
    {
        "csv.gz": lambda: frame.to_csv(path, index=False),
        "csv.xz": lambda: frame.to_csv(path, index=False),
        "npy": lambda: np.save(path, frame.to_numpy()),
    }[kind]()
    frame.to_csv(tmp_path / "plain.csv", index=False)
    for name in (path, tmp_path / "plain.csv"):
        out = f"{name}.npz"
        assert main(["train", str(name), "--target", "2", "--epochs", "2", "--out", out]) == 0
    assert f"the rows are kept in {path}.npz.rows while" in capsys.readouterr().err
    assert bits(f"{path}.npz") == bits(tmp_path / "plain.csv.npz")
    names = {path.name, f"{path.name}.npz", "plain.csv", "plain.csv.npz"}
    assert set(os.listdir(tmp_path)) == names


@pytest.fixture
def gaps(tmp_path):
    """Return a table of numbers and texts, with gaps."""
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)).astype("float32"), columns=["a", "b", "y"])
    frame["city"] = rng.choice(["Rome", "Oslo"], 300)
    frame.loc[rng.random(300) < 0.2, "a"] = None
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def test_rows_of_a_csv_kept_as_numbers_for_a_while_give_the_same_bits(
    gaps, tmp_path, monkeypatch, capsys
):
    out = [str(tmp_path / f"{name}.npz") for name in ("plain", "kept", "full", "narrow", "folder")]
    command = ["train", str(gaps), "--target", "y", "--epochs", "2", "--hidden", "0", "--out"]
    assert main([*command, out[0]]) == 0
    assert "the rows are kept" not in capsys.readouterr().err
    monkeypatch.setattr(module, "KEPT_FROM", 0)
    assert main([*command, out[1]]) == 0
    assert f"the rows are kept in {out[1]}.rows (0 MB) while" in capsys.readouterr().err

    def fill(*_):
        raise OSError(28, "No space left on device", "x.npy")

    with monkeypatch.context() as full:
        full.setattr("minigd.data.sources.cache._write", fill)
        assert main([*command, out[2]]) == 0
    text = "No space left on device: the rows are read from the text instead"
    assert text in capsys.readouterr().err
    with monkeypatch.context() as narrow:
        usage = type("Usage", (), {"free": 300 * 5 * 4})
        narrow.setattr("shutil.disk_usage", lambda _: usage)
        assert main([*command, out[3]]) == 0
    os.mkdir(f"{out[4]}.rows")
    assert main([*command, out[4]]) == 0
    assert "the rows are kept" not in capsys.readouterr().err
    assert all(bits(path) == bits(out[0]) for path in out[1:])
    left = {os.path.basename(path) for path in [*out, gaps, f"{out[4]}.rows"]}
    assert set(os.listdir(tmp_path)) == left


def test_a_run_that_is_resumed_reads_rows_where_it_read_them_before(gaps, tmp_path, monkeypatch):
    table, folder = gd.CsvSource(gaps, target="y", missing="flag"), str(tmp_path / "m.npz.rows")
    monkeypatch.setattr(module, "KEPT_FROM", 0)
    assert module._kept(table, folder, resume=True) is table
    kept = module._kept(table, folder, resume=False)
    assert kept is not table
    # One copy on the disk is enough.
    assert table._kept.rows is None
    assert not table._kept.wanted()
    assert module._kept(table, folder, resume=True).fingerprint() == kept.fingerprint()
    monkeypatch.setattr(module, "KEPT_FROM", 1 << 40)
    with module._at_random(table, folder, "", resume=False, first=True) as source:
        assert source.unfilled().fingerprint() == table.unfilled().fingerprint()
    assert not os.path.exists(folder)  # the leftovers of a killed run


def test_a_folder_of_the_users_is_never_removed(folder, tmp_path, capsys):
    import pandas as pd

    pd.read_csv(folder / "houses.csv")[["area", "price"]].to_csv(tmp_path / "h.csv.gz", index=False)
    (tmp_path / "m.npz.rows").mkdir()
    (tmp_path / "m.npz.rows" / "mine.txt").write_text("mine")
    out = str(tmp_path / "m.npz")
    assert main(["train", str(tmp_path / "h.csv.gz"), "--target", "price", "--out", out]) == 1
    assert "exists and is not a minigd cache" in capsys.readouterr().err
    assert (tmp_path / "m.npz.rows" / "mine.txt").read_text() == "mine"


@pytest.mark.usefixtures("stand_in")
def test_on_a_gpu_it_is_the_same_training(folder, tmp_path):
    figures = []
    for backend in ("numpy", "cupy"):
        trained = train(
            folder / "houses.csv", "price", tmp_path / "m.npz", exclude=["id", "date"],
            hidden=[8], epochs=5, backend=backend, progress=False,
        )  # fmt: skip
        assert trained.model.backend.name == backend
        figures.append(trained.history["val_loss"])
        assert load_table(tmp_path / "m.npz").model.backend.name == "numpy"
    np.testing.assert_allclose(*figures, rtol=1e-4)


# What is refused ---------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(folder, tmp_path, capsys):
    none = tmp_path / "none"
    for out, problem in (
        (tmp_path, "it is a folder; name a file in it"),
        (none / "m.npz", f"there is no folder '{none}'; make it, or name a file elsewhere"),
    ):
        assert run(folder, "--out", str(out)) == 1
        assert capsys.readouterr().err == f"minigd: '{out}' can't be written: {problem}\n"
    assert run(folder, "--out", "") == 1
    assert capsys.readouterr().err == ("minigd: '' is not a file name: name the file to write to\n")


def test_a_gpu_that_is_not_there_is_missed_before_the_work(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    out = str(tmp_path / "m.npz")
    assert main(["train", "none.csv", "--target", "y", "--backend", "cupy", "--out", out]) == 1
    err = capsys.readouterr().err
    assert "CuPy is not installed" in err
    assert "or use --backend numpy" in err


def test_too_few_rows_say_so(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n1,2.5\n2,3.5\n")
    assert main(["train", str(path), "--target", "y", "--out", str(tmp_path / "m.npz")]) == 1
    assert "of 2 rows leaves one part without rows: give more rows" in capsys.readouterr().err


def test_a_wrong_name_is_answered_with_the_columns(folder, tmp_path, capsys):
    data = str(folder / "houses.csv")
    assert main(["train", data, "--target", "prize"]) == 1
    assert "there is no column 'prize'; the columns are id, date, price" in capsys.readouterr().err


def test_a_run_that_fails_leaves_the_old_model_as_it_was(folder, tmp_path, capsys):
    out = tmp_path / "m.npz"
    old = (folder / "people.npz").read_bytes()
    out.write_bytes(old)
    assert run(folder, "--learning-rate", "1e30", "--out", str(out)) == 1
    assert "minigd: the loss is" in capsys.readouterr().err
    assert out.read_bytes() == old


# Ctrl-C ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def straight(folder, tmp_path_factory):
    """Return the bits of a run that was not interrupted: 20 epochs of 4 updates."""
    out = tmp_path_factory.mktemp("straight") / "m.npz"
    assert run(folder, "--epochs", "20", "--out", str(out)) == 0
    return bits(out)


def press_at(monkeypatch, event_name, number):
    """Let Ctrl-C be pressed at the event with this name and number."""

    class Pressing(gd.Checkpoint):
        seen = 0

        def __call__(self, event):
            super().__call__(event)
            Pressing.seen += event.name == event_name
            if event.name == event_name and Pressing.seen == number:
                signal.raise_signal(signal.SIGINT)

    Pressing.__name__ = "Checkpoint"
    monkeypatch.setattr(module, "Checkpoint", Pressing)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("event", "number", "updates"),
    [("start", 1, 1), ("update", 1, 2), ("update", 42, 43), ("epoch", 5, 21), ("epoch", 19, 77)],
)
def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(
    folder, tmp_path, capsys, monkeypatch, straight, event, number, updates
):
    out = str(tmp_path / "my model.npz")
    with monkeypatch.context() as patch:
        press_at(patch, event, number)
        assert run(folder, "--epochs", "20", "--out", out) == 130
    err = capsys.readouterr().err.splitlines()
    assert err[-2] == (
        f"minigd: interrupted after {counted(updates, 'update')}, all saved in {out}.checkpoint"
    )
    program, *again = shlex.split(err[-1].removeprefix("resume with: "))
    assert (program, again[0], again[-1]) == ("minigd", "train", "--resume")
    assert os.listdir(tmp_path) == ["my model.npz.checkpoint"]
    assert main(again) == 0
    assert bits(out) == straight
    assert os.listdir(tmp_path) == ["my model.npz"]


def test_interrupted_twice(folder, tmp_path, capsys, monkeypatch, straight):
    out = str(tmp_path / "m.npz")
    for arguments in ([], ["--resume"]):
        with monkeypatch.context() as patch:
            press_at(patch, "update", 10)
            assert run(folder, "--epochs", "20", "--out", out, *arguments) == 130
        assert capsys.readouterr().err.splitlines()[-1].count("--resume") == 1
    assert run(folder, "--epochs", "20", "--out", out, "--resume") == 0
    assert bits(out) == straight


def test_ctrl_c_behind_the_last_update_is_no_interrupt(folder, tmp_path, monkeypatch, straight):
    press_at(monkeypatch, "epoch", 20)
    assert run(folder, "--epochs", "20", "--out", str(tmp_path / "m.npz")) == 0
    assert bits(tmp_path / "m.npz") == straight


def test_a_second_ctrl_c_does_not_wait(folder, tmp_path, capsys, monkeypatch):
    class Pressing(gd.Checkpoint):
        def __call__(self, event):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(module, "Checkpoint", Pressing)
    assert run(folder, "--out", str(tmp_path / "m.npz")) == 130
    assert capsys.readouterr().err.endswith("minigd: interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_rows_beside_the_model_are_found_again(folder, tmp_path, monkeypatch):
    import pandas as pd

    data = tmp_path / "houses.parquet"
    pd.read_csv(folder / "houses.csv").to_parquet(data)
    command = ["train", str(data), "--target", "price", "--exclude", "id,date", *QUICK]
    out = tmp_path / "m.npz"
    command += ["--epochs", "5", "--out", str(out)]
    assert main(command) == 0
    expected = bits(out)
    with monkeypatch.context() as patch:
        press_at(patch, "update", 7)
        assert main(command) == 130
    monkeypatch.setattr("minigd.data.sources.cache._write", None)  # they are not written again
    assert main([*command, "--resume"]) == 0
    assert bits(out) == expected
    assert sorted(os.listdir(tmp_path)) == ["houses.parquet", "m.npz"]


def test_another_command_does_not_go_on(folder, tmp_path, capsys, monkeypatch):
    out = str(tmp_path / "m.npz")
    assert run(folder, "--out", out, "--resume") == 1
    assert "there is no" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        press_at(patch, "update", 3)
        assert run(folder, "--epochs", "20", "--out", out) == 130
    for other in (["--epochs", "30"], ["--epochs", "20", "--hidden", "9"]):
        assert run(folder, "--out", out, *other, "--resume") == 1
        assert f"{other[-2]} {other[-1]}, but the run was trained with" in capsys.readouterr().err
    assert run(folder, "--out", out, "--epochs", "2") == 0
    assert "--resume continues it" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a signal to a process is sent otherwise there")
def test_ctrl_c_in_a_process_of_its_own(folder, tmp_path):
    options = ["--batch-size", "1", "--epochs", "12", "--out"]  # 4,000 updates: a second or so
    assert run(folder, *options, str(tmp_path / "straight.npz")) == 0
    command = [
        sys.executable, "-m", "minigd", "train", str(folder / "houses.csv"), "--target", "price",
        "--exclude", "id,date", *QUICK, *options, str(tmp_path / "m.npz"),
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("epoch 1/12"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert "Traceback" not in "".join(lines)
    go_on = shlex.split(lines[-1].removeprefix("resume with: "))
    assert go_on[:3] == ["python", "-m", "minigd"]
    assert main(go_on[3:]) == 0
    assert bits(tmp_path / "m.npz") == bits(tmp_path / "straight.npz")
