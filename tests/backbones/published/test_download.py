import fnmatch
import json
import pickle
import shutil
import sys
from types import SimpleNamespace

import pytest

import grnlab as gl


@pytest.fixture
def hub(monkeypatch, fixtures, publishers_files, tmp_path):
    """A hub with one repository: Geneformer as its publisher has it, and a checkpoint of scPRINT."""
    repository = tmp_path / "hub"
    repository.mkdir()
    shutil.copy(publishers_files["scprint_v1"], repository / "medium-v1.ckpt")
    for name in ("geneformer_v1", "geneformer_v2"):
        shutil.copytree(fixtures / name, repository / name)
    where = {"geneformer_v1": "geneformer/gene_dictionaries_30m", "geneformer_v2": "geneformer"}
    for name, folder in where.items():
        (repository / folder).mkdir(parents=True, exist_ok=True)
        for stem in ("token_dictionary", "gene_median_dictionary"):
            content = json.loads((repository / name / f"{stem}.json").read_text())
            (repository / name / f"{stem}.json").unlink()
            (repository / folder / f"{stem}_{name}.pkl").write_bytes(pickle.dumps(content))
    asked = []

    def snapshot_download(repo_id, allow_patterns):
        asked.append(repo_id)
        cache = tmp_path / "cache"
        for file in filter(lambda path: path.is_file(), repository.rglob("*")):
            relative = str(file.relative_to(repository))
            if any(fnmatch.fnmatch(relative, pattern) for pattern in allow_patterns):
                (cache / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, cache / relative)
        return str(cache)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    return SimpleNamespace(asked=asked, cache=tmp_path / "cache")


@pytest.mark.parametrize("name", ["geneformer_v1", "geneformer_v2"])
def test_a_model_and_its_dictionaries_are_downloaded(hub, name):
    model = gl.load_model(f"hf://ctheodoris/Geneformer/{name}")
    assert (model.name, model.n_prefix) == (name, 2 if name.endswith("v2") else 0)
    assert hub.asked == ["ctheodoris/Geneformer"]
    assert not list(hub.cache.rglob("expected.safetensors"))  # only what is needed


def test_a_model_of_one_file_is_downloaded_alone(hub):
    model = gl.load_model("hf://jkobject/scPRINT/medium-v1.ckpt")
    assert (model.name, model.n_prefix) == ("medium-v1", 4)
    assert [path.name for path in hub.cache.iterdir()] == ["medium-v1.ckpt"]


def test_addresses_that_lead_nowhere(hub):
    with pytest.raises(ValueError, match="no address on the Hugging Face Hub; write hf://owner/repository/path"):
        gl.load_model("hf://geneformer")
    with pytest.raises(ValueError, match=r"there is no large\.ckpt in the repository jkobject/scPRINT"):
        gl.load_model("hf://jkobject/scPRINT/large.ckpt")


def test_without_the_hub_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match='pip install "huggingface_hub"'):
        gl.load_model("hf://jkobject/scPRINT/medium-v1.ckpt")
