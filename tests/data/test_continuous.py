import anndata as ad
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grnlab.data.continuous import pseudo_counts
from grnlab.data.counts import check_counts


def levels(values):
    made = ad.AnnData(np.asarray(values, dtype=float))
    made.obs["batch"] = "one"
    return made


def test_log2_of_the_counts_is_the_z_score():
    values = np.random.default_rng(0).normal(size=(200, 6)) * [1, 10, 0.01, 1, 1, 1] + [0, 5, -3, 0, 0, 0]
    counts = check_counts(pseudo_counts(levels(values)).X).toarray()
    z = (values - values.mean(0)) / values.std(0)
    assert np.abs(np.log2(counts) - 5 - z.clip(-3, 3)).max() < 0.2
    assert counts.min() >= 4
    assert counts.max() <= 256


@given(st.integers(0, 1_000), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_shift_and_scale_of_a_gene_have_no_effect(seed, scale, shift):
    values = np.random.default_rng(seed).normal(size=(20, 2))
    first, second = (pseudo_counts(levels(x)).X.toarray() for x in (values, values * scale + shift))
    assert np.abs(first - second).max() <= 1  # a value on the edge of two whole numbers


def test_a_constant_gene_is_constant_and_obs_is_kept():
    found = pseudo_counts(levels([[1.0, 0.1], [2.0, 0.1], [3.0, 0.1]]))
    assert found.X.toarray()[:, 1].tolist() == [32, 32, 32]
    assert found.obs["batch"].tolist() == ["one"] * 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0], [np.nan], [2.0]], "first in sample 1, gene 0"),
        ([[1.0, 2.0], [2.0, 1.0]], "2 samples"),
        ([[1.0], [1.0], [1.0]], "no gene of adata varies"),
    ],
)
def test_bad_input(values, message):
    with pytest.raises(ValueError, match=message):
        pseudo_counts(levels(values))


def test_a_layer():
    adata = levels([[1.0], [1.0], [1.0]])
    adata.layers["level"] = np.array([[1.0], [2.0], [3.0]])
    assert pseudo_counts(adata, layer="level").X.toarray().ravel().tolist() == [14, 32, 75]
    with pytest.raises(ValueError, match="layer='other' is not"):
        pseudo_counts(adata, layer="other")
