import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from grnlab.data.select import select_genes


def data(n_cells=40, n_genes=60, *, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.negative_binomial(1, 1 / (1 + rng.gamma(0.6, 2.0, n_genes)), (n_cells, n_genes)).astype(np.float32)
    counts[:, 5] = 0
    counts[:, 0] += 1
    return sp.csr_matrix(counts), np.array([f"G{n}" for n in range(n_genes)]), np.arange(n_genes) < 10


def test_half_at_most_are_transcription_factors_the_most_frequent_first():
    counts, names, is_tf = data()
    chosen = select_genes(counts, names, is_tf, 8)
    assert len(chosen) == 8
    assert (np.diff(chosen) > 0).all()
    cells_with = np.asarray((counts > 0).sum(0)).ravel()
    frequent = np.argsort(-cells_with[:10], kind="stable")[:4]
    assert set(frequent) <= set(chosen)


@pytest.mark.parametrize(("n_cells_with", "first"), [(5, True), (4, False)])
def test_a_transcription_factor_in_few_cells_is_a_gene_like_any_other(n_cells_with, first):
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, (100, 30)).astype(np.float32)
    counts[:, 15:] = 0
    counts[:4, 15:] = rng.integers(2, 9, (4, 15))  # other rare genes, which vary more
    counts[:, 7] = 0
    counts[:n_cells_with, 7] = 1
    counts, names = sp.csr_matrix(counts), np.arange(30).astype(str)
    none = np.zeros(30, dtype=bool)
    plain = select_genes(counts, names, none, 4)
    chosen = select_genes(counts, names, np.arange(30) == 7, 4)
    assert 7 not in plain
    assert (7 in chosen) == first
    assert first or chosen.tolist() == plain.tolist()


def test_all_means_every_gene_seen():
    counts, names, is_tf = data()
    seen = np.flatnonzero(np.asarray(counts.sum(0)).ravel())
    assert select_genes(counts, names, is_tf, "all").tolist() == seen.tolist()
    assert select_genes(counts, names, is_tf, 10_000).tolist() == seen.tolist()
    assert 5 not in seen


def test_names_are_taken_as_given_even_unseen_ones():
    counts, names, is_tf = data()
    assert select_genes(counts, names, is_tf, ["G7", "G5", "G7"]).tolist() == [5, 7]


@pytest.mark.parametrize("number", [np.int64(6), 6, 6.0])
def test_whole_numbers_of_every_kind(number):
    assert len(select_genes(*data(), number)) == 6


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        ("most", "genes='most' is unknown; give a number, 'all', or a list"),
        ("2000", "genes='2000' is unknown"),
        (1, "genes=1 is too few"),
        (-3, "genes=-3 is too few"),
        (2.5, "not a whole number"),
        ([], "leaves 0 genes"),
        (["G1"], "leaves 1 genes"),
        (["G1", "G222"], r"1 names that are not among the mapped genes.*\['G222'\] \(nearest to the first: \['G22'"),
    ],
)
def test_bad_choices_are_named(genes, message):
    with pytest.raises(ValueError, match=message):
        select_genes(*data(), genes)


@pytest.mark.parametrize("n_expressed", [3, 5, 60])
def test_genes_without_any_variation_are_no_crash(n_expressed):
    counts = np.zeros((30, 60), dtype=np.float32)
    counts[:, :n_expressed] = 3
    chosen = select_genes(sp.csr_matrix(counts), np.arange(60).astype(str), np.zeros(60, dtype=bool), 2)
    assert len(chosen) == 2
    assert chosen.max() < n_expressed


@given(seed=st.integers(0, 10_000), n_genes=st.integers(2, 40))
@settings(max_examples=12, deadline=None)
def test_the_order_of_entries_within_a_row_and_the_input_do_not_matter(seed, n_genes):
    counts, names, is_tf = data(seed=seed)
    before = counts.toarray()
    shuffled = counts[:, np.random.default_rng(seed).permutation(60)]
    back = shuffled[:, np.argsort(np.random.default_rng(seed).permutation(60))]
    expected = select_genes(counts, names, is_tf, n_genes)
    np.testing.assert_array_equal(select_genes(back, names, is_tf, n_genes), expected)
    np.testing.assert_array_equal(counts.toarray(), before)


def test_the_choice_is_that_of_scanpy():
    import anndata as ad
    import scanpy as sc

    counts, names, is_tf = data(n_cells=100)
    chosen = select_genes(counts, names, np.zeros_like(is_tf), 20)
    seen = np.flatnonzero(np.asarray(counts.sum(0)).ravel())
    adata = ad.AnnData(counts[:, seen].copy())
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=20, flavor="seurat")
    assert set(chosen) == set(seen[adata.var["highly_variable"].to_numpy()])
