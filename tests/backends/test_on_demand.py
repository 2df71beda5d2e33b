"""For a missing optional package, all errors have the same wording and say what to install."""

import ast
import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigd as gd
from minigd.backends.on_demand import PACKAGES, missing, optional

ROOT = Path(__file__).parents[2]
# What needs each package: a call, and what the message names.
USES = {
    "gd.get_backend('cupy')": ("cupy", "a GPU"),
    "gd.CsvSource('rows.csv', 'y')": ("pandas", "a table"),
    "next(iter(gd.Batches(gd.IterableSource([{'a': [1.0]}]))))": ("pandas", "a table"),
    "gd.ParquetSource('rows.parquet', 'y')": ("pyarrow", "a Parquet file"),
    "gd.MiniBatchClassifier()": ("sklearn", "an estimator"),
    "gd.plot_confusion([0, 1], y=[0, 1])": ("sklearn", "plot_confusion"),
    "gd.History({'loss': [1.0]}).plot()": ("matplotlib", "a plot"),
    "gd.plot_schedule(gd.Constant(0.1), updates=3)": ("matplotlib", "a plot"),
    "gd.export_onnx(model, 'm.onnx')": ("onnx", "export_onnx"),
    "gd.Trainer(model, 'mse', 'sgd', fast=True)": ("numba", "fast=True"),
    "from minigd.cli.demo import main; main('p.png')": ("sklearn", "the demo"),
    "from minigd.cli.paths import check_picture; check_picture('p.png')": (
        *("matplotlib", "a picture"),
    ),
}
# One package after the other is absent, in a process that has none of them at its start.
WITHOUT = """
import importlib.util, json, sys
absent = None
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == absent else found(name, *a)
import numpy as np, minigd as gd
from minigd.errors import BackendError
model = gd.Sequential([gd.Dense(1)], inputs=1)
said = {}
for use, absent in json.loads(sys.argv[1]):
    for name in [name for name in sys.modules if name.partition(".")[0] == absent]:
        del sys.modules[name]
    try:
        exec(use)
    except (ImportError, BackendError) as error:
        said[use] = str(error)
print(json.dumps(said))
"""


def test_a_missing_package_is_named_with_what_to_install(tmp_path):
    (tmp_path / "rows.csv").write_text("a,y\n1,2\n")
    # What needs two packages would load the other one of them, and a third might need it.
    uses = sorted(((use, package) for use, (package, _) in USES.items()), key=lambda u: u[1])
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps(uses)],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = json.loads(run.stdout.splitlines()[-1])
    silent = []
    for use, (package, what) in USES.items():
        name, install = PACKAGES[package]
        message = f"{name} is not installed, and {what} needs it: `pip install {install}`"
        if message not in said.get(use, ""):
            silent.append((use, said.get(use)))
    assert silent == []


def test_a_broken_package_is_told_from_a_missing_one():
    broken = ImportError("numba needs NumPy 2.3 or less")
    assert missing("numba", "fast=True", broken) == (
        "Numba can't be imported (numba needs NumPy 2.3 or less), and fast=True needs it: "
        "`pip install --upgrade numba scipy`"
    )
    # A package of its own that it lacks is another matter.
    other = ModuleNotFoundError("No module named 'dateutil'", name="dateutil")
    assert "pandas can't be imported (No module" in missing("pandas", "a table", other)
    gone = ModuleNotFoundError("No module named 'pandas'", name="pandas")
    assert "pandas is not installed, and a table" in missing("pandas", "a table", gone)


def test_what_is_there_is_imported():
    assert optional("sklearn.metrics", "a score").accuracy_score([1], [1]) == 1
    np.testing.assert_array_equal(optional("pandas", "a table").Series([1.0]), [1.0])


def test_what_to_install_is_what_the_extras_name():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    own = ("sklearn", "plot", "onnx", "data", "fast", "gpu-cuda12", "mpi")
    named = {re.split(r"[ <>=]", line)[0] for e in own for line in extras[e].split("\n") if line}
    assert {name for _, install in PACKAGES.values() for name in install.split()} == named


@pytest.mark.slow
def test_no_message_names_an_index_that_lacks_the_package():
    package = Path(gd.__file__).parent
    texts = [
        (path.name, node.value)
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [(name, text) for name, text in texts if "minigd[" in text] == []
    assert {name for name, text in texts if "pip install" in text} <= {
        *("on_demand.py", "cupy.py", "trainer.py")
    }
