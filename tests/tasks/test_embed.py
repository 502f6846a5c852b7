import copy

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from grnlab import tl
from grnlab.backbones.published.geneformer import Geneformer
from grnlab.backbones.published.scgpt import ScGpt, ScGptConfig
from grnlab.tasks import cell_embeddings, embed
from grnlab.tasks._cells import open_cells


def test_slots_and_values_are_those_of_the_model(class_model, make_cells, same):
    adata = make_cells()
    before = adata.X.copy()
    tl.embed(adata, class_model)
    assert sorted(adata.obsm) == [
        "X_grnlab", "X_grnlab_cell_type", "X_grnlab_cell_type_logits", "X_grnlab_disease", "X_grnlab_disease_logits",
    ]  # fmt: skip
    assert adata.obsm["X_grnlab_cell_type_logits"].shape == (20, 4)
    cells = open_cells(adata, class_model)
    counts = cells.read(slice(0, 20))
    for cell in (0, 13):  # one at a time, without padding
        with torch.no_grad():
            tokens = class_model.tokenize(counts[[cell]], cells.tokens, cells.totals[[cell]], context="expressed")
            encoded = class_model.encode(tokens)
            logits = class_model.classify(encoded)
        same(adata.obsm["X_grnlab"][cell], encoded.cell_BM[0])
        same(adata.obsm["X_grnlab_disease"][cell], encoded.classes_BM["disease"][0])
        same(adata.obsm["X_grnlab_disease_logits"][cell], logits["disease"][0])
    same(cell_embeddings(class_model, counts, cells.tokens, cells.totals), adata.obsm["X_grnlab"])
    assert (before != adata.X).nnz == 0


def test_order_of_genes_and_cells_blocks_and_files_change_nothing(
    class_model, make_cells, same, tmp_path, small_blocks
):
    adata = make_cells()
    embed(adata, class_model)
    rng = np.random.default_rng(0)
    genes, cells = rng.permutation(adata.n_vars), rng.permutation(adata.n_obs)
    mixed = ad.AnnData(adata.X[cells][:, genes].toarray(), var=adata.var.iloc[genes])
    embed(mixed, class_model)
    same(mixed.obsm["X_grnlab"], adata.obsm["X_grnlab"][cells])
    ad.AnnData(adata.X, var=adata.var).write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    embed(backed, class_model, out=tmp_path / "out")
    same(backed.obsm["X_grnlab_cell_type"], adata.obsm["X_grnlab_cell_type"])


def test_contexts_classes_and_keys(class_model, make_cells, same):
    adata = make_cells()
    shown = ["TF0", "GENE0", *adata.var_names[:20]]
    embed(adata, class_model, context="shared", classes=False, key="X_shared", genes=shown)
    assert list(adata.obsm) == ["X_shared"]
    only = adata[:, list(dict.fromkeys(shown))].copy()
    del only.obsm["X_shared"]
    totals = np.asarray(adata.X.sum(1)).ravel()
    found = open_cells(only, class_model)
    counts = found.read(slice(0, 20))
    same(cell_embeddings(class_model, counts, found.tokens, totals, context="shared"), adata.obsm["X_shared"])
    with pytest.raises(ValueError, match="context='other' is unknown"):
        embed(adata, class_model, context="other")


@pytest.mark.parametrize("architecture", ["scgpt", "geneformer", "plain"])
def test_every_backbone(architecture, human_vocab, human_model, make_cells):
    torch.manual_seed(0)
    if architecture == "scgpt":
        model = ScGpt(human_vocab, ScGptConfig(n_layers=1, d_model=16, n_heads=2, d_hidden=16)).eval()
    elif architecture == "geneformer":
        model = Geneformer(human_vocab).eval()
    else:
        model = human_model
    adata = make_cells()
    embed(adata, model)
    assert list(adata.obsm) == ["X_grnlab"]
    assert np.isfinite(adata.obsm["X_grnlab"]).all()
    assert adata.obsm["X_grnlab"].std(0).min() > 0


def test_a_killed_run_goes_on(class_model, make_cells, same, tmp_path, small_blocks, monkeypatch):
    adata, whole = make_cells(), make_cells()
    embed(whole, class_model)
    encode, calls = class_model.encode, []

    def dies(tokens, **options):
        calls.append(len(tokens))
        if len(calls) > 1:  # after one block
            raise KeyboardInterrupt
        return encode(tokens, **options)

    monkeypatch.setattr(class_model, "encode", dies)
    with pytest.raises(KeyboardInterrupt):
        embed(adata, class_model, out=tmp_path / "out")
    assert not adata.obsm
    assert "X_grnlab" not in adata.uns
    monkeypatch.setattr(class_model, "encode", lambda tokens: calls.append(-len(tokens)) or encode(tokens))
    embed(adata, class_model, out=tmp_path / "out")
    monkeypatch.setattr(class_model, "encode", encode)
    assert -sum(one for one in calls if one < 0) == 20 - 7
    same(adata.obsm["X_grnlab"], whole.obsm["X_grnlab"])
    with pytest.raises(FileExistsError, match="other cells, or of another model or settings"):
        embed(adata[:9].copy(), class_model, out=tmp_path / "out")
    other = copy.deepcopy(class_model)
    with torch.no_grad():
        other.special.add_(1.0)  # another model, of the same name and without a file
    with pytest.raises(FileExistsError, match="other cells, or of another model or settings"):
        embed(adata, other, out=tmp_path / "out")
    adata.obsm["X_grnlab"][:] = 0.0  # changes no file
    embed(adata, class_model, out=tmp_path / "out")
    same(adata.obsm["X_grnlab"], whole.obsm["X_grnlab"])
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="something else"):
        embed(adata, class_model, out=tmp_path / "else")


def test_bad_cells_are_told_before_anything_runs(class_model, make_cells, unknown_genes, small_blocks):
    adata = make_cells()
    adata.X = sp.vstack([adata.X[:19], sp.csr_matrix((1, adata.n_vars), dtype=np.float32)]).tocsr()
    with pytest.raises(ValueError, match="1 cells have no counts, the first is 'cell19'"):
        embed(adata, class_model)
    adata = make_cells()
    ones = sp.csr_matrix(np.ones((20, 3), dtype=np.float32))
    strange = ad.AnnData(ones, obs=adata.obs[[]], var=pd.DataFrame(index=unknown_genes))
    both = ad.concat([adata, strange], axis=1)
    silent = sp.hstack([sp.diags((np.arange(20) != 4).astype(float)) @ adata.X, strange.X])
    both.X = sp.csr_matrix(silent.astype(np.float32))
    with pytest.raises(ValueError, match=r"1 cells have counts of genes the model does not know.*'cell4'"):
        embed(both, class_model)
    with pytest.raises(ValueError, match="None of the 3 gene names"):
        embed(strange, class_model)
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X / 3
    with pytest.raises(ValueError, match="layer='counts'"):
        embed(adata, class_model)
    with pytest.raises(ValueError, match="model must be a backbone"):
        embed(adata, "grnlab-small")
    with pytest.raises(ValueError, match="layer='nothing'"):
        embed(adata, class_model, layer="nothing")
    assert not adata.obsm


def test_cell_embeddings_refuses_empty_cells(class_model):
    with pytest.raises(ValueError, match="1 cells without a count"):
        cell_embeddings(class_model, sp.csr_matrix([[1.0], [0.0]]), np.array([3]), np.array([5.0, 5.0]))
