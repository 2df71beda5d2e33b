"""All contenders of `python -m benchmarks` do the same work: their losses and weights agree.

Each runs in a process of its own, as in the benchmark; the truth is a plain loop in float64. A
contender whose package is not installed is skipped.
"""

import importlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.contenders import FILES, NETWORKS, Contender  # noqa: E402
from benchmarks.contenders.process import ContenderError, ContenderProcess  # noqa: E402
from benchmarks.measure import compared, tried  # noqa: E402
from benchmarks.quote import quoted, with_quote  # noqa: E402
from benchmarks.workloads import WORKLOADS, Workload, make_data, write_csv  # noqa: E402

TANH = Workload("tanh", (2, 6, 5, 1), "tanh", "binary", 250, 100, 0.01)
RELU = Workload("relu", (9, 7, 4), "relu", "classes", 250, 100, 0.01)
LINEAR = Workload("linear", (4, 1), loss="mse", rows=250, batch_size=100, learning_rate=0.01)


# The truth ---------------------------------------------------------------------------------------


def forward(workload, params, x, y):
    """Return the mean loss of a batch, and the gradient of each W and b."""
    kept = [x]
    for i, (W, b) in enumerate(params):
        z = kept[-1] @ W + b
        last = i == len(params) - 1
        kept.append(z if last else np.tanh(z) if workload.activation == "tanh" else z * (z > 0))
    z = kept[-1]
    if workload.loss == "binary":
        p = 1 / (1 + np.exp(-z))
        loss, dz = -np.log(np.where(y[:, None] == 1, p, 1 - p)), p - y[:, None]
    elif workload.loss == "classes":
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        true = np.eye(z.shape[1])[y]
        loss, dz = -np.log((p * true).sum(axis=1)), p - true
    else:
        loss, dz = (z - y[:, None]) ** 2, 2 * (z - y[:, None])
    grads = []
    for i in range(len(params) - 1, -1, -1):
        grads.append((kept[i].T @ dz / len(x), dz.mean(axis=0)))
        slope = 1 - kept[i] ** 2 if workload.activation == "tanh" else kept[i] > 0
        dz = dz @ params[i][0].T * slope
    return loss.mean(), grads[::-1]


def train(workload, data, epochs, order=None):
    """Return the losses of some epochs, and the final weights; rows are in order by default."""
    x, y = np.float64(data.x), data.y
    params = [[W.astype(float), b.astype(float)] for W, b in data.weights]
    m = [[np.zeros_like(p) for p in layer] for layer in params]
    v = [[np.zeros_like(p) for p in layer] for layer in params]
    t, losses = 0, []
    for _ in range(epochs):
        rows = np.arange(len(x)) if order is None else order.permutation(len(x))
        total = 0.0
        for start in range(0, len(x), workload.batch_size):
            batch = rows[start : start + workload.batch_size]
            loss, grads = forward(workload, params, x[batch], y[batch])
            total += loss * len(batch)
            t += 1
            for i, layer in enumerate(grads):
                for k, g in enumerate(layer):
                    m[i][k] = 0.9 * m[i][k] + 0.1 * g
                    v[i][k] = 0.999 * v[i][k] + 0.001 * g**2
                    step = m[i][k] / (1 - 0.9**t) / (np.sqrt(v[i][k] / (1 - 0.999**t)) + 1e-8)
                    params[i][k] = params[i][k] - workload.learning_rate * step
        losses.append(total / len(x))
    return losses, params


def assert_same(found, truth, tolerance):
    assert len(found) == len(truth)
    for layer, true in zip(found, truth, strict=True):
        for array, values in zip(layer, true, strict=True):
            assert array.shape == values.shape
            np.testing.assert_allclose(array, values, rtol=0, atol=tolerance)


def start(contender):
    if contender.missing:
        pytest.skip(f"{', '.join(contender.missing)} not installed")
    return ContenderProcess(contender)


# Rows in memory ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[name for name in NETWORKS if name != "floor"])
def process(request):
    with start(NETWORKS[request.param]) as process:
        yield process


@pytest.mark.few(4)
@pytest.mark.parametrize("workload", [TANH, RELU], ids=lambda workload: workload.name)
def test_of_full_batches_losses_and_weights_are_those_of_the_loop(process, workload):
    # The order of rows does not matter to a batch of all of them.
    workload = workload._replace(batch_size=workload.rows)
    process.prepare(workload)
    losses = process.train(30).losses
    weights = process.weights()
    true_losses, true_weights = train(workload, make_data(workload), 30)
    assert true_losses[-1] < 0.9 * true_losses[0]
    np.testing.assert_allclose(losses, true_losses, rtol=1e-4)
    assert_same(weights, true_weights, 1e-3)
    assert sum(W.size + b.size for W, b in weights) == workload.parameters
    assert process.updates() == 30


@pytest.mark.few(8)
@pytest.mark.parametrize("workload", [TANH, RELU], ids=lambda workload: workload.name)
def test_an_epoch_is_every_row_once_and_a_last_shorter_batch(process, workload):
    # Weights that stay where they are: a row left out, or weighed as in another batch, shows.
    still = workload._replace(learning_rate=1e-12)
    process.prepare(still)
    losses = process.train(3).losses
    data = make_data(still)
    mean, _ = forward(still, data.weights, np.float64(data.x), data.y)
    np.testing.assert_allclose(losses, [mean] * 3, rtol=1e-5)
    assert process.updates() == 3 * 3


def test_rows_are_shuffled(process):
    # Sorted by class: in their order, each batch would hold one class, soon learned.
    workload = Workload("sorted", (2, 6, 1), "tanh", "binary", 1000, 20, 0.05)
    data = make_data(workload)
    own = [train(workload, data, 1, np.random.default_rng(seed))[0][0] for seed in range(10)]
    low, high = min(own), max(own)
    rows = np.argsort(data.y, kind="stable")
    (in_order,), _ = train(workload, data._replace(x=data.x[rows], y=data.y[rows]), 1)
    margin = high - low
    assert not low - 2 * margin < in_order < high + 2 * margin
    process.prepare(workload._replace(in_classes=True))
    assert low - margin < process.train(1).losses[0] < high + margin


def test_the_floor_multiplies_the_matrices_of_the_network():
    with start(NETWORKS["floor"]) as process:
        process.prepare(RELU)
        assert np.isnan(process.train(2).losses).all()
        shapes = [W.shape for W, _ in process.weights()]
    assert shapes == [(9, 7), (7, 4)]


# Rows of a file ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FILES if name != "floor"])
def test_from_a_file_losses_and_weights_are_those_of_the_loop(name, tmp_path):
    path = tmp_path / "numbers.csv"
    rows = write_csv(path, 10_000, columns=5)
    assert rows % 100
    values = np.loadtxt(path, delimiter=",", skiprows=1)
    workload = LINEAR._replace(path=str(path), rows=rows)
    data = make_data(workload)._replace(x=values[:, :-1], y=values[:, -1])
    with start(FILES[name]) as process:
        process.prepare(workload)
        losses = process.train(4).losses
        weights = process.weights()
        updates = process.updates()
    true_losses, true_weights = train(workload, data, 4)
    np.testing.assert_allclose(losses, true_losses, rtol=1e-4)
    assert_same(weights, true_weights, 1e-3)
    assert updates == 4 * workload.steps


def test_a_csv_file_has_the_rows_it_is_said_to_have(tmp_path):
    for size in (3000, 4_000_000):
        rows = write_csv(tmp_path / "numbers.csv", size)
        lines = (tmp_path / "numbers.csv").read_text().splitlines()
        assert len(lines) == rows + 1
        assert {line.count(",") for line in lines} == {19}
        assert abs((tmp_path / "numbers.csv").stat().st_size / size - 1) < 0.05


# The command -------------------------------------------------------------------------------------


def test_parameters_and_steps_are_counted_as_in_a_model():
    shapes = {name: (w.parameters, w.steps) for name, w in WORKLOADS.items()}
    assert shapes["tiny-1"] == (2 * 10 + 10 + 10 * 10 + 10 + 10 + 1, 1120)
    assert shapes["tiny-100"] == (151, 12)
    assert shapes["mnist-512"] == (784 * 512 + 512 + 512 * 512 + 512 + 5120 + 10, 469)
    assert shapes["wide"][1] == 20


def test_a_package_that_is_missing_is_named():
    contender = Contender("none", "none", needs=("sys", "no_such_package"))
    assert contender.missing == ["no_such_package"]


def test_what_fails_in_a_contender_is_said_here():
    with (
        ContenderProcess(Contender("none", "no_such_module")) as process,
        pytest.raises(ContenderError, match="no_such_module"),
    ):
        process.prepare(TANH)


@pytest.mark.slow
def test_the_command_measures_and_leaves_the_committed_page_alone():
    page = ROOT / "benchmarks" / "results" / "frameworks.md"
    before = page.read_bytes() if page.exists() else None
    arguments = ["tiny-100", "linear-csv", "--quick", "--contenders", "minigd", "floor"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    # So few rows and rounds give no figure that means anything, and no ratio.
    assert done.stdout.split("\n") == [
        *("## tiny-100", "", "- minigd: ran", "- the floor: ran", ""),
        *("## linear-csv", "", "- minigd: ran", "- parsing alone: ran", "", ""),
    ]
    assert (page.read_bytes() if page.exists() else None) == before


@pytest.mark.slow
def test_the_busy_machine_is_tried_by_who_is_there_and_no_figure_is_given():
    arguments = ["tiny-100", "--quick", "--contenders", "minigd", "all-threads"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.busy", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^- (.*)$", done.stdout, re.M) == ["minigd: ran", "minigd, all threads: ran"]
    assert "|" not in done.stdout


def test_a_busy_machine_is_one_process_that_ends(busy):
    before = os.times().children_user
    with busy.busy_machine():
        time.sleep(0.3)
    # It is waited for, so its time counts.
    assert os.times().children_user > before


@pytest.fixture
def command(monkeypatch):
    # With this set, the import would start Python again.
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    return importlib.import_module("benchmarks.__main__")


@pytest.fixture
def busy(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    return importlib.import_module("benchmarks.busy")


@pytest.mark.parametrize(
    ("values", "limit", "words"),
    [
        ([0.4, 0.9, 0.5], 0.5, "faster, 0.50 (0.40 to 0.90); limit 0.5"),
        ([0.4, 0.9, 0.5], 0.02, "faster, 0.50 (0.40 to 0.90); limit 0.02"),
        ([0.9, 1.25, 1.5], None, "slower, 1.25 (0.90 to 1.50)"),
        ([0.5, 1.0, 2.0], None, "equal, 1.00 (0.50 to 2.00)"),
    ],
)
def test_a_ratio_says_faster_or_slower_by_the_median_and_its_limit(values, limit, words):
    assert compared(values, limit) == words


def test_of_each_contender_it_is_said_that_it_ran_or_why_not():
    titles = {"minigd": "minigd", "torch": "PyTorch", "jax": "JAX", "floor": "the floor"}
    others = {"torch": "left out, torch not installed", "jax": "failed, ValueError: no"}
    assert tried(titles, ["minigd"], others) == [
        "- minigd: ran",
        "- PyTorch: left out, torch not installed",
        "- JAX: failed, ValueError: no",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(1234567.8, "1,234,568"), (36.04, "36.0"), (1.557e-3, "0.00156"), (0, "0")]
)
def test_figures_have_three_digits(command, value, text):
    assert command.figure(value) == text


def a_result(command, steps):
    return command.Result(1.0, 2.0, 0.5, steps, 1.0, 0.0, "openblas 2")


def test_ratios_are_of_minigd_over_the_contender_round_by_round(command):
    results = {
        "fast": a_result(command, [1.0, 2.0, 3.0]),
        "torch": a_result(command, [4.0, 4.0, 10.0]),
        "keras-jax": a_result(command, [2.0, 2.0, 2.0]),
        "keras-jax-16": a_result(command, [1.0, 1.0, 4.0]),
    }
    outcomes = {"mnist-100": command.Outcome(results, {})}
    rows = list(command.ratio_table("fast", command.LINES["fast"], outcomes))
    assert rows[2:-1] == [
        "| PyTorch, slicing | faster, 0.30 (0.25 to 0.50); limit 0.45 |",
        # The faster of the two by its median is what counts, and its rounds.
        "| Keras on JAX, the faster line | equal, 1.00 (0.75 to 2.00); limit 0.6 |",
    ]


def test_the_page_says_where_its_limits_come_from_and_what_it_depends_on(command):
    names = ["minigd", "fast", "jax-scan", "torch"]
    outcomes = {
        shape: command.Outcome(
            {name: a_result(command, [1e-6 * (i + 1)] * 3) for i, name in enumerate(names)},
            {"sklearn": "left out, sklearn not installed"},
        )
        for shape in command.SHAPES
    }
    workloads = [WORKLOADS[shape] for shape in command.SHAPES]
    page = command.report(workloads, outcomes, "python -m benchmarks", "0.3", 3)
    for words in ("NumPy", "load before: 0.3", "openblas 2", "3 rounds", command.ORIGIN):
        assert words in page
    assert not re.search(r"\b(met|missed|kept)\b", page)
    assert "| JAX, `lax.scan` epoch | faster, 0.67 (0.67 to 0.67); limit 0.5 |" in page
    assert page.count("- scikit-learn: left out, sklearn not installed") == 5
    table = quoted(page).splitlines()
    assert (
        table[0] == "| microseconds per step | tiny-1 | tiny-100 | mnist-100 | mnist-512 | wide |"
    )
    assert table[2] == "| minigd | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 |"
    assert len(table) == 2 + len(names)


def test_every_contender_with_a_limit_takes_part_by_itself(command):
    assert set(command.USUAL) == {
        *("minigd", "fast", "sklearn", "torch", "keras-jax", "keras-jax-16"),
        *("jax-step", "jax-scan", "floor"),
    }
    assert {name for line in command.LINES["minigd"] for name in line.names} <= set(command.USUAL)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "frameworks.md"),
        ("--rounds 5", "frameworks.md"),
        ("linear-csv", "linear_csv.md"),
        ("tiny-1", None),
        ("tiny-1 linear-csv", None),
        ("--quick", None),
        ("--contenders minigd", None),
        ("tiny-1 --out one.md", "one.md"),
    ],
)
def test_a_page_of_a_part_does_not_take_the_place_of_the_whole(command, monkeypatch, words, name):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words.split()])
    page = command.page_of(command.parse())
    assert (page and page.name) == name


def test_the_readme_quotes_the_committed_table():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "benchmarks" / "results" / "frameworks.md").read_text(encoding="utf-8")
    assert readme == with_quote(readme, page), "run python -m benchmarks.quote"
    changed = page.replace("| wide |", "| wide, more |", 1)
    assert with_quote(readme, changed) == readme.replace("| wide |", "| wide, more |", 1)


def test_busy_time_is_set_over_quiet_time_round_by_round(busy):
    slow = busy.Result([1e-6, 2e-6, 4e-6], [3e-6, 4e-6, 4e-6], 1.04)
    own = busy.Result([1e-6], [2.5e-6], 2.0)
    assert list(busy.details({"sklearn": slow}))[2:] == [
        "| scikit-learn | 1.0 | 2 (1 to 4) | 4 (3 to 4) | 2.00 (1.00 to 3.00) |",
        "",
    ]
    found = {"tiny-1": {"sklearn": slow}, "wide": {"sklearn": slow, "minigd": own}}
    assert list(busy.summary(found))[2:] == [
        "| minigd |  | 2.50 (2.50 to 2.50) |",
        "| scikit-learn | 2.00 (1.00 to 3.00) | 2.00 (1.00 to 3.00) |",
        "",
    ]
    assert busy.worst(found) == "The largest of minigd's medians is 2.50 (minigd, wide); limit 3."


def test_epochs_beside_a_busy_process_are_short(busy):
    steps = [busy.shortened(WORKLOADS[name], False).steps for name in busy.SHAPES]
    assert steps == [107, 12, 101, 101, 5]
    assert {busy.shortened(WORKLOADS[name], True).rows for name in busy.SHAPES} == {
        *(8, 107, 135, 1031)
    }


def test_it_is_computed_from_which_size_on_compiling_pays(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    threshold = importlib.import_module("benchmarks.threshold")
    plain, cold = (threshold.Times([3.0, 5.0], False), threshold.Times([6.0, 7.0], True))
    assert [plain.after(k) for k in threshold.EPOCHS] == [3, 3 + 9 * 2, 3 + 99 * 2]
    # Compiling costs 5 s where plain starts in 1, and an epoch gains 1 of its 2: so 4 of them pay.
    ways = {"plain": [plain], "compiled, cold": [cold]}
    assert threshold.pays_from(ways, 0.5) == 0.5 * 4
    ways |= {"compiled, warm": [cold], "fast=None, cold": [plain]}
    line = list(threshold.rows({("tiny-1", 0.5): ways}))[-1]
    assert line == (
        "| tiny-1 | 0.5 | 3.0 / 21.0 / 201.0 | 6.0 / 15.0 / 105.0 | 6.0 / 15.0 / 105.0 "
        "| 3.0 / 21.0 / 201.0 | plain: 1.00 / 1.00 / 1.00 | +3.00 | 2.00 |"
    )
    work = threshold.sized(WORKLOADS["tiny-1"], 1.0).steps * (151 + 10_000)
    assert 0 <= work - threshold.WORTH_COMPILING < 10_151
