"""The README's section on speed quotes `benchmarks/results/frameworks.md`.

`python -m benchmarks` renews the quote after a run over all networks, and `python -m
benchmarks.quote` renews only the quote. A test compares the two files.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "benchmarks" / "results" / "frameworks.md"
README = ROOT / "README.md"
FIRST, LAST = "<!-- from benchmarks/results/frameworks.md -->\n", "<!-- until here -->\n"
HEAD = "microseconds per step"
"""The first cell of the table that is quoted."""


def quoted(page: str) -> str:
    """Return the first table of the page, that of medians."""
    lines = page[page.index(f"| {HEAD} |") :].splitlines(keepends=True)
    end = next(i for i, line in enumerate(lines) if not line.startswith("|"))
    return "".join(lines[:end])


def with_quote(readme: str, page: str) -> str:
    """Return the README with the table of the page between its two marks."""
    before, _, rest = readme.partition(FIRST)
    _, _, after = rest.partition(LAST)
    return f"{before}{FIRST}\n{quoted(page)}\n{LAST}{after}"


def renew_readme() -> None:
    """Write the table of the committed page into the README."""
    readme = README.read_text(encoding="utf-8")
    README.write_text(with_quote(readme, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    renew_readme()
