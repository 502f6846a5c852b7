import gzip
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from grnlab._provenance import file_hash
from grnlab.backbones import builtin_models, load_model, save_model


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def folder(tiny_model, tmp_path):
    return save_model(tiny_model, tmp_path / "tiny", provenance={"cells": 3}, card="# A card")


def edit(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    config |= values
    (folder / "config.json").write_text(json.dumps(config))


@torch.no_grad()
def test_round_trip_is_exact(tiny_model, folder, make_tokens):
    loaded, tokens = load_model(folder), make_tokens((9, 4, 7), hidden=True)
    assert torch.equal(loaded.encode(tokens).genes_BTM, tiny_model.encode(tokens).genes_BTM)
    assert (loaded.name, loaded.config, loaded.provenance) == ("tiny", tiny_model.config, {"cells": 3})
    assert loaded.vocab.hash == tiny_model.vocab.hash
    assert loaded.vocab.table.equals(tiny_model.vocab.table)
    assert loaded.weights_hash == file_hash(folder / "model.safetensors")
    assert not loaded.training
    assert (folder / "README.md").read_text() == "# A card"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny"]


@torch.no_grad()
def test_half_precision_is_close_and_half_the_size(tiny_model, folder, tmp_path, make_tokens):
    half = save_model(tiny_model, tmp_path / "half", half=True)
    loaded, tokens = load_model(half), make_tokens((9, 4, 7))
    assert {x.dtype for x in loaded.state_dict().values()} == {torch.float32}
    assert {x.dtype for x in load_file(half / "model.safetensors").values()} == {torch.float16}
    got, expected = loaded.encode(tokens).genes_BTM, tiny_model.encode(tokens).genes_BTM
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-2)
    assert not torch.equal(got, expected)
    sizes = [(path / "model.safetensors").stat().st_size for path in (half, folder)]
    assert sizes[0] < 0.7 * sizes[1]


def test_equal_models_are_equal_files(tiny_model, folder, tmp_path):
    again = save_model(tiny_model, tmp_path / "again", provenance={"cells": 3}, card="# A card")
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_an_existing_folder_is_not_overwritten(tiny_model, make_model, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match="exists already"):
        save_model(make_model(seed=1), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_model(make_model(seed=1), folder, overwrite=True)
    assert (folder / "model.safetensors").read_bytes() != before["model.safetensors"]


def test_an_interrupted_save_leaves_nothing(tiny_model, tmp_path):
    with pytest.raises(TypeError):
        save_model(tiny_model, tmp_path / "tiny", provenance={"bad": object()})
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_and_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a built-in model"):
        load_model("grnlab-huge")
    with pytest.raises(FileNotFoundError, match="checkpoint folder"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "genes.tsv.gz"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "garbage"])
def test_damaged_files(folder, name, damage):
    path = folder / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "garbage": b"\x80\xff" * 50}[damage])
    with pytest.raises(ValueError, match="not a complete grnlab checkpoint") as error:
        load_model(folder)
    assert str(folder) in str(error.value)


def test_damage_inside_the_gene_table(folder):
    path = folder / "genes.tsv.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a complete grnlab checkpoint|is not the vocabulary"):
        load_model(folder)


def test_a_gene_table_of_something_else(folder):
    with gzip.open(folder / "genes.tsv.gz", "wt") as file:
        file.write("one\ttwo\n1\t2\n")
    with pytest.raises(ValueError, match="not a complete grnlab checkpoint"):
        load_model(folder)


@pytest.mark.parametrize("key", ["vocab_hash", "config", "name", "provenance"])
def test_config_without_a_part(folder, key):
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=key):
        load_model(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("architecture", []), ("config", None), ("config", "x"), ("provenance", 5), ("provenance", None), ("heads", 5)],
)
def test_config_with_a_part_of_the_wrong_kind(folder, key, value):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(ValueError, match=str(folder)):
        load_model(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("d_model", 0),
        ("d_model", 4_000),
        ("d_model", 10**25),
        ("n_heads", 0),
        ("n_layers", 2_000_000),
        ("n_layers", 10**25),
        ("classes", None),
        ("groups", [1]),
    ],
)
def test_sizes_of_the_wrong_kind(folder, key, value):
    config = json.loads((folder / "config.json").read_text())
    config["config"][key] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"do not fit its config\.json"):
        load_model(folder)


def test_config_nested_too_deep(folder):
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="not a complete grnlab checkpoint"):
        load_model(folder)


def test_config_that_is_no_mapping(folder):
    (folder / "config.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="not a complete grnlab checkpoint"):
        load_model(folder)


@pytest.mark.parametrize("values", [{"format": 2}, {"format": None}, {"architecture": "nobody"}])
def test_foreign_format(folder, values):
    edit(folder, **values)
    with pytest.raises(ValueError, match=r"this version reads format 1 of .*'scprint'"):
        load_model(folder)


def test_wrong_vocabulary(folder, tmp_path):
    text = gzip.decompress((folder / "genes.tsv.gz").read_bytes()).decode()
    (folder / "genes.tsv.gz").write_bytes(gzip.compress(text.replace("G7\t", "XYZ\t", 1).encode()))
    with pytest.raises(ValueError, match="not the vocabulary this model was trained with"):
        load_model(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit(folder, change):
    weights = load_file(folder / "model.safetensors")
    if change == "missing":
        del weights["special"]
    elif change == "extra":
        weights["more"] = torch.zeros(1)
    else:
        weights["special"] = torch.zeros(2, 16)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"do not fit its config\.json"):
        load_model(folder)


@pytest.mark.parametrize("change", [{"n_layers": 3}, {"width": 16}, {"n_heads": 5}])
def test_configuration_that_does_not_fit(folder, change):
    config = json.loads((folder / "config.json").read_text())["config"]
    edit(folder, config=config | change)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_model(folder)


def test_a_pickle_is_never_opened(folder, tmp_path):
    flag = tmp_path / "opened"
    for name in ("model.pt", "pytorch_model.bin", "config.pkl", "model.ckpt"):
        (folder / name).write_bytes(pickle.dumps(Trap(flag)))
    load_model(folder)
    assert not flag.exists()
    for name in ("model.safetensors", "genes.tsv.gz", "config.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(pickle.dumps(Trap(flag)))
        with pytest.raises(ValueError, match="not a complete grnlab checkpoint"):
            load_model(folder)
        (folder / name).write_bytes(content)
        assert not flag.exists()
    (folder / "model.safetensors").unlink()  # the pickles beside it are no substitute
    with pytest.raises(ValueError, match="not a complete grnlab checkpoint"):
        load_model(folder)
    assert not flag.exists()
    pickle.loads(pickle.dumps(Trap(flag)))
    assert flag.exists()  # the trap works


@pytest.mark.parametrize("suffix", ["ckpt", "pt", "pth", "bin"])
def test_the_path_of_a_pickle_is_refused_with_the_reason(tmp_path, suffix):
    flag, path = tmp_path / "opened", tmp_path / f"model.{suffix}"
    path.write_bytes(pickle.dumps(Trap(flag)))
    with pytest.raises(ValueError, match=r"is a pickle: reading one can run any code .* weights_only=True"):
        load_model(path)
    assert not flag.exists()


def test_head_sets_travel_with_the_model(tiny_model, tmp_path):
    heads = {"best": [(0, 1, 1.0), (1, 3, 0.5)], "last layer": [[1, head, 1.0] for head in range(4)]}
    loaded = load_model(save_model(tiny_model, tmp_path / "one", heads=heads))
    assert loaded.heads == {"best": [[0, 1, 1.0], [1, 3, 0.5]], "last layer": [[1, head, 1.0] for head in range(4)]}
    again = load_model(save_model(loaded, tmp_path / "two"))
    assert again.heads == loaded.heads
    assert load_model(save_model(loaded, tmp_path / "three", heads={})).heads == {}


@pytest.mark.parametrize("head", [(2, 0, 1.0), (0, 4, 1.0), (-1, 0, 1.0), (0, 0)])
def test_heads_that_are_not_there(tiny_model, tmp_path, head):
    with pytest.raises(ValueError, match=r"head set 'best' holds .* 2 layers of 4 heads"):
        save_model(tiny_model, tmp_path / "tiny", heads={"best": [head]})
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_how_a_model_was_made(tiny_model, tmp_path):
    made = {
        "data": {"datasets": {"a": 3, "b": 2}, "n_cells_train": 4_000, "n_cells_validation": 50},
        "settings": {"objectives": ["mask", {"name": "mvc"}], "n_tokens": 512, "seed": 7, "precision": "bf16-mixed"},
        "cells_seen": 64_000, "steps": 2_000, "minutes": 1.5, "hardware": "CPU",
        "loss_curve": [{"step": step, "val/loss": step / 10} for step in range(10, 500, 10)],
    }  # fmt: skip
    card = (save_model(tiny_model, tmp_path / "tiny", provenance=made) / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: grnlab\n")
    for part in (
        "# tiny",
        "2 layers, 4 heads of 4",
        "4,000 cells to train on and 50",
        "mask, mvc",
        "seed 7",
        "bf16-mixed",
    ):
        assert part in card
    assert "| step | val/loss |" in card
    assert "| 490 | 49.0 |" in card
    assert 12 <= card.count("\n| ") - 2 <= 16
    assert "Loss curve" not in (save_model(tiny_model, tmp_path / "bare") / "README.md").read_text()


def test_provenance_of_the_model_is_kept(tiny_model, tmp_path):
    tiny_model.provenance = {"cells": 9}
    assert load_model(save_model(tiny_model, tmp_path / "tiny")).provenance == {"cells": 9}


def test_builtin_models_are_checkpoints():
    for name, path in builtin_models().items():
        assert path.name == name
        assert (path / "model.safetensors").exists()
        loaded = load_model(name)
        assert (loaded.name, loaded.heads) == (name, {})


def test_loading_brings_no_compiler():
    code = "import sys, grnlab as gl; gl.load_model('grnlab-small'); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # 140 MB and a second
