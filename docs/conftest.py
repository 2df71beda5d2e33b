"""The examples on the pages run, each page in a folder of its own, where it may write files.

`IMAGES=docs/images python -m pytest docs/plots.md` writes its pictures into `docs/images`.
"""

import os
from pathlib import Path

import pytest

# Sphinx's settings need Sphinx, the notebooks' helpers set a style, and a recipe needs Dask.
collect_ignore = ["conf.py", "dask_partial_fit.py", "notebooks/helpers.py"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an example write `model.npz` and `picture.png` as a reader would."""
    monkeypatch.chdir(os.environ.get("IMAGES", tmp_path))
