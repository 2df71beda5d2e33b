"""Statements about a release are the same in all files."""

import configparser
import re
from pathlib import Path

import pytest

import minigd as gd

ROOT = Path(__file__).parents[2]


def text(name):
    return (ROOT / name).read_text("utf-8")


def setup():
    parser = configparser.ConfigParser()
    parser.read_string(text("setup.cfg"))
    return parser


def pythons():
    """Return the versions of Python that the package names, such as ``3.10``."""
    return re.findall(r"Python :: (3\.\d+)", setup()["metadata"]["classifiers"])


def test_the_workflow_calls_ci_on_each_supported_python():
    workflow = text(".github/workflows/ci.yml")
    (listed,) = re.findall(r"python: \[(.+)\]", workflow)
    assert re.findall(r'"(.+?)"', listed) == pythons() == ["3.10", "3.11", "3.12", "3.13"]
    assert re.findall(r"- run: (.+)", workflow) == [".ci/run"]
    assert setup()["options"]["python_requires"] == ">=3.10"


def test_the_citation_is_of_this_version_and_license():
    citation = text("CITATION.cff")
    fields = dict(re.findall(r"^([a-z-]+): (.+)$", citation, re.M))
    assert fields["cff-version"] == "1.2.0"
    assert fields["version"] == gd.__version__
    assert fields["license"] == setup()["metadata"]["license_expression"] == "BSD-3-Clause"
    assert f"name: {setup()['metadata']['author']}\n" in citation


def test_the_changelog_dates_its_versions_and_names_what_was_silently_wrong():
    headings = re.findall(r"^## (.+)$", text("CHANGELOG.md"), re.M)
    form = re.compile(r"\d+\.\d+\.\d+(\.dev\d+)? - (\d{4}-\d\d-\d\d|not yet released)")
    assert [heading for heading in headings if not form.fullmatch(heading)] == []
    assert gd.__version__ in {heading.split(" - ")[0] for heading in headings}
    newest = text("CHANGELOG.md").split("\n## ")[1]
    parts = ["Silently wrong before", "Added", "Changed", "Deprecated", "Fixed"]
    assert re.findall(r"^### (.+)$", newest, re.M) == parts


def test_no_entry_of_the_changelog_stands_twice():
    entries = re.findall(r"^- (.+(?:\n  .+)*)", text("CHANGELOG.md"), re.M)
    assert len(entries) == len(set(entries)) > 200


def test_a_deprecated_name_warns_and_is_in_the_changelog():
    deprecated = text("CHANGELOG.md").split("### Deprecated\n")[1].split("\n### ")[0]
    assert "`fit(receipt=True)`" in deprecated
    model = gd.Sequential([gd.Dense(1)], inputs=1)
    with pytest.warns(DeprecationWarning, match="receipt= is now called profile="):
        model.fit([[0.0], [1.0]], [0.0, 1.0], loss="mse", epochs=1, receipt=False)


def test_groups_of_dependencies_have_floors_and_name_extras_that_exist():
    groups = pytest.importorskip("tomllib").loads(text("pyproject.toml"))["dependency-groups"]
    assert groups.keys() == {"docs", "lint", "peers", "test", "dev"}
    extras = setup()["options.extras_require"]
    assert not groups.keys() - {"test"} & extras.keys()
    for name, needs in groups.items():
        for need in needs:
            if isinstance(need, dict):
                assert need["include-group"] in groups.keys() - {name}
            elif own := re.fullmatch(r"minigd\[(.+)\]", need):
                assert set(own[1].split(",")) <= extras.keys()
            else:
                assert need == "types-tqdm" or re.fullmatch(r"[\w-]+ >= [\d.]+", need), need


def test_the_sdist_has_what_stands_beside_the_package():
    manifest = text("MANIFEST.in").split()
    pages = {path.name for path in ROOT.glob("[A-Z]*.md")} - {"README.md"}  # setuptools adds it
    assert {*pages, "CITATION.cff", ".readthedocs.yaml", ".github", ".ci"} <= set(manifest)


def test_contributing_names_each_file_with_links_that_must_become_absolute():
    release = text("CONTRIBUTING.md").split("## A release")[1].split("\n## ")[0]
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text("README.md"))
    assert links
    for link in links:
        top = link.split("/")[0] + ("/" if "/" in link else "")
        assert f"`{top}`" in release, link
    assert "project_urls" not in setup()["metadata"]


def test_the_terms_have_one_meaning_each():
    table = text("CONTRIBUTING.md").split("## Terms")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    terms = [term for cells in rows[2:] for term in cells[0].split(", ")]
    assert len(terms) == len(set(terms))
    assert {len(cells) for cells in rows} == {2}
    assert set(terms) >= {
        *("batch", "update", "epoch", "tail", "window of accumulation", "checkpoint"),
        *("fingerprint", "level", "schema", "target", "rank", "step", "row", "updater"),
    }
