"""The GPU code of the notebook on GPUs, run on the strict stand-in for CuPy.

Most machines that run the tests have no GPU, and there `test_notebooks.py` runs the other branch.
"""

from pathlib import Path

import nbclient
import nbformat
import pytest
from oracles import host_cuda

TESTS = Path(__file__).parents[1]
NOTEBOOK = TESTS.parent / "docs" / "notebooks" / "09_on_a_gpu.ipynb"

STAND_IN = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from oracles import strict_cupy
sys.modules["cupy"] = strict_cupy
"""


@pytest.mark.notebooks
@pytest.mark.filterwarnings("ignore:unclosed (event loop|.*socket):ResourceWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(jupyter_|nbclient|zmq|traitlets)")
@pytest.mark.skipif(host_cuda.compiler() is None, reason=host_cuda.MISSING)
def test_every_cell_runs_with_arrays_that_are_not_numpys(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parent))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STAND_IN))
    nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    said = "".join(out.text for out in outputs if out.get("name") == "stdout")
    assert "backend: cupy" in said
    assert "the model is on the GPU: move it" in " ".join(said.split())
    assert "DivergenceError: " in said
    assert "saved from cupy and loaded on numpy" in said
    assert [out.text for out in outputs if out.get("name") == "stderr"] == []
