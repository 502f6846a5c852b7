import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats as st
import torch

from grnlab import tl
from grnlab.tasks import denoise as denoise_verb
from grnlab.tasks._cells import open_cells
from grnlab.tasks._decode import ProfileDecoder, embed_to_decode, rows_of
from grnlab.tasks.denoise import _alone, _nearest, _pool, _strength


def test_profiles_are_those_of_the_decoder(class_model, make_cells, same):
    adata = make_cells()
    cells, embeddings = embed_to_decode(adata, class_model, layer=None, out=None)
    profiles = ProfileDecoder(class_model, cells.tokens)(rows_of(embeddings, np.array([3, 11])))
    counts = cells.read(np.array([3, 11]))
    for place, cell in enumerate((3, 11)):
        with torch.no_grad():
            seen = class_model.tokenize(counts[[place]], cells.tokens, cells.totals[[cell]], context="expressed")
            encoded = class_model.encode(seen)
            wanted = class_model.tokenize(counts[[place]], cells.tokens, cells.totals[[cell]], context="shared")
            asked = type(encoded)(
                encoded.genes_BTM, encoded.cell_BM, encoded.classes_BM, class_model.gene_embedding(wanted.genes_BT)
            )
            said = class_model.decode_from_cell(asked, torch.ones(1))
        same(profiles.log_mean_BT[place], said.log_mean_BT[0])
        same(profiles.log_theta_BT[place], said.log_theta_BT[0])
        assert profiles.mean_BT[place].sum() == pytest.approx(1, abs=1e-5)


def test_a_cell_alone_has_the_posterior_of_its_counts():
    """Mean of λ under gamma prior and Poisson counts, by numerical integration, with and without lost genes."""
    prior, theta, counts = np.array([[0.2, 0.8]]), np.array([[0.7, 3.0]]), np.array([[0.0, 5.0]])
    shape, rate = _alone(counts, prior, theta, None)
    zero = np.array([[0.4, 0.1]])
    shape_z, rate_z = _alone(counts, prior, theta, zero)
    grid = np.geomspace(1e-12, 60, 40_001)
    for gene in range(2):
        mean = prior[0, gene] * 5
        density = grid * st.gamma.pdf(grid, theta[0, gene], scale=mean / theta[0, gene])  # of log λ
        likelihood = st.poisson.pmf(counts[0, gene], grid)
        expected = (grid * density * likelihood).sum() / (density * likelihood).sum()
        assert shape[0, gene] / rate[0, gene] * 5 == pytest.approx(expected, rel=2e-3)
        mixed = (1 - zero[0, gene]) * likelihood + zero[0, gene] * (counts[0, gene] == 0)
        expected = (grid * density * mixed).sum() / (density * mixed).sum()
        assert shape_z[0, gene] / rate_z[0, gene] * 5 == pytest.approx(expected, rel=2e-3)


def test_pools_and_their_weight(class_model, make_cells):
    adata = make_cells(n_each=20)
    cells, embeddings = embed_to_decode(adata, class_model, layer=None, out=None)
    nearest = _nearest(embeddings, 4)
    assert (nearest[:, 0] == np.arange(40)).all()
    assert (np.diff(np.sort(nearest, axis=1)) > 0).all()
    joined = np.concatenate(list(embeddings.values()), axis=1)
    distance = ((joined[:, None] - joined[None]) ** 2).sum(-1)
    assert set(nearest[5]) == set(np.argsort(distance[5], kind="stable")[:4])
    pooled, totals = _pool(cells, nearest[[2, 9]])
    counts = cells.read(slice(0, 40)).toarray()
    np.testing.assert_allclose(pooled, [counts[nearest[2]].sum(0), counts[nearest[9]].sum(0)])
    np.testing.assert_allclose(totals, pooled.sum(1))

    class Says:
        def __init__(self, profiles):
            self.profiles = profiles

        def __call__(self, part):
            log = torch.from_numpy(np.log(self.profiles[part["row"]]))
            return type(self).Said(log)

        class Said:
            def __init__(self, log):
                self.mean_BT, self.log_theta_BT, self.zero_logit_BT = log.exp(), torch.zeros(1), None

    rows = {"row": np.arange(40)}
    truth = np.repeat([counts[:20].mean(0), counts[20:].mean(0)], 20, axis=0) + 0.1
    good, bad = truth / truth.sum(1, keepdims=True), np.random.default_rng(0).dirichlet(np.ones(counts.shape[1]), 40)
    assert _strength(cells, rows, Says(good), nearest) > 10 * _strength(cells, rows, Says(bad), nearest)


@pytest.mark.parametrize("neighbors", [0, 5, 20])
def test_slots(class_model, make_cells, neighbors, tmp_path):
    adata = make_cells()
    before, totals = adata.X.copy(), np.asarray(adata.X.sum(1)).ravel()
    depth = float(totals.max() * 3)
    tl.denoise(adata, class_model, target_depth=depth, neighbors=neighbors, n_samples=2)
    assert sorted(adata.layers) == ["denoised", "denoised_counts", "denoised_sample1", "denoised_sample2"]
    expected = adata.layers["denoised"]
    np.testing.assert_allclose(expected.sum(1), depth, rtol=1e-4)
    assert (adata.var_names[~adata.var["denoised"]] == ["UNKNOWN1", "UNKNOWN2"]).all()
    unknown = ~adata.var["denoised"].to_numpy()
    np.testing.assert_allclose(expected[:, unknown], before.toarray()[:, unknown] * depth / totals[:, None], rtol=1e-4)
    counts = adata.layers["denoised_counts"]
    assert (counts < before).nnz == 0
    rest = expected * ((depth - totals) / depth)[:, None]
    np.testing.assert_allclose(counts.toarray(), before.toarray() + np.rint(rest))
    drawn = adata.layers["denoised_sample1"]
    assert (drawn == np.rint(drawn)).all()
    assert not (drawn == adata.layers["denoised_sample2"]).all()
    assert abs(drawn.sum() / (20 * depth) - 1) < 0.1
    assert (before != adata.X).nnz == 0
    adata.write_h5ad(tmp_path / "cells.h5ad")


def test_the_seed_the_blocks_and_the_order_of_genes_decide_nothing_else(
    class_model, make_cells, same, small_blocks, tmp_path
):
    adata, again = make_cells(), make_cells()
    order = np.random.default_rng(1).permutation(adata.n_vars)
    tl.denoise(adata, class_model, neighbors=4, n_samples=1, seed=3)
    again.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    tl.denoise(backed, class_model, neighbors=4, n_samples=1, seed=3, out=tmp_path / "out")
    for name in ("denoised", "denoised_sample1", "denoised_counts"):
        values = [sp.csr_matrix(one.layers[name]).toarray() for one in (adata, backed)]
        np.testing.assert_allclose(*values, rtol=1e-4)
    mixed = adata[:, order].copy()
    mixed.layers.clear()
    tl.denoise(mixed, class_model, neighbors=4)
    np.testing.assert_allclose(mixed.layers["denoised"], adata.layers["denoised"][:, order], rtol=1e-4)


def test_goes_on_after_a_kill(class_model, make_cells, small_blocks, tmp_path, monkeypatch):
    adata, whole = make_cells(), make_cells()
    tl.denoise(whole, class_model, neighbors=4)
    decode, calls = class_model.decode_from_cell, []

    def dies(*given):
        calls.append(1)
        if len(calls) > 2:  # weighing, then one block
            raise KeyboardInterrupt
        return decode(*given)

    monkeypatch.setattr(class_model, "decode_from_cell", dies)
    with pytest.raises(KeyboardInterrupt):
        tl.denoise(adata, class_model, neighbors=4, out=tmp_path / "out")
    assert not adata.layers
    monkeypatch.setattr(class_model, "decode_from_cell", decode)
    monkeypatch.setattr(class_model, "encode", None)  # embeddings are there already
    tl.denoise(adata, class_model, neighbors=4, out=tmp_path / "out")
    np.testing.assert_allclose(adata.layers["denoised"], whole.layers["denoised"], rtol=1e-5)


def test_bad_input(class_model, make_model, make_cells, human_vocab):
    adata = make_cells()
    largest = float(adata.X.sum(1).max())
    for depth, message in (
        (0, "must be finite and above 0"),
        (np.inf, "must be finite"),
        (largest - 1, "below the counts of 1 cells"),
        (np.ones(3), "shape"),
    ):
        with pytest.raises(ValueError, match=message):
            denoise_verb(adata, class_model, target_depth=depth)
    with pytest.raises(ValueError, match="neighbors=1"):
        denoise_verb(adata, class_model, neighbors=1)
    with pytest.raises(ValueError, match="neighbors=21"):
        denoise_verb(adata, class_model, neighbors=21)
    with pytest.raises(ValueError, match="n_samples=-1"):
        denoise_verb(adata, class_model, n_samples=-1)
    squared = make_model(decoder="mse")
    with pytest.raises(ValueError, match="predicts no counts"):
        denoise_verb(adata, squared)
    floats = make_cells()
    floats.X = floats.X * 0.5
    with pytest.raises(ValueError, match="not whole numbers"):
        denoise_verb(floats, class_model)
    assert not adata.layers
    assert open_cells(adata, class_model).totals.max() == largest
