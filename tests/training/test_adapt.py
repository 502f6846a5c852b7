import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("lightning")

from grnlab import tl
from grnlab.backbones import (
    CellLMConfig,
    DrugBertConfig,
    ExceiverConfig,
    ScPrintConfig,
    XTrimoGeneConfig,
    load_model,
)
from grnlab.datasets import planted
from grnlab.training.adapt import adapt, small_architecture, vocab_of

TINY = ScPrintConfig(n_layers=1, d_model=16, n_heads=2, decoder="mse", positions=False, dropout=0.0, drop_path=0.0)
SHORT = {"max_steps": 20, "batch_size": 16, "progress": False}


@pytest.fixture(scope="module")
def data():
    return planted(n_cells=120, seed=0)


@pytest.fixture(scope="module")
def model(data):
    return adapt(data.adata, tfs=data.tfs, architecture=TINY, **SHORT)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_loss_on_held_out_cells_falls(data):
    found = adapt(data.adata, architecture=TINY, max_steps=100, batch_size=16, progress=False)
    curve = found.provenance["adapted"]["loss_curve"]
    assert curve[-1]["val/loss"] < 0.8 * curve[0]["val/loss"]
    assert not found.training


def test_the_given_model_is_left_as_it_is_and_the_new_one_differs(data, model):
    before, made = weights(model), json.dumps(model.provenance, default=str)
    found = adapt(data.adata, model, **SHORT)
    after = weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.dumps(model.provenance, default=str) == made
    assert not model.training
    changed = [name for name, value in weights(found).items() if not torch.equal(value, before[name])]
    assert "gene_embedding.weight" in changed
    assert found.vocab is not None
    assert found.vocab.hash == model.vocab.hash


def test_going_on_starts_where_the_model_was(data, model):
    one = adapt(data.adata, model, max_steps=1, batch_size=16, lr=0.0, progress=False)
    assert all(torch.equal(value, weights(model)[name]) for name, value in weights(one).items())


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone(data):
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    first = adapt(data.adata, architecture=TINY, **SHORT, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    again, other = (adapt(data.adata, architecture=TINY, **SHORT, seed=seed) for seed in (5, 6))
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(first).items())
    assert not torch.equal(first.gene_embedding.weight, other.gene_embedding.weight)


def test_columns_in_another_order_give_the_same_model(data, model):
    order = np.random.default_rng(0).permutation(data.adata.n_vars)
    first, second = (adapt(cells, model, **SHORT) for cells in (data.adata, data.adata[:, order].copy()))
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())


def test_provenance_names_weights_cells_and_genes(data, model):
    some = data.adata[:, :30].copy()
    some.var_names = [f"X{place}" if place < 5 else name for place, name in enumerate(some.var_names)]
    found = adapt(some, model, **SHORT, seed=2).provenance["adapted"]
    assert found["n_cells"] == 120
    assert found["from"].startswith(model.name)
    assert found["genes"]["n_genes"] == 25
    assert found["genes"]["unknown"] == ["X0", "X1", "X2", "X3", "X4"]
    assert "5 missing" in found["genes"]["alignment"]
    assert found["settings"]["seed"] == 2
    assert found["settings"]["objectives"] == ("mask", "mvc")
    assert model.provenance["adapted"]["settings"]["objectives"] == ({"name": "mask", "rate": 0.5},)
    assert (found["steps"], found["cells_seen"]) == (20, 320)
    other = adapt(some[1:].copy(), model, **SHORT).provenance["adapted"]
    assert other["cells_sha256"] != found["cells_sha256"]


def test_genes_that_take_no_part_keep_their_embeddings(data, model):
    chosen = list(data.adata.var_names[:20])
    found = adapt(data.adata, model, genes=chosen, **SHORT)
    inside = np.isin(model.vocab.symbols, chosen)
    same = (found.gene_embedding.weight == model.gene_embedding.weight).all(dim=1).numpy()
    assert same[~inside].all()
    assert not same[inside].any()


def test_a_checkpoint_is_written_and_read_back(data, tmp_path):
    found = adapt(data.adata, architecture=TINY, tfs=data.tfs, **SHORT, out=tmp_path / "mine")
    loaded = load_model(tmp_path / "mine")
    assert loaded.provenance["adapted"]["cells_sha256"] == found.provenance["adapted"]["cells_sha256"]
    assert all(torch.equal(value, weights(loaded)[name]) for name, value in weights(found).items())
    assert loaded.vocab.is_tf.sum() == len(data.tfs)
    with pytest.raises(FileExistsError, match="exists already"):
        adapt(data.adata, architecture=TINY, **SHORT, out=tmp_path / "mine")


def test_networks_of_a_new_model(data, model):
    network = tl.infer_networks(tl.attention(data.adata, model, genes="all"))["all"]
    assert set(network.edges["source"]) <= set(data.tfs)


def test_minutes_end_a_run(data):
    found = adapt(data.adata, architecture=TINY, batch_size=16, max_minutes=0.02, progress=False)
    assert 0 < found.provenance["adapted"]["steps"] < 100_000
    assert found.provenance["adapted"]["minutes"] < 0.2


def test_the_architecture_grows_with_the_genes():
    sizes = [small_architecture(n).d_model for n in (50, 2_000, 20_000)]
    assert sizes == sorted(set(sizes))


def test_nan_stops_the_run(data):
    with pytest.raises(RuntimeError, match="not finite"):
        adapt(data.adata, architecture=TINY, lr=1e30, max_steps=60, batch_size=16, progress=False)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda a: a.X.__setitem__((0, 0), 0.5), {}, "whole numbers"),
        (lambda a: a.X.__setitem__((3, slice(None)), 0), {}, "1 cells have no counts, the first is 'cell3'"),
        (None, {"tfs": ["NOBODY"]}, "tfs names 1 genes that adata does not have"),
        (None, {"objectives": ({"name": "mask", "weight": 0},)}, "leaves nothing to train on"),
        (None, {"objectives": ("guess",)}, "'guess' is unknown"),
        (None, {"layer": "raw"}, "layer='raw' is not"),
        (None, {"max_steps": -1}, "max_steps=-1"),
        (None, {"max_steps": 0}, "max_steps=0 must be above 0"),
        (None, {"genes": ["TF0"]}, "leaves 1 genes"),
    ],
)
def test_bad_input(data, change, options, message):
    adata = data.adata.copy()
    adata.X = adata.X.toarray()
    if change is not None:
        change(adata)
    with pytest.raises(ValueError, match=message):
        adapt(adata, architecture=TINY, **(SHORT | options))


def test_bad_model(data, model):
    with pytest.raises(ValueError, match="at least 10 are needed"):
        adapt(data.adata[:9].copy(), model, **SHORT)
    with pytest.raises(ValueError, match="belong to a new model"):
        adapt(data.adata, model, tfs=data.tfs, **SHORT)
    with pytest.raises(ValueError, match="must be a backbone"):
        adapt(data.adata, "grnlab-small", **SHORT)
    strange = data.adata.copy()
    strange.var_names = [f"Q{place}" for place in range(strange.n_vars)]
    with pytest.raises(ValueError, match="None of the 44 gene names is known"):
        adapt(strange, model, **SHORT)


def test_a_vocabulary_needs_unique_names():
    twice = ad.AnnData(np.ones((2, 2)), var=pd.DataFrame(index=["A", "B"]))
    twice.var.index = ["A", "A"]
    with pytest.raises(ValueError, match="more than once"):
        vocab_of(twice)


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        (CellLMConfig(n_layers=1, d_model=8, n_heads=2), "mask_bins"),
        (ExceiverConfig(n_latents=3, n_layers=1, d_model=8, n_heads=2), "discrete_noise"),
        (XTrimoGeneConfig(n_layers=1, d_model=8, n_heads=2, d_decoder=8, n_decoder_heads=2), "read_depth"),
    ],
)
def test_a_new_model_is_trained_on_the_tasks_of_its_architecture(data, architecture, task):
    found = adapt(data.adata, architecture=architecture, max_steps=1, batch_size=16, progress=False)
    assert np.isfinite(found.provenance["adapted"]["loss_curve"][-1][f"val/{task}"])
    if task == "discrete_noise":  # scores are made with the statistics of these cells
        assert (found.mean_G > 0).any()
        assert (found.sd_G != 1).any()


def test_tasks_that_do_not_fit_the_model(data):
    small = {"n_layers": 1, "d_model": 8, "n_heads": 2}
    with pytest.raises(ValueError, match=r"'mask': a CellLM has no decode\. It can be trained on .*'mask_bins'"):
        adapt(data.adata, architecture=CellLMConfig(**small), objectives=("mask",), **SHORT)
    with pytest.raises(ValueError, match="reads signatures, not counts"):
        adapt(data.adata, architecture=DrugBertConfig(**small), **SHORT)
