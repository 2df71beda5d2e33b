"""The house: which folder may import which, what `import minigd` loads, how large a file may be."""

import ast
import functools
import inspect
import re
import subprocess
import sys
from pathlib import Path

import minigd as gd

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.lines_of_code import lines_of_code

PACKAGE = Path(gd.__file__).parent

# The top of the package, and its folders from the bottom up: each may import from earlier lines.
TOP = {"errors", "types", "formulas", "progress", "version", "__init__", "__main__"}
LINES = [
    {"errors", "types", "version", "progress", "formulas"},
    {"storage", "backends"},
    {"distributed"},
    {"data", "optim"},
    {"nn"},
    {"execution"},
    {"training"},
    {"checks"},
    {"insight"},
    {"interop"},
    {"cli"},
    {"__init__", "__main__"},
    {"tests"},
]
LEVELS = {part: level for level, parts in enumerate(LINES) for part in parts}
# The conveniences that reach up, by where they are called and what they call; and what a GPU and
# compiled steps need.
CONVENIENCES = {
    ("backends.base", "_on_gpu", "minigd.backends.cupy"),
    ("data.batches", "Batches.part", "minigd.data.parts"),
    ("data.sources.base", "Source.cache", "minigd.data.sources.cache"),
    ("data.sources.base", "Source.split", "minigd.data.sources.split"),
    ("execution.memory", "_compiled_bytes", "minigd.execution.targets.cuda"),
    ("execution.runner", "_make_cuda", "minigd.execution.targets.cuda"),
    ("execution.runner", "_make_numba", "minigd.execution.targets.numba"),
    ("nn.sequential", "Sequential._trainer", "minigd.training.trainer"),
    ("nn.sequential", "Sequential.summary", "minigd.insight.summary"),
    ("training.history", "History.plot", "minigd.insight.plots"),
}
# What a training loop on NumPy needs, by folder.
LOADED = {
    "backends": {"base", "frames", "host_to_device", "on_demand", "workspace"},
    "data": {
        *("batches", "labels", "pipeline", "row_weights", "sources", "sources.array"),
        *("sources.base", "tables", "tables.precision", "tables.remedy"),
    },
    "distributed": {"communicator", "mpi"},
    "execution": {
        *("device_guard", "finite_guard", "memory", "passes", "per_example", "plain"),
        *("profiler", "program", "runner", "shipped", "targets", "targets.compiler"),
        *("targets.listing", "targets.numpy", "threads", "tracer"),
    },
    "nn": {
        *("initializers", "layers", "layers.activations", "layers.base", "layers.dense"),
        *("layers.batch_norm", "layers.dropout", "layers.layer_norm", "layers.residual"),
        "layers.scaling",
        *("losses", "losses.base", "losses.cross_entropy", "losses.focal", "losses.function"),
        *("losses.hinge", "metrics.function", "metrics.labels", "metrics.probabilities"),
        *("losses.names", "losses.regression", "metrics", "metrics.base", "metrics.classes"),
        *("metrics.names", "metrics.ranks", "metrics.regression", "moments"),
        *("objective", "parameters", "seed_words", "sequential", "shape_errors"),
    },
    "optim": {
        *("accumulation", "gradient_transforms", "schedules", "updaters", "updaters.adam"),
        *("updaters.adaptive", "updaters.base", "updaters.names", "updaters.nadam"),
        *("updaters.per_layer", "updaters.radam", "updaters.sgd"),
    },
    "storage": {"atomic_files", "damage", "describe", "npy", "npz", "regular_files"},
    "training": {
        *(
            "callbacks",
            "checkpoints",
            "chunks",
            "divergence",
            "epoch_totals",
            "evaluation",
            "events",
        ),
        *("history", "interrupts", "loop", "model_files", "rows", "session", "snapshot", "trainer"),
        "transaction",
    },
}
FILE, CLASS, FUNCTION = 400, 300, 60
"""Lines of code at most, without docstrings, comments and blank lines."""
TOO_LARGE = set()
"""What is larger still; the list may only get shorter."""
LIGHT = {"cupy", "sklearn", "pandas", "matplotlib", "scipy", "numba", "onnx"}


def module_name(path):
    """Return ``nn.layers.dense`` for such a file."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts) if len(parts) == 1 else ".".join(parts).removesuffix(".__init__")


SOURCES = {module_name(p): p.read_text(encoding="utf-8") for p in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def trees():
    """Return the syntax of each module."""
    return {name: ast.parse(source) for name, source in SOURCES.items()}


def imports(tree, scope=""):
    """Yield (enclosing function or "", imported module) for each import anywhere."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((scope, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written with the package's name"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield scope, module if module.removeprefix("minigd.") in SOURCES else node.module
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield from imports(node, f"{scope}.{node.name}".lstrip("."))
        else:
            yield from imports(node, scope)


def imported(name):
    """Return the modules of the package that a module imports."""
    own = [full for _, full in imports(trees()[name]) if full.partition(".")[0] == "minigd"]
    found = {full.removeprefix("minigd.") for full in own}
    return {"__init__" if target == "minigd" else target for target in found}


def folder(name):
    return name.partition(".")[0]


# The list of imports ---------------------------------------------------------------------------


def test_the_top_of_the_package_is_that_of_the_design():
    assert {
        name for name in SOURCES if (PACKAGE / f"{name}.py").exists() and "." not in name
    } == TOP
    assert {folder(name) for name in SOURCES} == set(LEVELS)


def test_imports_go_down_the_list():
    against = {
        (name, target)
        for name in SOURCES
        for target in imported(name)
        if folder(name) != folder(target)
        and LEVELS[folder(name)] <= LEVELS[folder(target)]
        and not {folder(name), folder(target)} <= LINES[0]
    }
    assert against == set()


def test_tables_know_nothing_of_the_sources_that_read_them():
    assert not [
        (name, target)
        for name in SOURCES
        for target in imported(name)
        if name.startswith("data.tables") and target.startswith("data.sources")
    ]


def circle(arrows):
    """Return modules that import each other in a circle, or nothing."""
    left = {name: set(targets) & arrows.keys() for name, targets in arrows.items()}
    while left:
        leaves = {name for name, targets in left.items() if not targets}
        if not leaves:
            return sorted(left)
        left = {name: targets - leaves for name, targets in left.items() if name not in leaves}
    return []


def test_nothing_imports_in_a_circle():
    assert circle({name: imported(name) - {name} for name in SOURCES}) == []


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "d"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def calls(tree, scope=""):
    """Yield (enclosing function, module) for each call of `on_demand.call`."""
    for node in ast.iter_child_nodes(tree):
        inner = (
            f"{scope}.{node.name}".lstrip(".")
            if hasattr(node, "body") and hasattr(node, "name")
            else scope
        )
        texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
        if isinstance(node, ast.FunctionDef) and any(
            isinstance(n, ast.Call) and dotted(n.func) == "call" for n in ast.walk(node)
        ):
            yield inner, next(t for t in texts if str(t).startswith("minigd.") and " " not in t)
        else:
            yield from calls(node, inner)


def test_the_conveniences_that_reach_up_are_those_named():
    found = {
        (name, scope, target)
        for name, tree in trees().items()
        if "backends.on_demand" in imported(name)
        for scope, target in calls(tree)
    }
    assert found == CONVENIENCES
    by_name = {n for n, s in SOURCES.items() if "import_module(" in s}
    assert by_name == {"__init__", "backends.cupy", "backends.on_demand"}


def test_the_engine_needs_numpy_tqdm_and_threadpoolctl_alone():
    engine = {f"{part}.{name}" for part, names in LOADED.items() for name in names}
    needed = set()
    for name in engine | {"errors", "formulas", "types", "progress"}:
        needed |= {full.partition(".")[0] for scope, full in imports(trees()[name]) if not scope}
    assert needed - set(sys.stdlib_module_names) == {"minigd", "numpy", "threadpoolctl", "tqdm"}


def test_no_step_asks_where_it_may_write():
    for name, tree in trees().items():
        if name.startswith(("backends", "execution", "optim")):
            for node in ast.walk(tree):
                if isinstance(node, ast.arg | ast.keyword):
                    assert node.arg != "where", f"{name}, line {node.lineno}"


def asked_for_the_backend(tree, prefix):
    """Yield the functions that branch on the backend: on a name, or on whether reads are free."""
    branch = re.compile(r"\breads_are_free\b|[!=]= '(numpy|cupy)'|isinstance\(.*Backend\b")
    for name, node in parts_of(tree, prefix):
        if isinstance(node, ast.FunctionDef) and branch.search(ast.unparse(node)):
            yield name


def test_training_asks_for_the_backend_only_where_it_stages_rows():
    training = {name: tree for name, tree in trees().items() if name.startswith("training.")}
    found = [part for name, tree in training.items() for part in asked_for_the_backend(tree, name)]
    assert found == ["training.rows.RowLoader.__init__"]


def test_importing_minigd_loads_what_a_training_loop_needs_and_nothing_else():
    code = "import sys, minigd; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(run.stdout.split())
    assert {name.partition(".")[0] for name in loaded} & LIGHT == set()
    own = {name.removeprefix("minigd.") for name in loaded if name.startswith("minigd.")}
    top = {"errors", "types", "formulas", "progress", "version"}
    folders = {f"{part}.{name}" for part, names in LOADED.items() for name in names}
    assert own == top | set(LOADED) | folders


# Sizes -----------------------------------------------------------------------------------------


def parts_of(tree, prefix):
    """Yield (name, node) for each class and function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            name = f"{prefix}.{node.name}"
            yield name, node
            yield from parts_of(node, name)
        else:
            yield from parts_of(node, prefix)


def test_no_file_class_or_function_is_larger_than_it_may_be():
    large = set()
    for name, source in SOURCES.items():
        code = lines_of_code(source)
        if len(code) > FILE:
            large.add(name)
        for part, node in parts_of(trees()[name], name):
            most = CLASS if isinstance(node, ast.ClassDef) else FUNCTION
            if len([line for line in code if node.lineno <= line <= node.end_lineno]) > most:
                large.add(part)
    assert large == TOO_LARGE


# Once ------------------------------------------------------------------------------------------


def test_rows_of_weight_0_are_taken_out_and_the_others_scaled_in_one_place():
    """`flatnonzero(weight)`, masks of `weight > 0`, and n w / Σ w stand in `row_weights` alone."""
    by_hand = re.compile(
        r"flatnonzero\([\w.]*weights?\)|\[[\w.]*weights? [>!]=? ?0\]|"
        r"weights? \* \(len\(\w+\) / [\w.]*(weights?\.sum\(\)|total)\)"
    )
    found = {name for name, source in SOURCES.items() if by_hand.search(source)}
    assert found == {"data.row_weights"}


# Words ----------------------------------------------------------------------------------------


def test_a_module_opens_with_a_docstring():
    opening = {name: (ast.get_docstring(tree) or "").splitlines() for name, tree in trees().items()}
    assert [name for name, lines in opening.items() if not lines or lines[0][-1:] != "."] == []


def test_a_folder_says_what_is_in_it_what_it_may_import_and_where_to_start():
    folders = {p.parent for p in PACKAGE.rglob("*.py")} - {PACKAGE}
    texts = {f.name: ast.get_docstring(ast.parse((f / "__init__.py").read_text())) for f in folders}
    assert [name for name, text in texts.items() if "\n\nIt may import" not in text] == []


def public(node):
    """Yield the public functions, classes and methods of a module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


def test_every_public_class_and_function_has_a_docstring():
    bare = []
    for module, tree in trees().items():
        # A property is described where it is read; its setter has the same name.
        names = {node.name for node in public(tree) if ast.get_docstring(node)}
        bare += [f"{module}.{node.name}" for node in public(tree) if node.name not in names]
    assert bare == []


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
    assert own <= set(gd.__all__)
    assert set(gd.__all__) <= set(dir(gd))


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


def test_no_module_uses_a_global_generator():
    assert [name for name, tree in trees().items() if global_randomness(tree)] == []


def test_a_global_generator_would_be_found():
    for line in (
        "np.random.seed(0)",
        "x = np.random.rand(3)",
        "import random",
        "xp.random.normal()",
    ):
        assert global_randomness(ast.parse(line))
    assert not global_randomness(ast.parse("rng: np.random.Generator = np.random.default_rng(0)"))
