"""The notebooks of the course run from top to bottom, and their files hold what a reader needs.

Each is executed once, in a folder of its own, far from the clone, and may say nothing on stderr.
What its cells print then is compared with what its file holds, so that a quotation of the package's
code or of its messages can't go stale. Tags of a cell say what may differ:

- ``numbers-vary``: the clock, or many steps of training, decide the numbers, and only the words are
  compared.
- ``outcome-varies``: the clock decides the words too, and nothing is compared.
"""

import inspect
import math
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import nbclient
import nbformat
import pytest

import minigd as gd
from minigd.backends.cupy import CupyBackend
from minigd.errors import BackendError

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
QUOTES = re.compile(r"^(?!def ).*\b(quote|getsource)\(", re.MULTILINE)
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?")

pytestmark = [
    pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem),
    # Jupyter's client leaves its event loop and its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed (event loop|.*socket):ResourceWarning"),
    # Jupyter's packages announce changes of their own to whoever calls them.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(jupyter_|nbclient|zmq|traitlets)"),
]


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def printed(cell):
    """Return what a cell printed or showed as text; pictures have none."""
    texts = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
        if "image/png" not in output.get("data", {})
    ]
    return "".join(texts)


def differs(cell, new):
    """Say how the text of a cell in the file differs from that of a run, or return nothing."""
    tags, old, new = cell.metadata.get("tags", []), printed(cell), printed(new)
    if old == new or "outcome-varies" in tags:
        return None
    if QUOTES.search(cell.source):
        return "a quotation"
    words = [NUMBER.sub("#", text).split() for text in (old, new)]
    if words[0] != words[1]:
        return "the words"
    if "numbers-vary" in tags:
        return None
    pairs = zip(*(NUMBER.findall(text) for text in (old, new)), strict=True)
    numbers = [[float(number.replace(",", "")) for number in pair] for pair in pairs]
    # Processors and versions of NumPy round differently, and training carries that on.
    same = all(math.isclose(a, b, rel_tol=0.05, abs_tol=1e-6) for a, b in numbers)
    return None if same else "the numbers"


def compared(committed, run):
    """Return what differs, each cell by its place in the notebook, counted from 0."""
    found = []
    for i, (cell, new) in enumerate(zip(committed.cells, run.cells, strict=True)):
        what = differs(cell, new) if cell.cell_type == "code" else None
        if what is not None:
            found.append(f"cell {i}, {what}:\n{printed(cell)}\nand now:\n{printed(new)}")
    return found


# One test and not two: they would be shared out between two processes, and each would run all.
@pytest.mark.notebooks
def test_a_run_says_nothing_on_stderr_and_prints_what_the_file_holds(path, tmp_path, monkeypatch):
    # The files hold what the notebook makes up where the real table is not there.
    monkeypatch.delenv("MINIGD_HOUSING", raising=False)
    notebook = read(path)
    nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    said = [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert said == []
    assert [output for output in outputs(notebook) if output.output_type == "error"] == []
    assert list(tmp_path.iterdir()) == [], "files left behind"
    if path.stem.endswith("gpu") and gpu_is_there():
        return  # the file holds what a machine without a GPU prints
    found = compared(read(path), notebook)
    assert not found, "execute the notebook again:\n\n" + "\n\n".join(found)


def gpu_is_there():
    try:
        CupyBackend()
    except BackendError:
        return False
    return True


def test_a_stale_text_is_found(path):
    stale, kept = read(path), read(path)
    planted = []
    for i, cell in enumerate(kept.cells):
        said = [o for o in cell.get("outputs", []) if re.search("[A-Za-z]", o.get("text", ""))]
        if said and "outcome-varies" not in cell.metadata.get("tags", []):
            text = stale.cells[i].outputs[cell.outputs.index(said[0])]
            text.text = re.sub("[A-Za-z]", "x_", text.text, count=1)
            planted.append(i)
    found = [int(re.match(r"cell (\d+),", each)[1]) for each in compared(stale, kept)]
    assert planted
    assert found == planted
    assert compared(kept, kept) == []


def test_its_prose_quotes_no_code_that_a_run_could_not_print(path):
    lesson = prose(read(path)).split("## Exercises")[0]
    assert "```" not in lesson, "quote code in a cell, where this file compares it"


def known(notebook):
    """Return minigd, the modules that a notebook imports from it, and all its classes, by name."""
    found = {"gd": gd, "minigd": gd}
    imports = re.findall(
        r"^from minigd import (.+)", "\n".join(c.source for c in code(notebook)), re.M
    )
    modules = {name.strip() for line in imports for name in line.split(",")}
    for info in pkgutil.walk_packages(gd.__path__, "minigd."):
        if "plugin" in info.name or info.name.endswith("__main__"):
            continue
        module = import_module(info.name)
        if info.name.removeprefix("minigd.") in modules:
            found[info.name.removeprefix("minigd.")] = module
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == info.name:
                found.setdefault(name, value)
    return found


def test_what_its_prose_names_of_the_package_exists(path):
    notebook = read(path)
    names, missing = known(notebook), []
    for span in re.findall(r"`([^`\n]+)`", prose(notebook)):
        dotted = re.match(r"([A-Za-z_]\w*)((?:\.\w+)+)", span)
        if span.startswith("minigd/"):
            missing += [] if (ROOT / span).exists() else [span]
        elif dotted is not None and dotted[1] in names:
            thing = names[dotted[1]]
            for part in dotted[2].split(".")[1:]:
                thing = getattr(thing, part, None)
            missing += [span] if thing is None else []
    assert missing == []


def test_the_file_holds_the_outputs_of_one_run_from_top_to_bottom(path):
    notebook = read(path)
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert not any(output.output_type == "error" for output in outputs(notebook))
    assert not any(output.get("name") == "stderr" for output in outputs(notebook))


def test_it_has_a_picture_and_stays_small(path):
    pictures = [o for o in outputs(read(path)) if "image/png" in o.get("data", {})]
    assert pictures
    assert path.stat().st_size < 400_000


def test_it_has_exercises_with_solutions_folded_away(path):
    text = prose(read(path))
    exercises = text[text.index("## Exercises") :]
    folded = re.findall(r"<details>(.*?)</details>", exercises, re.DOTALL)
    assert 3 <= len(folded) <= 5
    for solution in folded:
        assert re.match(r"\s*<summary>Solution</summary>\n\n.*\S", solution)


def test_it_names_no_folder_of_a_machine(path):
    notebook = read(path)
    text = [cell.source for cell in notebook.cells]
    for output in outputs(notebook):
        data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
        text.append(f"{output.get('text', '')} {data}")
    text.append(str(notebook.metadata))
    found = re.findall(r"/(?:home|root|tmp|work|Users|opt|usr)/\S*|[A-Z]:\\\\\S*", "\n".join(text))
    assert found == []
