import importlib
import json
import logging
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from grnlab.backbones import ScPrintConfig, load_model
from grnlab.data import CellCollection
from grnlab.datasets import planted
from grnlab.training import PretrainConfig, batches, pretrain
from grnlab.training.gene_vectors import coexpression_vectors

MODEL = ScPrintConfig(n_layers=1, d_model=16, n_heads=2, dropout=0.1)
SHORT = {"n_tokens": 20, "batch_size": 8, "max_steps": 4, "val_every": 2, "warmup": 2, "val_fraction": 0.1}


@pytest.fixture(scope="module")
def data():
    simulated = planted(n_cells=150, seed=0)
    counts = simulated.adata.X
    n_cells, n_genes = counts.shape
    cells = CellCollection(
        counts=counts,
        datasets=np.arange(n_cells) % 2,
        names=["one", "two"],
        available=[np.arange(n_genes)] * 2,
        totals=np.asarray(counts.sum(axis=1)).ravel(),
        labels={"cell_type": np.arange(n_cells) % 3},
    )
    return simulated.vocab, cells


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        yield


def run(data, out=None, model=MODEL, **options):
    config = PretrainConfig(**(SHORT | options))
    return pretrain(*data, model=model, config=config, name="planted", out=out, progress=False)


def test_the_loss_falls(data):
    model = run(data, max_steps=60, val_every=10, batch_size=16, lr=3e-3, n_tokens=30, warmup=5)
    curve = model.provenance["loss_curve"]
    assert [point["step"] for point in curve] == list(range(10, 61, 10))
    for name in ("train/denoise", "train/mask", "train/mvc", "val/denoise", "val/mask", "val/mvc", "val/loss"):
        assert curve[-1][name] < curve[0][name] - 0.05, name
    assert curve[-1]["val/loss"] == pytest.approx(
        sum(curve[-1][f"val/{name}"] for name in ("denoise", "mask", "mvc")), abs=1e-4
    )


def test_checkpoint_and_provenance(data, tmp_path):
    vocab, _ = data
    model = run(data, tmp_path / "model", objectives=("denoise", {"name": "mask", "rate": 0.2}), seed=5)
    assert not model.training
    made = model.provenance
    assert made["data"] == {"datasets": {"one": 75, "two": 75}, "n_cells_train": 135, "n_cells_validation": 15}
    assert made["settings"]["seed"] == 5
    assert made["settings"]["objectives"] == ("denoise", {"name": "mask", "rate": 0.2})
    assert made["settings"]["batch_size"] == 8
    assert (made["steps"], made["cells_seen"]) == (4, 32)
    assert [point["step"] for point in made["loss_curve"]] == [2, 4]
    assert set(made["loss_curve"][0]) == {
        "step", "train/denoise", "train/mask", "val/denoise", "val/mask", "val/loss"
    }  # fmt: skip
    assert made["minutes"] >= 0
    assert made["hardware"]
    assert made["versions"]["torch"] == torch.__version__
    loaded = load_model(tmp_path / "model")
    assert loaded.provenance == json.loads(json.dumps(made))
    assert (loaded.name, loaded.config) == ("planted", MODEL)
    assert loaded.vocab.hash == vocab.hash
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight, rtol=1e-3, atol=1e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_same_seed_same_weights(data):
    first, same, other = (run(data, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["special"], other["special"])


def test_rare_labels_are_drawn_more_often(data, monkeypatch):
    seen = []

    class Stream(batches.CellStream):
        def __init__(self, cells, rows, weights, **options):
            seen.append((rows, weights))
            super().__init__(cells, rows, weights, **options)

    monkeypatch.setattr(batches, "CellStream", Stream)
    vocab, cells = data
    cells = replace(cells, labels={"state": (np.arange(len(cells)) < 5).astype(int)})
    run((vocab, cells), max_steps=1, label="state")
    [(rows, weights)] = seen
    np.testing.assert_array_equal(weights, cells.sampling_weights("state")[rows])
    assert weights[rows < 5].min() > weights[rows >= 5].max()


def test_gradients_are_clipped(data):
    """Adam does not move for gradients far below its ε."""
    start = run(data, max_steps=1, lr=0.0).state_dict()
    still, moved = (run(data, clip=clip, weight_decay=0.0).state_dict() for clip in (1e-13, 1.0))
    torch.testing.assert_close(still, start, rtol=0, atol=1e-6)
    assert (moved["special"] - start["special"]).abs().max() > 1e-4


def test_every_objective_reaches_its_part_of_the_model(data):
    model = ScPrintConfig(n_layers=1, d_model=16, n_heads=2, classes={"cell_type": ("a", "b", "c")})
    before = run(data, model=model, max_steps=1, lr=0.0, objectives=("denoise", "mask", "mvc", "classify"))
    after = run(data, model=model, objectives=("denoise", "mask", "mvc", "classify"))
    changed = {
        name.split(".")[0]
        for name, weight in after.state_dict().items()
        if not torch.equal(weight, before.state_dict()[name])
    }
    assert changed == {name.split(".")[0] for name in after.state_dict()}


def test_gene_vectors_start_from_the_training_cells(data):
    _, cells = data
    model = run(data, gene_vectors="coexpression", max_steps=1, lr=0.0, seed=3)
    rows, _ = cells.split(0.1, seed=3)
    expected = coexpression_vectors(cells.counts[rows], 16, seed=3)
    np.testing.assert_allclose(model.gene_embedding.weight.detach(), expected, atol=1e-6)


def test_unknown_gene_vectors(data, tmp_path):
    with pytest.raises(ValueError, match="gene_vectors='esm2' is unknown; choose 'random' or 'coexpression'"):
        run(data, tmp_path / "model", gene_vectors="esm2")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_before_training(data, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "precious").write_text("x")
    module = importlib.import_module("grnlab.training.pretrain")  # the package holds a function of this name
    monkeypatch.setattr(module, "ScPrint", lambda *_, **__: pytest.fail("began to work"))
    with pytest.raises(FileExistsError, match=r"model' exists already; choose another folder"):
        run(data, tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["precious"]


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    with pytest.raises(RuntimeError, match=r"the loss is not finite at step 0: .*'mvc': nan"):
        run(data, tmp_path / "model", objectives=("denoise", {"name": "mvc", "weight": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_objective_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="objective 'contrast' is unknown"):
        run(data, tmp_path / "model", objectives=("contrast",))
    assert list(tmp_path.iterdir()) == []


def test_a_time_limit_ends_the_run(data):
    model = run(data, max_steps=10_000, val_every=10_000, max_minutes=1e-6)
    assert model.provenance["steps"] < 5


def test_lightning_missing(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(ImportError, match=r'pip install "grnlab\[train\]"'):
        run(data)
