"""The examples on the pages run, each page in a folder of its own, where it may write files.

`IMAGES=docs/images python -m pytest docs/plots.md` writes its pictures into `docs/images`.
"""

import os
from pathlib import Path

import pytest

# Sphinx's settings need Sphinx.
collect_ignore = ["conf.py"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an example write `model.npz` and `picture.png` as a reader would."""
    monkeypatch.chdir(os.environ.get("IMAGES", tmp_path))
