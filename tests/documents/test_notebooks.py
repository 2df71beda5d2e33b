"""The notebooks of the course run from top to bottom, and their files contain what a reader needs.

Each is executed once, in its own folder outside the clone, and must print nothing on stderr. The
output of its cells is compared with its file, so quotations of code and messages can't become
outdated. The solutions of its exercises are run in place. Tags of a cell say what may differ:

- ``numbers-vary``: the numbers depend on the clock, or on many steps of training, and only the
  words are compared.
- ``outcome-varies``: the words also depend on the clock, and nothing is compared.

A third tag, ``hide-input``, folds the code of a cell: imports, drawings and quotations.
"""

import ast
import contextlib
import copy
import functools
import inspect
import io
import itertools
import math
import pkgutil
import re
import runpy
import sys
from importlib import import_module
from pathlib import Path

import matplotlib
import nbclient
import nbformat
import pytest

import minigd as gd
from minigd.backends.cupy import CupyBackend
from minigd.errors import BackendError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
QUOTES = re.compile(r"\bquote\(")
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?")

pytestmark = [
    # Jupyter's client leaves its event loop and its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed (event loop|.*socket):ResourceWarning"),
    # Jupyter's packages announce changes of their own to whoever calls them.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(jupyter_|nbclient|zmq|traitlets)"),
]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@functools.cache
def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def shown(notebook):
    """Return the cells whose code a reader sees without opening a fold."""
    return [cell for cell in code(notebook) if "hide-input" not in tags(cell)]


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
    old, new = printed(cell), printed(new)
    if old == new or "outcome-varies" in tags(cell):
        return None
    if QUOTES.search(cell.source):
        return "a quotation"
    words = [NUMBER.sub("#", text).split() for text in (old, new)]
    if words[0] != words[1]:
        return "the words"
    if "numbers-vary" in tags(cell):
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


def solutions(text):
    """Return the code of the folded solutions in a text of Markdown."""
    folded = re.findall(r"<details>(.*?)</details>", text, re.DOTALL)
    return [source for part in folded for source in re.findall(r"```python\n(.*?)```", part, re.S)]


def with_solutions(notebook):
    """Return a notebook that runs its solutions, too, after the cell that holds them."""
    whole = copy.deepcopy(notebook)
    cells = []
    for cell in whole.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            made = [nbformat.v4.new_code_cell(source) for source in solutions(cell.source)]
            cells += [nbformat.from_dict({**new, "metadata": {"solution": True}}) for new in made]
    whole.cells = cells
    return whole


# One test and not two: they would be shared out between two processes, and each would run all.
@pytest.mark.notebooks
@each_notebook
def test_a_run_says_nothing_on_stderr_and_prints_what_the_file_holds(path, tmp_path, monkeypatch):
    # The files contain the made-up data of a run without a network.
    monkeypatch.setenv("MINIGD_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))
    notebook = with_solutions(read(path))
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
    notebook.cells = [cell for cell in notebook.cells if not cell.metadata.get("solution")]
    found = compared(read(path), notebook)
    assert not found, "execute the notebook again:\n\n" + "\n\n".join(found)


def gpu_is_there():
    try:
        CupyBackend()
    except BackendError:
        return False
    return True


@each_notebook
def test_a_stale_text_is_found(path):
    kept = read(path)
    stale = copy.deepcopy(kept)
    planted = []
    for i, cell in enumerate(kept.cells):
        said = [o for o in cell.get("outputs", []) if re.search("[A-Za-z]", o.get("text", ""))]
        if said and "outcome-varies" not in tags(cell):
            text = stale.cells[i].outputs[cell.outputs.index(said[0])]
            text.text = re.sub("[A-Za-z]", "x_", text.text, count=1)
            planted.append(i)
    found = [int(re.match(r"cell (\d+),", each)[1]) for each in compared(stale, kept)]
    assert planted
    assert found == planted
    assert compared(kept, kept) == []


# What a reader sees ------------------------------------------------------------------------------


def too_long(notebook, most):
    """Return the cells with more lines of code than that which are not folded."""
    long = {cell.id: len(cell.source.splitlines()) for cell in shown(notebook)}
    return {name: lines for name, lines in long.items() if lines > most}


def plumbing(notebook):
    """Return the shown cells that set up, style or draw: what a folded cell is for."""
    marks = re.compile(r"^(?:import|from) |rcParams|plt\.|\bshow\(|\bquote\(|axes?\.set", re.M)
    return [cell.id for cell in shown(notebook) if marks.search(cell.source)]


def without_alt(notebook):
    """Return the pictures without a text for those who can't see them."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in [kind for kind in output.get("data", {}) if kind.startswith("image/")]:
                alt = output.metadata.get(kind, {}).get("alt", "")
                if len(alt.split()) < 8 or output.data.get("text/plain") != alt:
                    found.append(cell.id)
        if cell.cell_type == "markdown":
            alts = re.findall(r"!\[(.*?)\]\(", cell.source)
            alts += [
                "".join(re.findall(r'alt="([^"]*)"', tag))
                for tag in re.findall(r"<img[^>]*>", cell.source)
            ]
            found += [cell.id for alt in alts if not alt.strip()]
    return found


@each_notebook
def test_what_a_reader_sees_of_its_code_is_short_and_to_the_point(path):
    notebook = read(path)
    builds = path.stem[:2] in ("00", "01")
    assert too_long(notebook, 14 if builds else 20) == {}
    assert plumbing(notebook) == []
    if builds:
        long = [cell.id for cell in code(notebook) if len(cell.source.splitlines()) > 14]
        assert long == [], "in a notebook that builds the engine folded cells are short, too"


@each_notebook
def test_each_of_its_pictures_has_a_text_of_its_own_in_a_cell_of_its_own(path):
    notebook = read(path)
    assert without_alt(notebook) == []
    counts = [
        sum("image/png" in output.get("data", {}) for output in cell.outputs)
        for cell in code(notebook)
    ]
    assert max(counts) == 1, "the site takes the text of a picture from its cell"


@each_notebook
def test_folded_cells_are_folded_in_jupyter_too(path):
    for cell in code(read(path)):
        folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert folded == ("hide-input" in tags(cell))


def test_two_notebooks_build_the_engine_in_150_lines():
    lines = [
        line
        for path in NOTEBOOKS[:2]
        for cell in shown(read(path))
        for line in cell.source.splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]
    assert len(lines) <= 150
    built = "\n".join(lines)
    for part in ("Dense", "Tanh", "SGD", "Adam"):
        assert re.search(rf"^class {part}\b", built, re.M)
    assert {"def softmax(z):", "def fit("} <= {re.match(r"def fit\(|.*", line)[0] for line in lines}
    assert "[500, 500, 500, 500, 300]\n" in [printed(cell) for cell in code(read(NOTEBOOKS[1]))]


def test_what_is_long_or_hidden_from_a_reader_is_found():
    new = nbformat.v4.new_code_cell
    picture = nbformat.v4.new_output("display_data", {"image/png": "", "text/plain": "a"})
    cells = {
        "long": new("x = 1\n" * 21),
        "imports": new("import numpy as np"),
        "style": new("plt.rcParams['axes.grid'] = True"),
        "draws": new("figure, ax = plt.subplots()"),
        "folded": new("import numpy as np\n" * 30, metadata={"tags": ["hide-input"]}),
        "picture": new("1", outputs=[picture]),
        "blind": nbformat.v4.new_markdown_cell("![](a.png)"),
        "html": nbformat.v4.new_markdown_cell('<img src="a.png">'),
        "seen": nbformat.v4.new_markdown_cell('![a graph](a.png) <img alt="b" src="b.png">'),
    }
    for name, cell in cells.items():
        cell.id = name
    notebook = nbformat.v4.new_notebook(cells=list(cells.values()))
    assert too_long(notebook, 20) == {"long": 21}
    assert plumbing(notebook) == ["imports", "style", "draws"]
    assert without_alt(notebook) == ["picture", "blind", "html"]


# What it quotes ----------------------------------------------------------------------------------


def quoted(notebook, quote):
    """Yield each cell that quotes, and what `quote` prints for it today."""
    names = {"gd": gd}
    for cell in code(notebook):
        tree = ast.parse(cell.source)
        for node in tree.body:
            source = ast.unparse(node)
            if re.match(r"(?:from|import) minigd\b", source):
                exec(source, names)
            elif re.match(r"quote\(", source):
                text = io.StringIO()
                with contextlib.redirect_stdout(text):
                    exec(source, {**names, "quote": quote})
                yield cell, text.getvalue()


@pytest.fixture(scope="module")
def helpers():
    """Return what the notebooks share, without their style for the tests that follow."""
    with matplotlib.rc_context():
        yield runpy.run_path(str(FOLDER / "helpers.py"))


def test_what_the_notebooks_quote_is_the_code_of_today(helpers):
    found = [
        f"{path.name}, {cell.source}: execute it again"
        for path in NOTEBOOKS
        for cell, text in quoted(read(path), helpers["quote"])
        if text not in printed(cell)
    ]
    assert found == []
    counts = [sum(1 for _ in quoted(read(path), helpers["quote"])) for path in NOTEBOOKS[:2]]
    assert min(counts) >= 8, "the notebooks that build the engine compare it with the package"


def test_a_quotation_that_has_changed_is_found(helpers):
    notebook = copy.deepcopy(read(NOTEBOOKS[1]))
    for output in outputs(notebook):
        if "dW /= n" in output.get("text", ""):
            output.text = output.text.replace("dW /= n", "dW = dW / n")
    stale = [text for cell, text in quoted(notebook, helpers["quote"]) if text not in printed(cell)]
    assert len(stale) == 1
    assert "dW /= n" in stale[0]


@each_notebook
def test_its_prose_quotes_no_code_that_a_run_could_not_print(path):
    lesson = prose(read(path)).split("## Exercises")[0]
    assert "```" not in lesson, "quote code in a cell, where this file compares it"


def known(notebook):
    """Return minigd, the modules that a notebook imports from it, and all its classes, by name."""
    found = {"gd": gd, "minigd": gd}
    imports = re.findall(
        r"^from minigd import (.+)", "\n".join(c.source for c in code(notebook)), re.M
    )
    wanted = {name.strip() for line in imports for name in line.split(",")}
    return found | classes() | {name: modules()[f"minigd.{name}"] for name in wanted}


@functools.cache
def modules():
    names = [info.name for info in pkgutil.walk_packages(gd.__path__, "minigd.")]
    names = [name for name in names if "plugin" not in name and not name.endswith("__main__")]
    return {name: import_module(name) for name in names}


@functools.cache
def classes():
    found = {}
    for module in modules().values():
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == module.__name__:
                found.setdefault(name, value)
    return found


@each_notebook
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


# Its file ----------------------------------------------------------------------------------------


@each_notebook
def test_the_file_holds_the_outputs_of_one_run_from_top_to_bottom(path):
    notebook = read(path)
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert not any(output.output_type == "error" for output in outputs(notebook))
    assert not any(output.get("name") == "stderr" for output in outputs(notebook))
    for cell in code(notebook):
        streams = [output.get("name") == "stdout" for output in cell.outputs]
        assert (True, True) not in itertools.pairwise(streams), "one text in two blocks"


@each_notebook
def test_it_has_a_picture_and_stays_small(path):
    pictures = [o for o in outputs(read(path)) if "image/png" in o.get("data", {})]
    assert pictures
    assert path.stat().st_size < 400_000


@each_notebook
def test_it_has_exercises_with_solutions_folded_away(path):
    text = prose(read(path))
    exercises = text[text.index("## Exercises") :]
    folded = re.findall(r"<details>(.*?)</details>", exercises, re.DOTALL)
    assert 3 <= len(folded) <= 5
    for solution in folded:
        assert re.match(r"\s*<summary>Solution</summary>\n\n.*\S", solution)
    assert len(solutions(text)) >= 3
    assert len(re.findall(r"```python", text)) == len(solutions(text)), "code outside of a solution"


def test_solutions_are_run_where_they_stand():
    text = "<details><summary>Solution</summary>\n\n```python\nassert y == 2\n```\n\n</details>"
    cells = [nbformat.v4.new_code_cell("y = 2"), nbformat.v4.new_markdown_cell(text)]
    cells.append(nbformat.v4.new_code_cell("del y"))
    whole = with_solutions(nbformat.v4.new_notebook(cells=cells))
    assert [cell.source for cell in code(whole)] == ["y = 2", "assert y == 2\n", "del y"]
    assert [bool(cell.metadata.get("solution")) for cell in code(whole)] == [False, True, False]


@each_notebook
def test_it_names_no_folder_of_a_machine(path):
    notebook = read(path)
    text = [cell.source for cell in notebook.cells]
    for output in outputs(notebook):
        data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
        text.append(f"{output.get('text', '')} {data}")
    text.append(str(notebook.metadata))
    found = re.findall(r"/(?:home|root|tmp|work|Users|opt|usr)/\S*|[A-Z]:\\\\\S*", "\n".join(text))
    assert found == []


# Its data ----------------------------------------------------------------------------------------


class NoNetwork:
    """The error of pooch without a network."""

    def os_cache(self, name):
        return name

    def retrieve(self, address, known_hash, **where):
        self.asked = address, known_hash
        raise OSError("no network")


@pytest.mark.parametrize("name", ["mnist.npz", "kc_house_data.csv"])
def test_data_that_are_fetched_have_a_checksum_and_a_stand_in(name, helpers, monkeypatch, tmp_path):
    pooch = NoNetwork()
    monkeypatch.delenv("MINIGD_OFFLINE", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    if name == "mnist.npz":
        images, digits, source = helpers["mnist"](50)
        assert source == "a stand-in for MNIST"
        assert (images.shape, images.dtype) == ((50, 784), "float32")
        assert 0 <= images.min() < images.max() <= 1
        assert set(digits) <= set(range(10))
    else:
        path = helpers["king_county"](tmp_path)
        assert path.parent == tmp_path
        assert path.read_text().startswith('"id","date","price","bedrooms"')
    address, known_hash = pooch.asked
    assert address.startswith("https://")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", known_hash)
