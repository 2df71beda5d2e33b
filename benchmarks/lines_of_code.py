"""The lines of code of minigd by purpose, without docstrings, comments and blank lines.

    python benchmarks/lines_of_code.py [FOLDER]

FOLDER is the package, ``minigd`` beside this script by default.
"""

import ast
import functools
import io
import sys
import tokenize
from collections.abc import Iterable
from pathlib import Path

PURPOSES = {
    "maths": ("formulas.py", "nn", "optim"),
    "loop": ("training", "progress.py"),
    "data": ("data",),
    "executors": ("execution",),
    "checks": ("checks",),
    "insight": ("insight",),
    "interop": ("interop",),
    "cli": ("cli", "__main__.py"),
    "smoke tests": ("tests",),
    "backends and storage": ("backends", "storage", "distributed"),
    "names, types, errors": ("__init__.py", "errors.py", "types.py", "version.py"),
}
"""Files and folders of the package, by purpose."""

_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENDMARKER, tokenize.ENCODING),
}


@functools.cache
def lines_of_code(source: str) -> frozenset[int]:
    """Return the numbers of lines with code.

    >>> sorted(lines_of_code('"A docstring."' + chr(10) + "x = 1  # one" + chr(10)))
    [2]
    """
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(lines)


def count(package: Path) -> dict[str, tuple[int, int]]:
    """Return the number of files and of lines of code, by purpose."""
    found = dict.fromkeys(PURPOSES, (0, 0))
    purpose_of = {name: purpose for purpose, names in PURPOSES.items() for name in names}
    for path in sorted(package.rglob("*.py")):
        purpose = purpose_of[path.relative_to(package).parts[0]]
        files, lines = found[purpose]
        code = len(lines_of_code(path.read_text(encoding="utf-8")))
        found[purpose] = files + 1, lines + code
    return found


def table(found: dict[str, tuple[int, int]]) -> Iterable[str]:
    """Yield the lines of a table, and of their sum."""
    yield f"{'purpose':<24}{'files':>6}{'lines of code':>15}"
    for purpose, (files, lines) in found.items():
        yield f"{purpose:<24}{files:>6,}{lines:>15,}"
    files, lines = (sum(column) for column in zip(*found.values(), strict=True))
    yield f"{'in all':<24}{files:>6,}{lines:>15,}"


def main() -> None:
    """Print the table of a package."""
    beside = Path(__file__).resolve().parents[1] / "minigd"
    print(*table(count(Path(sys.argv[1]) if len(sys.argv) > 1 else beside)), sep="\n")


if __name__ == "__main__":
    main()
