import sys
from types import SimpleNamespace

import pytest

from grnlab.backbones import save_model
from grnlab.backbones.hub import push_model


@pytest.fixture
def calls(monkeypatch):
    made = []

    class HfApi:
        def __init__(self, token=None):
            made.append(("HfApi", token))

        def create_repo(self, repo_id, **options):
            made.append(("create_repo", repo_id, options))

        def upload_folder(self, **options):
            made.append(("upload_folder", options))
            return "https://huggingface.co/me/tiny"

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=HfApi))
    return made


def test_a_checkpoint_is_uploaded(calls, tiny_model, tmp_path):
    folder = save_model(tiny_model, tmp_path / "tiny")
    assert push_model(folder, "me/tiny", token="secret") == "https://huggingface.co/me/tiny"
    assert calls[:2] == [
        ("HfApi", "secret"),
        ("create_repo", "me/tiny", {"repo_type": "model", "private": True, "exist_ok": True}),
    ]
    [(_, upload)] = calls[2:]
    assert upload["repo_id"] == "me/tiny"
    assert upload["folder_path"] == str(folder)
    assert sorted(upload["allow_patterns"]) == sorted(path.name for path in folder.iterdir())


def test_a_public_one(calls, tiny_model, tmp_path):
    push_model(save_model(tiny_model, tmp_path / "tiny"), "me/tiny", private=False)
    assert calls[0] == ("HfApi", None)
    assert calls[1][2]["private"] is False


def test_what_is_not_whole_is_not_uploaded(calls, tiny_model, tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        push_model("grnlab-small", "me/tiny")
    folder = save_model(tiny_model, tmp_path / "tiny")
    (folder / "genes.tsv.gz").unlink()
    with pytest.raises(ValueError, match="not a complete grnlab checkpoint"):
        push_model(folder, "me/tiny")
    assert calls == []


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match='pip install "huggingface_hub"'):
        push_model(tmp_path, "me/tiny")
