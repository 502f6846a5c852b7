import numpy as np
import pytest
import scipy.sparse as sp

from grnlab.training.gene_vectors import coexpression_vectors


def two_programmes(n_cells=200, *, seed=0):
    """Genes 0-9 go together, genes 10-19 too; gene 20 is never seen; means span two orders of magnitude."""
    rng = np.random.default_rng(seed)
    activity = rng.normal(size=(n_cells, 2))
    rate = np.exp(np.repeat(activity, 10, axis=1)) * np.tile(np.geomspace(0.3, 30, 10), 2)
    counts = rng.poisson(np.column_stack([rate, np.zeros(n_cells)]))
    return sp.csr_matrix(counts, dtype=np.float32)


def test_shape_scale_and_seed():
    counts = two_programmes()
    vectors = coexpression_vectors(counts, 8, seed=1)
    assert vectors.shape == (21, 8)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose((vectors[:20, :-1] ** 2).mean(axis=1), 1, rtol=1e-4)
    np.testing.assert_array_equal(coexpression_vectors(counts, 8, seed=1), vectors)
    assert not np.array_equal(coexpression_vectors(counts, 8, seed=2)[20], vectors[20])


def test_genes_of_a_programme_are_neighbours():
    vectors = coexpression_vectors(two_programmes(), 4)[:20, :-1]
    cosine = vectors @ vectors.T / 3
    programme = np.repeat([0, 1], 10)
    same = programme[:, None] == programme
    assert cosine[same].mean() > cosine[~same].mean() + 0.3


def test_last_coordinate_is_the_standardised_log_mean():
    counts = two_programmes()
    level = coexpression_vectors(counts, 8)[:20, -1]
    total = np.asarray(counts.sum(axis=1)).reshape(-1, 1)
    normalised = np.log1p(counts.toarray() / total * 1e4)
    expected = np.log(normalised[:, :20].mean(axis=0) + 1e-4)
    np.testing.assert_allclose(level, (expected - expected.mean()) / expected.std(), atol=1e-4)


def test_counts_are_not_changed():
    counts = two_programmes()
    before = counts.copy()
    coexpression_vectors(counts, 8)
    assert (counts != before).nnz == 0


@pytest.mark.parametrize("n_cells", [7, 8, 30, 31])
def test_an_empty_cell_and_equal_means(n_cells):
    counts = sp.csr_matrix(np.vstack([np.zeros(12), np.ones((n_cells - 1, 12))]).astype(np.float32))
    vectors = coexpression_vectors(counts, 4)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[:, -1], 0, atol=1e-3)


@pytest.mark.parametrize("shape", [(8, 50), (50, 8)])
def test_too_little_data(shape):
    with pytest.raises(ValueError, match=r"length 8 need more cells .* and genes"):
        coexpression_vectors(sp.csr_matrix(np.ones(shape, dtype=np.float32)), 8)
