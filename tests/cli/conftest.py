"""Made-up tables like those of other programs, and models trained on them once.

Houses are like King County's file: quoted ids, dates, prices in scientific notation. People are
like Adult: no header, a blank after each comma, `?` for a missing value.
"""

import numpy as np
import pandas as pd
import pytest

from minigd.cli.tables import Reading
from minigd.cli.train import train

PEOPLE = ("age", "work", "hours", "income")


def houses(n=400, seed=0):
    """Return houses whose price depends on area, grade and heating, plus some noise."""
    rng = np.random.default_rng(seed)
    area, grade = rng.integers(50, 400, n), rng.integers(3, 12, n)
    heating = rng.choice(["gas", "oil", "none"], n)
    price = 1000 * area + 30_000 * grade + 60_000 * (heating == "gas") + rng.normal(0, 9000, n)
    return pd.DataFrame(
        {
            "id": [f"71293{i:05}" for i in range(n)],
            "date": [f"2014{i % 12 + 1:02}{i % 28 + 1:02}T000000" for i in range(n)],
            "price": [f"{p / 1e6:.4f}e+006" if p > 5e5 else f"{p:.0f}" for p in price],
            "area": area,
            "grade": grade,
            "heating": heating,
        }
    )


def people(n=600, seed=0, dot=""):
    """Return the lines of a file about people, who earn much if they are old and work long."""
    rng = np.random.default_rng(seed)
    age, hours = rng.integers(17, 80, n), rng.integers(10, 70, n)
    work = rng.choice(["Private", "State-gov", "?"], n, p=[0.6, 0.3, 0.1])
    rich = age + hours + 15 * (work == "Private") > 95
    return [
        f"{a}, {w}, {h}, {'>50K' if r else '<=50K'}{dot}\n"
        for a, w, h, r in zip(age, work, hours, rich, strict=True)
    ]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Write default files, such as model.npz, where no other test does."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Return a folder with tables and two models."""
    folder = tmp_path_factory.mktemp("tables")
    houses().to_csv(folder / "houses.csv", index=False)
    houses(100, seed=1).to_csv(folder / "new.csv", index=False)
    (folder / "people.data").write_text("".join(people()) + "\n")
    test = ["|1x3 Cross validator\n", *people(200, seed=1, dot=".")]
    (folder / "people.test").write_text("".join(test) + "\n")
    train(
        folder / "houses.csv", "price", folder / "houses.npz",
        exclude=["id", "date"], hidden=[16], epochs=200, learning_rate=0.01, progress=False,
    )  # fmt: skip
    train(
        folder / "people.data", "income", folder / "people.npz",
        reading=Reading(columns=PEOPLE, na=("?",)), hidden=[16], epochs=60, progress=False,
    )  # fmt: skip
    return folder
