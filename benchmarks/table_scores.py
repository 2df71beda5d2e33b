"""Forty public tables: whether `minigd train` reads them as they are, and how good the models are.

`python benchmarks/table_scores.py --data FOLDER`, where FOLDER contains the files in
`tables/list.csv`. Each command is run as it is written there, and if it fails, as minigd proposes.
Then the rows are split into two files, three quarters and a quarter, and the same command trains on
the first. Accuracy or R² is measured on the second, which no model has seen. scikit-learn's models
get the same rows, with the columns as minigd encoded them.
"""

import argparse
import contextlib
import csv
import gzip
import hashlib
import io
import shlex
import statistics
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from environment import describe
from measure import table
from sklearn import ensemble, linear_model, neural_network
from sklearn.metrics import accuracy_score, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import minigd as gd
from minigd.cli.main import main as minigd
from minigd.cli.trained import chosen, outputs

LIST = Path(__file__).parent / "tables" / "list.csv"
TEST_SHARE = 0.25
CLOSE = 0.02
"""Scores that differ by less count as equal."""


class Told(NamedTuple):
    """How a command ended: its code and its output."""

    code: int
    said: str

    @property
    def proposal(self) -> list[str]:
        """The words of the proposed command, without ``minigd``, or empty."""
        lines = [line for line in self.said.splitlines() if line.startswith("minigd train ")]
        return shlex.split(lines[0])[1:] if lines else []


def run(words: list[str]) -> Told:
    """Run a command of the shell in this process."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            return Told(minigd(words), said.getvalue())
        except SystemExit as exit_:
            return Told(int(exit_.code or 0), said.getvalue())


def with_options(words: list[str], data: str, out: str) -> list[str]:
    """Return the words of a command with another table and another model."""
    at = words.index("--out")
    return ["train", data, *words[2:at], "--out", out, *words[at + 2 :]]


def cut(path: Path, source: Any, folder: Path) -> tuple[str, str]:
    """Write the rows of a table to two files, each with the lines above them, and return these."""
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    lines = data.splitlines(keepends=True)
    places = source.places(np.arange(source.count()))
    starts = [int(place.split()[-1]) - 1 for place in places]
    inside = np.random.default_rng(0).random(len(starts)) < TEST_SHARE
    if source.classes:
        # A class that no model has seen can't be predicted.
        inside[np.unique(arrays(source)[1], return_index=True)[1]] = False
    names = []
    for name, wanted in (("train", False), ("test", True)):
        kept = lines[: starts[0]]
        for k, start in enumerate(starts):
            if inside[k] == wanted:
                kept += lines[start : starts[k + 1] if k + 1 < len(starts) else len(lines)]
        names.append(str(folder / f"{name}{Path(path.name.removesuffix('.gz')).suffix}"))
        Path(names[-1]).write_bytes(b"".join(kept))
    return names[0], names[1]


def arrays(source: Any) -> tuple[Any, Any]:
    """Return all rows of a source."""
    x, y = zip(*source.chunks(), strict=True)
    return np.concatenate(x), np.concatenate(y)


def peers(classify: bool, seed: int = 0) -> dict[str, Any]:
    """Return scikit-learn's models, with their defaults."""
    if classify:
        models: dict[str, Any] = {
            "boosting": ensemble.HistGradientBoostingClassifier(random_state=seed),
            "MLP": neural_network.MLPClassifier(random_state=seed),
            "linear": linear_model.LogisticRegression(max_iter=1000),
        }
    else:
        models = {
            "boosting": ensemble.HistGradientBoostingRegressor(random_state=seed),
            "MLP": neural_network.MLPRegressor(random_state=seed),
            "linear": linear_model.RidgeCV(),
        }
    return {name: make_pipeline(StandardScaler(), model) for name, model in models.items()}


class Row(NamedTuple):
    """The result for one table."""

    name: str
    opened: str
    rows: int = 0
    scores: dict[str, float] | None = None

    def cells(self) -> list[str]:
        """Return the row of the table."""
        if self.scores is None:
            return [self.name, self.opened, "–", "–", "–", "–", "–"]
        scores = [f"{self.scores[name]:.3f}" for name in ("minigd", "boosting", "MLP", "linear")]
        return [self.name, self.opened, f"{self.rows:,}", *scores]


def try_table(folder: Path, name: str, options: str) -> Row:
    """Train on a table as a person would, and compare."""
    with tempfile.TemporaryDirectory() as there:
        out = str(Path(there) / "model.npz")
        words = ["train", str(folder / name), *shlex.split(options)]
        first, opened = run([*words, "--epochs", "1", "--out", out]), "first command"
        if first.code:
            words = first.proposal
            if not words or run(words).code:
                return Row(name, "neither")
            opened = "proposed command"
            del words[words.index("--epochs") : words.index("--epochs") + 2]
            del words[words.index("--out") : words.index("--out") + 2]
        words += ["--out", out]
        model = gd.load_table(out)
        # Lines at the top belong to a file, and are not stored in the model.
        above = {}
        if "--skip-lines" in words:
            above["skip_lines"] = int(words[words.index("--skip-lines") + 1])
        whole = model.open(folder / name, target=True, **above)
        train, test = cut(folder / name, whole, Path(there))
        told = run(with_options(words, train, out))
        if told.code:
            raise SystemExit(f"{name}: {told.said}")
        model = gd.load_table(out)
        x, y = arrays(model.open(train, target=True, **above))
        test_x, test_y = arrays(model.open(test, target=True, **above))
        classify = model.task == "classification"
        score = accuracy_score if classify else r2_score
        scores = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own = outputs(model, test_x)
            own = chosen(model, own) if classify else own
            scores["minigd"] = float(score(test_y.ravel(), own))
            for peer, estimator in peers(classify).items():
                prediction = estimator.fit(x, y.ravel()).predict(test_x)
                scores[peer] = float(score(test_y.ravel(), prediction))
        return Row(name, opened, len(x) + len(test_x), scores)


def summary(rows: list[Row]) -> list[str]:
    """Return a summary of the rows."""
    ways = dict.fromkeys(row.opened for row in rows)
    counts = {way: sum(row.opened == way for row in rows) for way in ways}
    scored = [row.scores for row in rows if row.scores is not None]
    ahead = [s["minigd"] - s["boosting"] for s in scored]
    behind = [row.name for row in rows if row.scores and _behind(row.scores) > 0.05]
    return [
        f"Opened: {', '.join(f'{n} of {len(rows)} by the {way}' for way, n in counts.items())}.",
        f"minigd's score less that of gradient boosting: {statistics.median(ahead):+.3f} in the "
        f"median, {min(ahead):+.3f} to {max(ahead):+.3f}; equal or better (within {CLOSE}) on "
        f"{sum(a > -CLOSE for a in ahead)} of {len(ahead)}.",
        "More than 0.05 behind the better of the linear model and the MLP: "
        f"{', '.join(behind) or 'none'}.",
    ]


def _behind(scores: dict[str, float]) -> float:
    return max(scores["MLP"], scores["linear"]) - scores["minigd"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of tables")
    arguments = parser.parse_args()
    only = arguments.only
    with open(LIST, encoding="utf-8", newline="") as file:
        listed = [line for line in csv.DictReader(file) if not only or line["name"] in only]
    rows: list[Row] = []
    heads = ["table", "opened by the", "rows", "minigd", "boosting", "MLP", "linear"]
    table(heads, (row.cells() for row in each(listed, arguments.data, rows)))
    print("\n\n".join([*summary(rows), describe()]))


def each(listed: list[dict[str, str]], folder: Path, rows: list[Row]) -> Iterator[Row]:
    """Yield the result of each table, and add it to the rows."""
    for line in listed:
        if hashlib.sha256((folder / line["name"]).read_bytes()).hexdigest() != line["sha256"]:
            raise SystemExit(f"{line['name']} is not the file of the list")
        rows.append(try_table(folder, line["name"], line["options"]))
        yield rows[-1]


if __name__ == "__main__":
    main()
