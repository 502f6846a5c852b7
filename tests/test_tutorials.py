"""Every tutorial runs from top to bottom."""

import json
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_runs(path, tmp_path):
    pytest.importorskip("lightning")
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for page in tmp_path.glob("*.html"):
        assert page.stat().st_size > 100_000


def test_there_are_some():
    assert len(TUTORIALS) >= 6
    assert all("outputs" not in cell or not cell["outputs"] for cell in _cells()), "strip the outputs"


def _cells():
    return [cell for path in TUTORIALS for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
