"""How the package hangs together: which module may import which, and what `import minigd` loads.

The arrows are those of the design: they point from what knows less to what knows more.
"""

import ast
import inspect
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import minigd as gd

PACKAGE = Path(gd.__file__).parent

# A module of the inside imports from earlier lines, and modules of one folder import each other.
RINGS = [
    {"errors", "version", "progress", "interrupt", "labels"},
    {"state", "kernels", "history", "frames"},
    {"backend"},
    {"weights"},
    {"formulas", "initializers", "schedules", "moments"},
    {"layers", "losses", "updaters", "metrics"},
    {"fused"},
    {"summary", "totals"},
    {"model"},
    {"objective", "files", "guard", "gradient", "fast", "receipt", "staging"},
    {"runs", "per_example", "masking"},
    {"recording"},
    {"trainer"},
]
# The other way to the trainer: rows know nothing of layers.
ROWS = {
    "sources": {"errors", "labels", "progress", "state", "backend", "frames", "weights"},
    "streams": {"errors", "state", "backend", "sources"},
    "batches": {
        "errors",
        "progress",
        "state",
        "backend",
        "frames",
        "weights",
        "sources",
        "streams",
    },
    "runs": {"batches"},
    "trainer": {"sources", "batches"},
}
# What imports nothing of the package, because nobody beside the trainer needs to know more.
LEAVES = {"errors", "version", "progress", "interrupt", "labels"}
# Conveniences for users, and no dependencies: `Sequential.fit` makes a Trainer, and `History.plot`
# hands itself to a drawing of the outer ring.
AGAINST_THE_ARROWS = {
    ("model", "Sequential._trainer", "trainer"),
    ("history", "History.plot", "plotting"),
}

INSIDE = set().union(*RINGS) | set(ROWS)
SIZE = 3_550
# Executors do what layers and batches do, faster: a reader of the inside needs those.
EXECUTORS = {"recording", "fast", "fused", "masking", "receipt", "staging", "kernels"}
EXECUTORS_SIZE = 1_130
# How far a run has come decides nothing in it: a reader of the inside needs `say` and no more.
SHOWN = "progress"
# Readers of file formats are variants of one idea, of which a reader of the inside needs the idea.
IDEA_OF_A_SOURCE = {"__init__.py", "base.py", "array.py"}
# So are frames: what is inside are arrays.
FORMS_OF_ROWS = {"frames"}
LIGHT = {"cupy", "sklearn", "pandas", "matplotlib", "scipy", "numba", "onnx"}


def allowed(part):
    """Return the parts that a part of the inside may import."""
    earlier = set(ROWS.get(part, ()))
    for ring, parts in enumerate(RINGS):
        if part in parts and part not in LEAVES:
            earlier |= set().union(*RINGS[:ring])
    return earlier | {part}


def modules():
    """Return (path, part, tree) of each module; a part is a module, or a folder as a whole."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found.append((path, part, ast.parse(path.read_text(encoding="utf-8"))))
    return found


MODULES = modules()
PARTS = {part for _, part, _ in MODULES}
each_module = pytest.mark.parametrize(
    ("path", "tree"),
    [(path, tree) for path, _, tree in MODULES],
    ids=[str(path.relative_to(PACKAGE)) for path, _, _ in MODULES],
)


def imports(tree, scope=""):
    """Yield (enclosing function or "", imported module) for each import, wherever it stands."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((scope, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written with the package's name"
            for alias in node.names:
                whole = node.module == "minigd"  # `from minigd import state` names a module
                yield scope, f"minigd.{alias.name}" if whole else node.module
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield from imports(node, f"{scope}.{node.name}".lstrip("."))
        else:
            yield from imports(node, scope)


def in_function(tree, scope):
    """Tell whether a scope such as ``Sequential._trainer`` is more than a class body."""
    names = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    return scope.rpartition(".")[2] in names


def imports_of_the_package():
    """Return (part, enclosing function or "", imported part) for the inside."""
    found = set()
    for _, part, tree in MODULES:
        if part in INSIDE:
            for scope, name in imports(tree):
                if name.partition(".")[0] == "minigd":
                    imported = [*name.split("."), "the package itself"][1]
                    found.add((part, scope if in_function(tree, scope) else "", imported))
    return found


# Arrows ---------------------------------------------------------------------------------------


def test_the_inside_is_all_there():
    assert INSIDE <= PARTS


def test_imports_run_one_way():
    against = {
        (part, scope, imported)
        for part, scope, imported in imports_of_the_package()
        if imported not in allowed(part)
    }
    assert against == AGAINST_THE_ARROWS


def test_nothing_inside_imports_the_outer_ring_but_for_the_plot_of_a_history():
    outer = PARTS - INSIDE
    assert {"gradcheck", "reference", "plotting", "export"} <= outer
    against = {found for found in imports_of_the_package() if found[2] in outer}
    assert against == {("history", "History.plot", "plotting")}


def test_no_import_of_the_package_hides_in_a_function_but_those_named():
    # Inside one folder it may: a source makes another of the sources.
    hidden = {found for found in imports_of_the_package() if found[1] and found[0] != found[2]}
    assert hidden == AGAINST_THE_ARROWS


def test_the_arrows_are_those_of_the_design():
    # The table above is itself held to the line in the design that it stands for.
    order = ["errors", "state", "backend", "formulas", "layers", "model", "trainer"]
    for earlier, later in itertools.pairwise(order):
        assert earlier in allowed(later)
        assert later not in allowed(earlier)
    rows = {"errors", "progress", "state", "backend", "frames", "weights", "sources", "streams"}
    assert allowed("batches") == rows | {"batches"}
    assert {"layers", "model", "batches"}.isdisjoint(allowed("sources"))
    assert allowed("losses").isdisjoint({"layers", "updaters", "metrics", "model"})
    assert allowed("trainer") >= {"objective", "files", "batches", "sources"}


def test_the_inside_needs_numpy_and_tqdm_alone():
    needed = set()
    for _, part, tree in MODULES:
        if part in INSIDE:
            needed |= {
                name.partition(".")[0]
                for scope, name in imports(tree)
                if not in_function(tree, scope)
            }
    assert needed - set(sys.stdlib_module_names) == {"minigd", "numpy", "tqdm"}


def test_importing_minigd_loads_nothing_heavy():
    code = "import sys, minigd; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert {"minigd", "numpy"} <= set(loaded.stdout.split())
    assert set(loaded.stdout.split()) & LIGHT == set()


# Size -----------------------------------------------------------------------------------------


def statements(source):
    """Count statements, docstrings left out: a line a statement, however it is broken up."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    texts = [n for n in nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    return len(nodes) - len(texts)


def test_statements_are_counted_without_docstrings_and_whatever_their_layout():
    source = '"""Doc."""\nx = [\n    1,  # one\n\n    2,\n]\n"""About x."""\nif x:\n    y = x\n'
    assert statements(source) == 3


def test_the_inside_can_be_read_in_an_evening():
    sizes = {
        str(path.relative_to(PACKAGE)): statements(path.read_text(encoding="utf-8"))
        for path, part, _ in MODULES
        if part in INSIDE - FORMS_OF_ROWS and (part != "sources" or path.name in IDEA_OF_A_SOURCE)
    }
    executors = sum(sizes.pop(f"{part}.py") for part in EXECUTORS)
    assert sizes.pop(f"{SHOWN}.py") < 170
    assert sum(sizes.values()) < SIZE, sizes
    assert executors < EXECUTORS_SIZE


# Words ----------------------------------------------------------------------------------------


@each_module
def test_a_module_opens_with_a_docstring(path, tree):
    docstring = ast.get_docstring(tree)
    assert docstring
    assert docstring.splitlines()[0].endswith(".")


def public(node):
    """Yield the public functions, classes and methods of a module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


@each_module
def test_every_public_class_and_function_has_a_docstring(path, tree):
    # A property is described where it is read; its setter has the same name.
    names = [node.name for node in public(tree) if ast.get_docstring(node)]
    bare = [node.name for node in public(tree) if not ast.get_docstring(node)]
    assert [name for name in bare if name not in names] == []


def test_all_names_what_is_there_and_public():
    assert len(set(gd.__all__)) == len(gd.__all__)
    for name in gd.__all__:
        assert hasattr(gd, name)
        assert name == "__version__" or not name.startswith("_")
    own = {
        name
        for name, value in vars(gd).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert own == set(gd.__all__) - {"__version__", "initializers", "metrics"}


@pytest.mark.parametrize("name", sorted(set(gd.__all__) - {"__version__", "Array"}))
def test_every_public_name_says_what_it_is(name):
    assert inspect.getdoc(getattr(gd, name))


# Randomness -----------------------------------------------------------------------------------

GENERATORS = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "Philox"}


def dotted(node):
    """Return ``numpy.random.seed`` for such an expression, with `np` written out."""
    if isinstance(node, ast.Name):
        return "numpy" if node.id == "np" else node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def global_randomness(tree):
    """Return what draws from, or seeds, a generator that everybody shares."""
    used = [dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    found = [
        name
        for name in used
        if name.rpartition(".")[0] in ("numpy.random", "cupy.random", "self.xp.random", "xp.random")
        and name.rpartition(".")[2] not in GENERATORS
    ]
    return found + [
        name for _, name in imports(tree) if name in ("random", "numpy.random", "cupy.random")
    ]


@each_module
def test_no_module_uses_a_global_generator(path, tree):
    assert global_randomness(tree) == []


def test_a_global_generator_would_be_found():
    for line in (
        "np.random.seed(0)",
        "x = np.random.rand(3)",
        "import random",
        "xp.random.normal()",
    ):
        assert global_randomness(ast.parse(line))
    assert not global_randomness(ast.parse("rng: np.random.Generator = np.random.default_rng(0)"))
