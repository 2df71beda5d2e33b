"""Progress: a moving bar in a terminal, a few plain lines elsewhere, and nothing by default.

All of it goes to stderr, and none of it changes the training or ends it.
"""

import contextlib
import errno
import gzip
import io
import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

import minigd as gd
from minigd import progress


class Terminal(io.StringIO):
    """A stderr that says that it is a terminal."""

    def isatty(self):
        return True


def trainer():
    return gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=2), "mse", "adam", metrics=["mae"])


def batches():
    x = np.random.default_rng(0).normal(size=(23, 2))
    return gd.Batches(x, x[:, 0], batch_size=5, shuffle=True)


def test_silent_by_default(capsys):
    trainer().fit(batches(), epochs=3)
    assert capsys.readouterr() == ("", "")


def test_a_bar_moves_in_a_terminal(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("sys.stderr", terminal)
    history = trainer().fit(batches(), epochs=3, validation_data=batches(), progress=True)
    shown = terminal.getvalue()
    # Three epochs of five updates, each drawing over the one before.
    assert shown.count("\r") >= 3
    done = [int(number) for number in re.findall(r"(\d+)/15", shown)]
    assert done == sorted(done)
    assert {0, 5, 10, 15} <= set(done)
    for epoch in (1, 2, 3):
        assert f"epoch {epoch}/3" in shown
    assert f"loss {history['loss'][-1]:.4g}" in shown
    assert f"val_mae {history['val_mae'][-1]:.4g}" in shown
    assert shown.endswith("\n")
    assert capsys.readouterr().out == ""


def test_a_bar_that_goes_on_counts_what_is_left(monkeypatch):
    terminal = Terminal()
    run = trainer()
    run.fit(batches(), callbacks=[lambda event: event.trainer.updates == 2 and run.stop()])
    monkeypatch.setattr("sys.stderr", terminal)
    run.fit(until_epoch=2, progress=True)
    assert "8/8" in terminal.getvalue()


def test_the_bar_is_closed_when_a_run_is_interrupted(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)

    def interrupt(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer().fit(batches(), progress=True, callbacks=[interrupt])
    assert terminal.getvalue().endswith("\n")


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 11, 19, 25, 101, 1000])
def test_a_few_plain_lines_elsewhere(capsys, epochs):
    history = trainer().fit(batches(), epochs=epochs, progress=True)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert min(epochs, 5) <= len(lines) <= 12
    assert lines[0].startswith(f"epoch 1/{epochs}  loss {history['loss'][0]:.4g}  mae ")
    assert lines[-1].startswith(f"epoch {epochs}/{epochs}  loss {history['loss'][-1]:.4g}  mae ")
    assert "\r" not in err


@pytest.mark.parametrize("terminal", [False, True])
def test_showing_progress_changes_no_bit(monkeypatch, terminal):
    shown, silent = trainer(), trainer()
    monkeypatch.setattr("sys.stderr", Terminal() if terminal else io.StringIO())
    shown.fit(batches(), epochs=3, progress=True)
    silent.fit(batches(), epochs=3)
    np.testing.assert_array_equal(shown.model.flat_params, silent.model.flat_params)


def test_nothing_to_do_shows_nothing(monkeypatch, capsys):
    run = trainer()
    run.fit(batches(), epochs=2)
    run.fit(until_epoch=2, progress=True)
    assert capsys.readouterr().err == ""


def test_a_program_without_stderr_trains(monkeypatch):
    # A windowed program on Windows has none.
    monkeypatch.setattr("sys.stderr", None)
    assert trainer().fit(batches(), epochs=2, progress=True).epochs == 2


def test_a_run_that_goes_on_counts_from_where_it_was(capsys):
    x = np.arange(20.0).reshape(-1, 1) / 20
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=1), "mse", "sgd")
    trainer.fit(x, x, until_epoch=3)
    trainer.fit(x, x, until_epoch=5, progress=True)
    trainer.fit(x, x, epochs=1, progress=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["4/5", "5/5", "1/1"]


# Nothing about showing it can end a training --------------------------------------------------


class Faulty:
    """A stderr whose methods fail in one way, or are not there."""

    def __init__(self, error=None, terminal=False, only=("write", "flush")):
        self.error, self.terminal, self.only = error, terminal, only

    def _do(self, name):
        if name in self.only and self.error is not None:
            raise self.error

    def write(self, text):
        self._do("write")

    def flush(self):
        self._do("flush")

    def isatty(self):
        self._do("isatty")
        return self.terminal

    @property
    def encoding(self):
        self._do("encoding")
        return "utf-8"


class WriteOnly:
    """A stream with nothing else."""

    def write(self, text):
        pass


def closed(terminal):
    stream = Terminal() if terminal else io.StringIO()
    stream.close()
    return stream


def of_encoding(encoding, terminal=False):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    stream.isatty = lambda: terminal
    return stream


ERRORS = [
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ENOSPC, "No space left on device"),
    BlockingIOError(errno.EAGAIN, "would block"),
    ValueError("I/O operation on closed file"),
    UnicodeEncodeError("charmap", "x", 0, 1, "maps to <undefined>"),
    RuntimeError("anything"),
    AttributeError("anything"),
]
STREAMS = {
    "none": lambda: None,
    "an object": object,
    "write only": WriteOnly,
    "closed": lambda: closed(False),
    "closed terminal": lambda: closed(True),
    **{
        f"{error!r} in {only}, terminal {terminal}": lambda e=error, o=only, t=terminal: Faulty(
            e, t, o
        )
        for error in ERRORS
        for only in [("write",), ("flush",), ("isatty",), ("encoding",)]
        for terminal in (False, True)
    },
    **{
        f"{encoding}, terminal {terminal}": lambda e=encoding, t=terminal: of_encoding(e, t)
        for encoding in ("ascii", "cp1252", "cp437", "latin-1", "utf-16", "shift-jis")
        for terminal in (False, True)
    },
}
each_stream = pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)


class Größe(gd.metrics.Metric):
    """A metric whose name few encodings have."""

    def total(self, prediction, y, weight=None):
        return 1.0 * len(prediction)


class Ticking:
    """A clock by which each look takes some seconds."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.mark.few
@each_stream
def test_no_stderr_ends_a_training(monkeypatch, make):
    straight, shown = trainer(), trainer()
    shown.metrics = straight.metrics = {"größe Ł": Größe()}
    straight.fit(batches(), epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr("minigd.progress.clock", Ticking(7.0))
        patch.setattr("sys.stderr", make())
        shown.fit(
            batches(),
            epochs=3,
            progress=True,
            profile=True,
            callbacks=[gd.PrintEvery(2)],
            validation_data=batches(),
        )
    assert shown.epoch == 3
    np.testing.assert_array_equal(straight.model.flat_params, shown.model.flat_params)


@pytest.mark.few(27)
@each_stream
def test_no_stderr_ends_a_pass_a_race_or_a_line(monkeypatch, make):
    x = np.random.default_rng(0).normal(size=(40, 2))

    def build(seed):
        return gd.Sequential([gd.Dense(1)], inputs=2, seed=seed)

    with monkeypatch.context() as patch:
        patch.setattr("minigd.progress.clock", Ticking(7.0))
        patch.setattr("sys.stderr", make())
        progress.log("η ← 0.1 · Łódź \udc80")
        assert list(progress.with_progress([(x,), (x,)], "Łódź", 80)) == [(x,), (x,)]
        options = {"seconds": 0.01, "rates": [0.01], "seeds": 1, "progress": True}
        assert gd.race(build, (x, x[:, 0]), [None], **options).curves


def shown_on_stderr(message, category, filename, lineno, file=None, line=None):
    """Show a warning as Python does where no test catches it."""
    with contextlib.suppress(OSError):
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


@pytest.mark.few(27)
@each_stream
def test_a_warning_that_cannot_be_shown_ends_no_training(monkeypatch, tmp_path, make):
    table = tmp_path / "λ.csv"
    table.write_text("η,λ\n" + "".join(f"{1e9 + i / 100},{i}\n" for i in range(40)), "utf-8")
    with warnings.catch_warnings(), monkeypatch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr(warnings, "showwarning", shown_on_stderr)
        patch.setattr("sys.stderr", make())
        source = gd.CsvSource(table, target="λ")  # float32 can't tell its numbers apart
        model = gd.Sequential([gd.Standardize(), gd.Dense(1), gd.Rescale()], inputs=1)
        model.adapt(gd.Batches(source))
        saving = gd.Checkpoint(tmp_path / "no such folder" / "λ.npz")
        assert model.fit(source, loss="mse", epochs=2, callbacks=[saving]).epochs == 2


def test_a_warning_that_is_made_an_error_is_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="anything"):
            progress.warn("anything")
    with pytest.warns(RuntimeWarning, match="anything") as caught:
        progress.warn("anything", RuntimeWarning)
    assert caught[0].filename == __file__


def test_a_ctrl_c_while_a_line_is_written_is_still_one(monkeypatch):
    monkeypatch.setattr("sys.stderr", Faulty(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        progress.log("line")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "koi8-r", "shift-jis", "utf-8"])
def test_a_line_is_shown_in_any_encoding(monkeypatch, encoding):
    stream = of_encoding(encoding)
    monkeypatch.setattr("sys.stderr", stream)
    progress.log("loss Ł x̂ ⊙ Σᵢ 0.5")
    shown = stream.buffer.getvalue().decode(encoding)
    assert shown.startswith("loss ")
    assert shown.endswith(" 0.5\n")
    assert "?" not in shown


def everything_printed():
    x = np.random.default_rng(0).normal(size=(20, 2))
    y = (x[:, 0] > 0) * 1.0
    layers = [gd.Standardize(), gd.Dense(3), gd.BatchNorm(), gd.Tanh(), gd.Dense(1), gd.Sigmoid()]
    model = gd.Sequential(layers, inputs=2, seed=0)
    model.adapt(gd.Batches(x, y))
    trace = gd.explain(model, x, y, "binary_crossentropy", "adam", example=3)
    history = model.fit(x, y, loss="binary_crossentropy", metrics={"größe Ł": Größe()})
    yield from (trace, repr(trace), trace.text(digits=8), *trace.lines, repr(trace.lines[0]))
    yield from (history, model.summary(), model)
    from minigd.checks.user_file import Verdict

    yield Verdict("MyLayer", gd.GradientError("dx", "dx is dy·Wᵀ and no more, 1 − y² … √n"))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "koi8-r", "utf-8"])
def test_what_is_printed_can_be_in_any_encoding(monkeypatch, encoding):
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", of_encoding(encoding))
        for thing in everything_printed():
            print(thing)


def test_where_the_encoding_has_all_signs_nothing_is_spelled_out(monkeypatch):
    monkeypatch.setattr("sys.stdout", of_encoding("utf-8"))
    assert "Σᵢ ℓᵢ / n" in next(everything_printed()).text()
    monkeypatch.setattr("sys.stdout", of_encoding("ascii"))
    text = next(everything_printed()).text()
    assert "L = Sum_i l_i / n" in text
    assert "dW2 = a1^T*dz2 / n" in text
    assert "\\" not in text


# A sign of life -------------------------------------------------------------------------------


def test_lines_come_after_ten_seconds_and_at_growing_intervals(monkeypatch, capsys):
    clock = Ticking(0.0)
    monkeypatch.setattr("minigd.progress.clock", clock)
    watch = progress.RowProgress("reading", 1000)
    seen = []
    for second in range(1, 1001):
        clock.now = float(second)
        watch.advance(1)
        if capsys.readouterr().err:
            seen.append(second)
    assert seen == [10, 30, 70, 150, 310, 630]


def test_a_line_says_how_fast_it_goes_and_how_long_it_will_take(monkeypatch, capsys):
    clock = Ticking(0.0)
    monkeypatch.setattr("minigd.progress.clock", clock)
    known = progress.RowProgress("known", 4000)
    estimated, unknown = progress.RowProgress("by share"), progress.RowProgress("unknown")
    clock.now = 10.0
    known.advance(1000)
    estimated.advance(1000, 0.25)
    unknown.advance(1000)
    assert capsys.readouterr().err.splitlines() == [
        "known: 1,000 rows  25%  100 rows/s  about 30 s left",
        "by share: 1,000 rows  25%  100 rows/s  about 30 s left",
        "unknown: 1,000 rows  100 rows/s",
    ]


@pytest.mark.parametrize("counted", [True, False])
def test_a_long_epoch_says_how_far_it_is(monkeypatch, capsys, counted):
    clock = Ticking(0.0)
    monkeypatch.setattr("minigd.progress.clock", clock)
    x = np.random.default_rng(0).normal(size=(100, 2))
    pieces = [(x[i : i + 5], x[i : i + 5, 0]) for i in range(0, 100, 5)]
    data = gd.Batches(x, x[:, 0], batch_size=5) if counted else gd.IterableSource(pieces)

    def tick(event):
        clock.now += event.name == "update"

    rows = data if counted else gd.Batches(data, batch_size=5)
    trainer().fit(rows, epochs=2, callbacks=[tick], progress=True)
    lines = capsys.readouterr().err.splitlines()
    first, later = (line for line in lines if "batch loss" in line)
    assert re.fullmatch(
        r"epoch 1/2  update 10(/40)?  batch loss \S+  5 rows/s(  about 30 s left)?", first
    )
    assert ("left" in first) == counted
    assert re.fullmatch(
        r"epoch 2/2  update 30/40  batch loss \S+  5 rows/s  about 10 s left", later
    )
    assert [line.split()[1] for line in lines if "mae" in line] == ["1/2", "2/2"]


def csv_file(folder):
    path = folder / "rows.csv"
    rows = np.random.default_rng(0).normal(size=(400, 3)).round(3)
    path.write_text("a,b,y\n" + "".join(f"{a},{b},{y}\n" for a, b, y in rows), encoding="utf-8")
    return path


def packed_file(folder):
    path = folder / "rows.csv.gz"
    path.write_bytes(gzip.compress(csv_file(folder).read_bytes()))
    return path


def csv_source(folder):
    # With an index_path the rows are read from the text each time.
    path, index = csv_file(folder), folder / "rows.index.npz"
    return gd.CsvSource(path, target="y", block_size=1000, index_path=index)


def stream_of(folder):
    x = np.random.default_rng(0).normal(size=(400, 2))
    return [(x[i : i + 9], x[i : i + 9, 0]) for i in range(0, 400, 9)]


def tables_of(folder):
    return [{"a": x[:, 0], "y": y} for x, y in stream_of(folder)]


def parquet_file(folder):
    path = folder / "rows.parquet"
    columns = {"a": np.arange(400.0), "y": np.arange(400.0)}
    pd.DataFrame(columns).to_parquet(path)
    return path


def network():
    return gd.Sequential([gd.Standardize(), gd.Dense(1)], inputs=2)


def labels_of(folder):
    return gd.IterableSource([(x, (x[:, 0] > 0) * 1) for x, _ in stream_of(folder)])


def find_rate(x, folder):
    model = gd.Sequential([gd.Dense(1)], inputs=2)
    return gd.find_learning_rate(model, x, x[:, 0], loss="mse")


# What is made beforehand, the pass over it, what its lines begin with, and whether they can say how
# long it will take.
PASSES = {
    "a CSV": (
        csv_file,
        lambda path, f: gd.CsvSource(path, target="y", block_size=1000),
        "the first pass over .*rows.csv",
        True,
    ),
    "a gzipped CSV": (
        packed_file,
        lambda path, f: gd.CsvSource(path, target="y", block_size=1000),
        "the first pass over .*rows.csv.gz",
        False,
    ),
    "a CSV with a schema": (
        csv_source,
        lambda s, f: gd.CsvSource(f / "rows.csv", schema=s.schema, block_size=1000),
        "the first pass over .*rows.csv",
        True,
    ),
    "Parquet": (
        parquet_file,
        lambda path, f: gd.ParquetSource(path, target="y", block_rows=9),
        "the first pass over .*rows.parquet",
        True,
    ),
    "an iterable of tables": (
        tables_of,
        lambda tables, f: gd.IterableSource(tables, target="y"),
        "the first pass over the iterable",
        False,
    ),
    "an index": (csv_source, lambda s, f: s.take(np.array([5, 3])), "an index of .*csv", True),
    "counting": (stream_of, lambda s, f: gd.IterableSource(s).count(), "counting", False),
    "adapt": (csv_source, lambda s, f: network().adapt(gd.Batches(s, batch_size=9)), "adapt", True),
    "adapt of a layer": (
        csv_source,
        lambda s, f: gd.Standardize().adapt(gd.Batches(s, batch_size=9)),
        "adapting",
        True,
    ),
    "cache": (csv_source, lambda s, f: s.cache(f / "rows"), "caching CsvSource", True),
    "split": (csv_source, lambda s, f: s.split(0.3), "splitting CsvSource", True),
    "split of a stream": (
        stream_of,
        lambda s, f: gd.IterableSource(s).split(0.3),
        "splitting IterableSource",
        False,
    ),
    "weights of classes": (
        labels_of,
        lambda s, f: gd.Batches(s, class_weight="balanced"),
        "weighing classes",
        False,
    ),
    "find_learning_rate": (lambda f: np.ones((50, 2)), find_rate, "find_learning_rate", True),
}
each_pass = pytest.mark.parametrize(
    ("prepare", "work", "what", "known"), PASSES.values(), ids=PASSES
)


@pytest.mark.few
@each_pass
def test_a_long_pass_shows_a_sign_of_life(
    monkeypatch, capsys, tmp_path, prepare, work, what, known
):
    prepared = prepare(tmp_path)
    capsys.readouterr()
    monkeypatch.setattr("minigd.progress.clock", Ticking(2.0))
    work(prepared, tmp_path)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if re.match(what, line)]
    assert out == ""
    assert lines
    for line in lines:
        assert re.search(r": [\d,]+ rows(  \d+%)?  [\d.]+ rows/s", line)
        assert bool(re.search(r"  about \S+ (s|min|h) left$", line)) == known


@pytest.mark.few
@each_pass
def test_a_short_pass_is_silent(capsys, tmp_path, prepare, work, what, known):
    work(prepare(tmp_path), tmp_path)
    assert capsys.readouterr() == ("", "")


@pytest.mark.few
@each_pass
def test_a_pass_in_a_terminal_has_a_bar_that_goes(
    monkeypatch, tmp_path, prepare, work, what, known
):
    prepared, terminal = prepare(tmp_path), Terminal()
    monkeypatch.setattr("minigd.progress.clock", Ticking(2.0))
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    work(prepared, tmp_path)
    assert re.search(f"\r{what}", terminal.getvalue())
    assert "\n" not in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")


def test_a_pass_gives_what_it_was_given_and_ends_it_when_it_is_left(monkeypatch):
    ended = []

    def numbers():
        try:
            yield from range(5)
        finally:
            ended.append(True)

    assert list(progress.with_progress(numbers(), "numbers", 5, rows=lambda item: 1)) == [
        0,
        1,
        2,
        3,
        4,
    ]
    some = progress.with_progress(numbers(), "numbers", 5, rows=lambda item: 1)
    assert next(some) == 0
    some.close()
    assert ended == [True, True]


def test_a_race_says_at_its_start_how_long_it_will_take(monkeypatch, capsys):
    monkeypatch.setattr("minigd.progress.clock", Ticking(5.0))
    x = np.random.default_rng(0).normal(size=(40, 2))

    def build(seed):
        return gd.Sequential([gd.Dense(1)], inputs=2, seed=seed)

    options = {"seconds": 0.05, "tuning": 0.1, "rates": [0.01, 0.1], "seeds": 2}
    gd.race(build, (x, x[:, 0]), [10, None], progress=True, **options)
    first, *lines = capsys.readouterr().err.splitlines()
    # Two sizes, each with 0.1 s to tune and two runs of 0.05 s.
    assert first.startswith("2 batch sizes, 2 learning rates, 2 seeds: about 0 s of training")
    shares = [int(re.search(r"(\d+)%", line)[1]) for line in lines if line.startswith("race: ")]
    assert shares == sorted(shares)
    assert 0 < shares[-1] <= 100
    gd.race(build, (x, x[:, 0]), [None], **options)
    assert capsys.readouterr().err == ""


def test_a_line_goes_above_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    trainer().fit(batches(), epochs=2, progress=True, callbacks=[gd.PrintEvery(5)])
    for part in terminal.getvalue().split("learning rate")[:-1]:
        assert part.rpartition("\r")[2].startswith("epoch")


# A notebook -----------------------------------------------------------------------------------


def test_a_notebook_has_a_real_bar(monkeypatch):
    import tqdm.auto

    drawn = []

    class Bar:
        def __init__(self, **options):
            drawn.append(options)
            self.total = options["total"]

        def __getattr__(self, name):
            return lambda *values, **options: drawn.append(name)

    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    monkeypatch.setattr("sys.stderr", stream)
    trainer().fit(batches(), epochs=2, progress=True)
    assert drawn[0]["total"] == 10
    assert drawn.count("update") == 10
    assert drawn[-1] == "close"
    assert stream.getvalue() == ""


def test_a_bar_that_fails_ends_nothing(monkeypatch):
    import tqdm.auto

    class Bar:
        def __init__(self, **options):
            pass

        def __getattr__(self, name):
            raise RuntimeError("no widget")

    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    monkeypatch.setattr("sys.stderr", stream)
    assert trainer().fit(batches(), epochs=2, progress=True).epochs == 2


@pytest.mark.filterwarnings("ignore:unclosed (event loop|.*socket):ResourceWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(jupyter_|nbclient|zmq|traitlets)")
def test_a_notebook_without_widgets_shows_a_bar_of_text_and_no_warning():
    import nbclient
    import nbformat

    code = (
        "import sys, warnings; sys.modules['ipywidgets'] = None\n"
        "import numpy as np, minigd as gd\n"
        "x = np.ones((20, 2))\n"
        "model = gd.Sequential([gd.Dense(1)], inputs=2)\n"
        "with warnings.catch_warnings():\n"
        "    warnings.simplefilter('error')\n"
        "    history = model.fit(x, x[:, 0], loss='mse', epochs=2, batch_size=5, progress=True)"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert {output.name for output in outputs} == {"stderr"}
    text = "".join(output.text for output in outputs)
    assert "epoch 2/2: 100%" in text
    assert "Warning" not in text


def test_importing_minigd_loads_no_bar_of_a_notebook():
    code = "import sys, minigd; print('tqdm.auto' in sys.modules, 'asyncio' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "False False\n"
