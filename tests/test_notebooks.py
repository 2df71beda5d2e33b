"""The notebooks of the course run from top to bottom, and their files hold what a reader needs.

Each is executed in a folder of its own, far from the clone, and may say nothing on stderr.
"""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "docs" / "notebooks").glob("*.ipynb"))

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


def test_it_runs_from_any_folder_without_an_error_or_a_word_on_stderr(path, tmp_path):
    notebook = read(path)
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    said = [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert said == []
    assert [output for output in outputs(notebook) if output.output_type == "error"] == []
    assert list(tmp_path.iterdir()) == [], "files left behind"


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
