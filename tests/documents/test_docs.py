"""The documentation site leaves nothing out: public names, tables, the gradient of each layer.

CI builds it with warnings as errors; what is held here needs no Sphinx.
"""

import inspect
import pkgutil
import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

import minigd as gd
from minigd.nn.layers import LAYERS
from minigd.nn.losses import LOSSES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def text_of(folder):
    return "\n".join(path.read_text() for path in sorted((DOCS / folder).glob("*.md")))


def test_the_reference_describes_every_public_name():
    described = re.findall(
        r"^\.\. (?:auto|py:)\w+:: (?:minigd\.)?(?:nn\.)?(\S+)$", text_of("api"), re.M
    )
    assert sorted(set(gd.__all__) - {"__version__"} - set(described)) == []


@pytest.mark.parametrize("name", sorted(set(gd.__all__) - {"__version__", "Array"}))
def test_every_public_name_says_what_it_is(name):
    assert len((inspect.getdoc(getattr(gd, name)) or "").split()) >= 5


def test_every_layer_and_loss_is_derived():
    headings = re.findall(r"^#+ (.+)$", text_of("derivations"), re.M)
    derived = {word.strip(",").lower() for heading in headings for word in heading.split()}
    assert {name.lower() for name in LAYERS} <= derived
    titles = {heading.lower().replace("-", "").replace(" ", "") for heading in headings}
    assert {loss.__name__.lower() for loss in LOSSES.values()} <= titles


def test_derivations_quote_code_that_is_there():
    included = r"\{literalinclude\} (\S+)\n(?::.*\n)*?:pyobject: (\S+)"
    quoted = re.findall(included, text_of("derivations"))
    assert len(quoted) > 15
    for path, name in quoted:
        source = (DOCS / "derivations" / path).read_text()
        assert re.search(rf"\b(?:def|class) {name.rpartition('.')[2]}\b", source), name


def test_every_committed_table_is_a_page():
    tables = {path.name for path in (ROOT / "benchmarks" / "results").glob("*.md")}
    pages = sorted((DOCS / "benchmarks" / "results").glob("*.md"))
    assert {page.name for page in pages} == tables
    for page in pages:
        included = f"../../../benchmarks/results/{page.name}\n:relative-images:"
        assert page.read_text() == f"```{{include}} {included}\n```\n"


def test_the_picture_of_an_explanation_shows_the_formulas_of_today():
    script = runpy.run_path(str(DOCS / "draw_explain.py"))
    with Image.open(script["PICTURE"]) as picture:
        assert picture.text["formulas"] == script["formulas"](script["explanation"]())


# Names of files and modules -----------------------------------------------------------------------

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
]
FILE = re.compile(r"(?<![\w/.-])((?:minigd|tests|docs|benchmarks|\.ci)/[\w./-]*[\w/])")
MODULE = re.compile(r"\b(minigd(?:\.[A-Za-z_]\w*)+)")


def missing(text, folder=ROOT):
    """Return the files and the dotted names of a text that are not there."""
    places = (ROOT, folder)
    found = [
        name
        for name in FILE.findall(text)
        if not any((place / f"{name}{end}").exists() for place in places for end in ("", ".md"))
    ]
    for name in MODULE.findall(text):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            found.append(name)
    return found


def test_every_file_and_module_that_a_page_names_is_there():
    made = {"docs/_build"}  # by Sphinx
    found = {
        str(page.relative_to(ROOT)): set(missing(page.read_text("utf-8"), page.parent)) - made
        for page in PAGES
    }
    assert {name: names for name, names in found.items() if names} == {}


def test_a_file_or_a_module_that_was_moved_is_found():
    text = "`minigd/losses.py`, [it](tests/test_losses.py), `minigd.fast.loop` and minigd.Dense."
    assert missing(text) == ["minigd/losses.py", "tests/test_losses.py", "minigd.fast.loop"]
    assert missing("`minigd/formulas.py`, minigd/nn/ and minigd.nn.metrics, minigd.load(x)") == []
