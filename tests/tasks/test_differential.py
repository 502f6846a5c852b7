import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from grnlab import tl


@pytest.fixture
def adata():
    """Gene 3 marks the rare group, weakly in the counts, clearly in the layer; gene 0 is never seen."""
    rng = np.random.default_rng(0)
    rates = np.full((60, 8), 3.0)
    rates[:6, 3], rates[:, 0] = 6.0, 0.0
    obs = pd.DataFrame({"type": ["rare"] * 6 + ["a"] * 30 + ["b"] * 24}, index=map(str, range(60)))
    cells = ad.AnnData(sp.csr_matrix(rng.poisson(rates).astype(np.float32)), obs=obs)
    cells.layers["denoised"] = (
        rates.astype(np.float32) + rng.normal(scale=0.1, size=rates.shape).astype(np.float32) ** 2
    )
    cells.var["denoised"] = np.arange(8) != 7
    return cells


def test_columns_are_the_tests_they_claim(adata):
    table = tl.differential(adata, "type", "rare")
    scaled = adata.X.toarray() / adata.X.toarray().sum(1, keepdims=True) * 1e4
    inside = adata.obs["type"] == "rare"
    for gene in ("1", "3"):
        values = scaled[:, int(gene)]
        assert table.loc[gene, "auroc_before"] == pytest.approx(roc_auc_score(inside, values))
        expected = mannwhitneyu(values[inside], values[~inside], method="asymptotic").pvalue
        assert table.loc[gene, "p_before"] == pytest.approx(expected, rel=1e-4)
        fold = np.log2((values[inside].mean() + 1e-2) / (values[~inside].mean() + 1e-2))
        assert table.loc[gene, "log2fc_before"] == pytest.approx(fold, rel=1e-4)
    assert table.index[0] == "3"
    assert table.loc["3", "rank_after"] == 1
    assert table.loc["3", "auroc_after"] == 1.0
    assert table.loc["0", "p_before"] == 1.0
    assert not table.loc["7", "denoised"]
    assert (table["padj_before"] >= table["p_before"] - 1e-12).all()


def test_reference_and_slots(adata, tmp_path):
    pair = tl.differential(adata, "type", "rare", reference="b")
    rest = tl.differential(adata, "type", "a")
    assert not np.allclose(pair["auroc_before"], rest["auroc_before"].reindex(pair.index))
    assert list(adata.uns["differential"]) == ["rare", "a"]
    pd.testing.assert_frame_equal(adata.uns["differential"]["rare"], pair)
    adata.write_h5ad(tmp_path / "cells.h5ad")


def test_bad_input(adata):
    with pytest.raises(ValueError, match="denoised='smooth' is not in"):
        tl.differential(adata, "type", "rare", denoised="smooth")
    with pytest.raises(ValueError, match="group='c' is no value of 'type'"):
        tl.differential(adata, "type", "c")
    with pytest.raises(ValueError, match="reference='c' is no value"):
        tl.differential(adata, "type", "rare", reference="c")
    with pytest.raises(ValueError, match="is the group itself"):
        tl.differential(adata, "type", "rare", reference="rare")
    with pytest.raises(ValueError, match="two of each are needed"):
        tl.differential(adata[5:].copy(), "type", "rare")
