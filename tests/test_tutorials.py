"""Every tutorial runs from top to bottom."""

import json
import re
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


def test_each_has_one_title_and_sections_below_it():
    for path in TUTORIALS:
        text = [cell["source"] for cell in _cells_of(path) if cell["cell_type"] == "markdown"]
        headings = [line for lines in text for line in lines if line.startswith("#")]
        assert re.match(r"# \w", headings[0]), path.name
        assert all(re.match(r"##+ \w", heading) for heading in headings[1:]), path.name


def test_a_second_run_in_the_same_folder_stumbles_over_no_file():
    code = ["".join(cell["source"]) for cell in _cells() if cell["cell_type"] == "code"]
    writes = re.compile(r"^.*(?:(?<!torch)\.save|\.write|network_page|save_model)\(.*$", flags=re.MULTILINE)
    found = [line for text in code for line in writes.findall(text)]
    assert len(found) >= 7
    assert all("overwrite=True" in line for line in found), found


def _cells():
    return [cell for path in TUTORIALS for cell in _cells_of(path)]


def _cells_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]
