"""The documentation site leaves nothing out: public names, tables, the gradient of each layer.

CI builds it with warnings as errors. These checks need no Sphinx.
"""

import ast
import doctest
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
API = sorted((DOCS / "api").glob("*.md"))


def text_of(folder):
    return "\n".join(path.read_text() for path in sorted((DOCS / folder).glob("*.md")))


def test_the_reference_describes_every_public_name():
    described = re.findall(
        r"^\.\. (?:auto|py:)\w+:: (?:minigd\.)?(?:nn\.)?(\S+)$", text_of("api"), re.M
    )
    assert sorted(set(gd.__all__) - {"__version__"} - set(described)) == []


def test_every_public_name_says_what_it_is():
    texts = {name: inspect.getdoc(getattr(gd, name)) for name in gd.__all__}
    short = {name for name, text in texts.items() if len((text or "").split()) < 5}
    assert short <= {"__version__", "Array"}


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


# Links to the reference ---------------------------------------------------------------------------

LINKING = runpy.run_path(str(DOCS / "linking.py"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Dense", "minigd.Dense"),
        ("gd.Dense(3)", "minigd.Dense"),
        ("minigd.load", "minigd.load"),
        ("gd.metrics.Metric", "minigd.nn.metrics.Metric"),
        ("Trainer.resume", "minigd.Trainer.resume"),
        ("trainer.save", "minigd.Trainer.save"),
        ("model.predict(x)", "minigd.Sequential.predict"),
        ("CsvSource(encoding=, comment=)", "minigd.CsvSource"),
        *((text, None) for text in ("metrics", "batch_size", "Trainer.nothing", "gd.X", "a b", "")),
    ],
)
def test_what_names_a_public_thing_is_known(text, name):
    assert LINKING["target"](text) == name


@pytest.mark.parametrize(
    "page", [page for page in API if page.name != "index.md"], ids=lambda p: p.stem
)
def test_a_page_of_the_reference_opens_with_a_table_of_its_entries(page):
    text = page.read_text()
    assert text.split("\n\n")[1].startswith(LINKING["SUMMARY"].strip())
    table = LINKING["with_summary"](text).split("```")[1]
    entries = re.findall(r"^\.\. (?:auto(?:class|function|exception)|py:data):: (\S+)", text, re.M)
    listed = {name.removeprefix("minigd.") for name in re.findall(r"^   ~(\S+)$", table, re.M)}
    assert {name.removeprefix("minigd.") for name in entries} <= listed


# Examples and headings ----------------------------------------------------------------------------

GUIDE = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((DOCS / "derivations").glob("*"))]
COMPARES = {"allclose", "array_equal", "isclose", "isfinite", "all", "any"}


def says_true(example):
    """Return whether an example compares and shows the answer, where it could show numbers."""
    if not re.search(r"\b(True|False)\b", example.want):
        return False
    for node in ast.walk(ast.parse(example.source)):
        if isinstance(node, ast.Compare):
            return True
        name = getattr(node, "func", None)
        if getattr(name, "attr", getattr(name, "id", "")) in COMPARES:
            return True
    return False


def examples(text, name):
    return doctest.DocTestParser().get_examples(text, name)


def test_examples_of_a_page_show_numbers_and_nothing_that_only_our_tests_need():
    found = {}
    for page in GUIDE:
        text = page.read_text("utf-8")
        odd = [example.source for example in examples(text, page.name) if says_true(example)]
        odd += re.findall(r"os\.environ|tempfile\.(?:mkdtemp|Temporary\w+)", text)
        if odd:
            found[page.name] = odd
    assert found == {}


def public_docstrings():
    for name in sorted(set(gd.__all__) - {"__version__", "Array"}):
        thing = getattr(gd, name)
        yield name, inspect.getdoc(thing) or ""
        for method, value in vars(thing).items() if inspect.isclass(thing) else ():
            if not method.startswith("_"):
                yield f"{name}.{method}", inspect.getdoc(value) or ""


def test_examples_in_public_docstrings_show_numbers():
    found = {
        name: example.source
        for name, text in public_docstrings()
        for example in examples(text, name)
        if says_true(example) or "environ" in example.source
    }
    assert found == {}


def test_an_example_that_says_true_is_found():
    assert says_true(examples(">>> history['loss'][-1] < 0.1\nTrue\n", "")[0])
    assert says_true(examples(">>> bool((a == b).all()), 3\n(True, 3)\n", "")[0])
    assert not says_true(examples(">>> source.random_access\nFalse\n", "")[0])
    assert not says_true(examples(">>> 1 < 2\n", "")[0])


IMAGE = re.compile(r"!\[(.*?)\]\((.*?)\)", re.S)


def test_each_picture_of_a_page_is_there_and_described():
    pictures = [
        (page, *found) for page in GUIDE for found in IMAGE.findall(page.read_text("utf-8"))
    ]
    assert len(pictures) > 20
    assert [path for _, description, path in pictures if len(description.split()) < 4] == []
    assert [path for page, _, path in pictures if not (page.parent / path).exists()] == []


def test_the_first_page_installs_runs_and_leads_everywhere():
    page = (DOCS / "index.md").read_text()
    install, code = page.index("pip install"), page.index(">>> import")
    assert install < code < page.index("## Examples")
    example = examples(page, "index")
    assert len(example) <= 10
    assert sum(bool(re.search(r"\d", one.want)) for one in example) >= 2
    for link in (
        *("start.md", "notebooks/00_one_neuron.ipynb", "data.md", "training.md", "api/index.md"),
        *("_modules/index.html", "changelog.md", "benchmarks/index.md", "coming_from.md"),
    ):
        assert link in page
    assert "{{ version }}" in page
    assert len(IMAGE.findall(page.split("## Examples")[1])) >= 6


def test_headings_have_the_words_that_one_searches_for():
    pages = [*DOCS.glob("*.md"), *(DOCS / "derivations").glob("*.md"), *API]
    text = "\n".join(page.read_text() for page in pages)
    headings = "\n".join(re.findall(r"^#+ (.+)$", text, re.M)).lower()
    searched = """
        gradient clipping, class weights, early stopping, learning-rate schedules, dropout, csv,
        gradient accumulation, missing values, checkpoints, onnx, custom layers, custom loss,
        reproducib, gradient check, shuffl, transfer learning, validation, progress bar, prefetch,
        confusion matrix, decision boundary, grid search, per-example gradients, command line
    """
    assert [words for words in map(str.strip, searched.split(",")) if words not in headings] == []


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


# What reads as translated, and British spelling. `CONTRIBUTING.md` and the guide are free of it.
HABITS = re.compile(
    r"so that|\bcomes? to\b|(?<!here )\bis no\b|\banew\b|by (?:itself|themselves)\b|is said\b|"
    r"\bone's own\b|\bbehind (?:the|a|all|each|them|it)\b|\bbears?\b|rows? an? \w+\b|"
    r"\bcolour|\w(?:al|ar|im)is(?:e|ed|es|ing|ation)\b|to the same bits"
)
PROSE = [
    page
    for page in PAGES
    if page.parent in (ROOT, DOCS) and page.stem not in ("decisions", "inside")
]


def prose(text):
    """Return a page without its code."""
    without = re.sub(r"```.*?```|`[^`]*`|^    .*?$", "", text, flags=re.S | re.M)
    return re.sub(r"\s+", " ", without)


def test_pages_use_plain_words():
    found = {page.name: HABITS.findall(prose(page.read_text("utf-8"))) for page in PROSE}
    assert {name: words for name, words in found.items() if words} == {}


def test_a_habit_is_found():
    for text in ("It is kept, so that it works.", "100 rows an update", "drawn anew", "normalised"):
        assert HABITS.search(text)
    assert not HABITS.search("There is no column; 100 rows per update; a raised error")
