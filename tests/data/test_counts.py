import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grnlab.attention.null import shuffle_genes
from grnlab.data import check_counts, check_signatures, recover_counts, sum_duplicate_genes
from grnlab.data.continuous import pseudo_counts
from grnlab.data.counts import counts_of, totals_of
from grnlab.datasets import pbmc68k

COUNTS = np.array([[0, 2, 1], [1, 0, 300]])


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array, pd.DataFrame])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "float64", "int16"])
def test_counts_of_every_kind_come_out_as_csr_float32(kind, dtype):
    given_counts = np.minimum(COUNTS, 200).astype(dtype)
    found = check_counts(kind(given_counts))
    assert isinstance(found, sp.csr_matrix)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.toarray(), given_counts)


def test_the_caller_keeps_its_matrix():
    matrix = sp.csr_matrix(COUNTS.astype(np.float32))
    matrix.data[0] = 0  # an explicit zero, as after a mask
    before = matrix.copy()
    found = check_counts(matrix)
    assert found.nnz == 3
    np.testing.assert_array_equal(matrix.indices, before.indices)
    np.testing.assert_array_equal(matrix.indptr, before.indptr)
    np.testing.assert_array_equal(matrix.toarray(), before.toarray())


def test_repeated_and_unsorted_entries_are_summed_and_sorted():
    matrix = sp.csr_matrix((np.ones(4, dtype=np.float32), [2, 0, 2, 1], [0, 3, 4]), shape=(2, 3))
    found = check_counts(matrix)
    assert found.indices.tolist() == [0, 2, 1]
    assert found.data.tolist() == [1, 2, 1]
    assert matrix.indices.tolist() == [2, 0, 2, 1]


def test_almost_whole_numbers_are_rounded():
    assert check_counts(np.array([[1.0004, 2.9996]])).toarray().tolist() == [[1, 3]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1.0, r"X holds negative values \(down to -1\).*layer='counts'"),
        (np.nan, r"1 NaN or infinite values \(the first in cell 1, gene 2\)"),
        (np.inf, r"1 NaN or infinite values \(the first in cell 1, gene 2\)"),
        (0.5, r"not whole numbers \(for example 0\.5, largest 2\).*gl\.pp\.recover_counts"),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_values_that_are_no_counts_are_named(value, message, kind):
    X = COUNTS.astype(float)
    X[1, 2] = value
    with pytest.raises(ValueError, match=message):
        check_counts(kind(X), name="X")


@pytest.mark.parametrize("X", [np.array([[True, False]]), np.array([["a", "b"]]), np.array([[1j, 1]]), [["a"]]])
def test_what_is_no_number_is_refused(X):
    with pytest.raises(ValueError, match=r"X has dtype .*Load the raw counts"):
        check_counts(X, name="X")


@pytest.mark.parametrize("X", [None, np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((2, 2)), sp.csr_matrix((2, 2))])
def test_nothing_is_refused(X):
    with pytest.raises(ValueError, match=r"X (has shape|is empty)"):
        check_counts(X, name="X")


def adata_of(X, **more):
    return ad.AnnData(np.asarray(X, dtype=float), **more)


def test_a_layer_is_taken_when_asked_for():
    adata = adata_of(COUNTS / 3.7, layers={"counts": COUNTS})
    np.testing.assert_array_equal(counts_of(adata, layer="counts").toarray(), COUNTS)


def test_an_unknown_layer_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"layer='cuonts' is not in adata\.layers; there are \['counts'\]"):
        counts_of(adata_of(COUNTS, layers={"counts": COUNTS}), layer="cuonts")


def test_the_message_names_the_layer_that_holds_counts():
    adata = adata_of(COUNTS / 3.7, layers={"scaled": COUNTS - 1.5, "umi": COUNTS})
    with pytest.raises(ValueError, match=r"adata\.layers\['umi'\] does hold counts: pass layer='umi' \(--layer umi\)"):
        counts_of(adata)


def test_the_message_names_raw_when_it_holds_counts():
    adata = adata_of(COUNTS)
    adata.raw = adata.copy()
    adata.X = COUNTS / 3.7
    with pytest.raises(ValueError, match=r"adata\.raw does hold counts: pass adata\.raw\.to_adata\(\)"):
        counts_of(adata)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_backed_files_are_read(kind, tmp_path):
    ad.AnnData(kind(COUNTS.astype(np.float32))).write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    np.testing.assert_array_equal(counts_of(backed).toarray(), COUNTS)


# --- counts recovered


def logged(counts, target):
    return np.log1p(counts / counts.sum(1, keepdims=True) * target)


@given(
    hnp.arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 12)), elements=st.integers(0, 400)),
    st.floats(10, 1e6),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
)
@settings(max_examples=80)
def test_log_normalised_counts_come_back(counts, target, dtype, sparse):
    counts[:, 0] = 1  # the least count of a cell is taken for one
    values = logged(counts, target).astype(dtype)
    found = recover_counts(ad.AnnData(sp.csr_matrix(values) if sparse else values))
    np.testing.assert_array_equal(found.X.toarray(), counts)
    assert found.uns["recovered_counts"]["largest_residue"] < 0.05


def test_input_names_and_labels_are_kept_and_the_input_is_not_changed():
    adata = ad.AnnData(logged(COUNTS, 1e4), obs={"cell_type": ["a", "b"]}, var=pd.DataFrame(index=["A", "B", "C"]))
    before = adata.X.copy()
    found = recover_counts(adata)
    assert found.obs["cell_type"].tolist() == ["a", "b"]
    assert found.var_names.tolist() == ["A", "B", "C"]
    assert found.X.dtype == np.float32
    np.testing.assert_array_equal(adata.X, before)


def test_raw_is_taken_when_asked_for_and_must_be_there():
    adata = ad.AnnData(logged(COUNTS, 1e4))
    with pytest.raises(ValueError, match=r"adata\.raw is None"):
        recover_counts(adata, use_raw=True)
    adata.raw = adata.copy()
    adata.X = adata.X - 5
    np.testing.assert_array_equal(recover_counts(adata, use_raw=True).X.toarray(), COUNTS)


@pytest.mark.parametrize(
    "transform",
    [
        lambda scaled: np.log1p(scaled) - np.log1p(scaled).mean(0),
        lambda scaled: np.log2(1 + scaled),
        lambda scaled: np.log10(1 + scaled),
        np.sqrt,
        lambda scaled: np.log1p(scaled) / np.log1p(scaled).std(0),
        lambda scaled: np.log1p(scaled + 0.3),
    ],
    ids=["scaled", "log2", "log10", "square root", "unit variance", "shifted"],
)
def test_what_is_no_log1p_of_scaled_counts_is_refused(transform):
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 4.0, (20, 40)))
    counts[:, 0] += 1
    with pytest.raises(ValueError, match=r"is not log1p of counts|that log1p of scaled counts cannot have"):
        recover_counts(ad.AnnData(transform(counts / counts.sum(1, keepdims=True) * 1e4)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 800.0, -0.1])
def test_impossible_values_are_refused(value):
    values = logged(COUNTS, 1e4)
    values[0, 1] = value
    with pytest.raises(ValueError, match=r"cannot have.*raw counts of the study"):
        recover_counts(ad.AnnData(values))


def test_no_value_at_all_is_refused():
    with pytest.raises(ValueError, match="none but 0"):
        recover_counts(ad.AnnData(np.zeros((2, 2))))


def test_a_cell_without_counts_stays_empty():
    values = np.vstack([logged(COUNTS, 1e4), np.zeros((1, 3))])
    np.testing.assert_array_equal(recover_counts(ad.AnnData(values)).X.toarray()[2], 0)


def test_the_bundled_blood_cells_invert_to_whole_numbers():
    adata = pbmc68k()
    assert adata.shape == (700, 765)
    values = adata.X.toarray()
    np.testing.assert_array_equal(values, np.rint(values))
    assert values.min() == 0
    assert 0 < adata.uns["recovered_counts"]["largest_residue"] < 0.1
    assert adata.obs["cell_type"].nunique() == 10


# --- duplicated genes


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_columns_of_a_name_are_added_up_in_their_first_place(kind):
    X = kind(np.array([[1.0, 2, 3, 4], [5, 0, 0, 1]]))
    adata = ad.AnnData(X, var=pd.DataFrame({"note": list("wxyz")}, index=["B", "A", "B", "C"]))
    found = sum_duplicate_genes(adata)
    assert found.var_names.tolist() == ["B", "A", "C"]
    assert found.X.toarray().tolist() == [[4, 2, 4], [5, 0, 1]]
    assert found.var["note"].tolist() == ["w", "x", "z"]
    assert found.obs_names.tolist() == adata.obs_names.tolist()


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_pointers_that_make_no_rows_are_told_and_not_followed(kind):
    matrix = kind(np.array([[1.0, 2.0], [0.0, 3.0], [4.0, 0.0]]))
    matrix.indptr[1] = -(2**31)  # which scipy's sorting follows for ever
    with pytest.raises(ValueError, match=r"X is damaged.*Restore the original file"):
        check_counts(matrix, name="X")


def test_totals_of_cells_without_counts_are_refused():
    counts, names = sp.csr_matrix([[1.0, 2], [0, 0], [0, 3]]), pd.Index(["a", "b", "c"])
    assert totals_of(counts[[0, 2]], names[[0, 2]]).tolist() == [3, 3]
    with pytest.raises(ValueError, match="1 cells have no counts, the first is 'b'"):
        totals_of(counts, names)


@pytest.mark.parametrize("read", [sum_duplicate_genes, pseudo_counts, check_signatures, counts_of, shuffle_genes])
def test_an_empty_matrix_is_told(read):
    with pytest.raises(ValueError, match=r"adata.X is empty \(None\)"):
        read(ad.AnnData(obs=pd.DataFrame(index=["a", "b"]), var=pd.DataFrame(index=["A"])))


@pytest.mark.parametrize("wrong", [np.uint32(2**32 - 1), np.uint64(2**64 - 1), np.float64(1e300)])
def test_what_nobody_can_have_counted_is_refused(wrong):
    counts = COUNTS.astype(wrong.dtype)
    counts[0, 0] = wrong
    for matrix in (counts, sp.csr_matrix(counts)):
        with pytest.raises(ValueError, match="which nobody has counted"):
            check_counts(matrix)


@pytest.mark.parametrize(
    ("layers", "mend"),
    [
        ((), "there are none, so leave it out to use adata.X."),
        (("counts",), r"\['counts'\] \(did you mean 'counts'\?\)."),
    ],
)
def test_a_layer_that_does_not_exist(layers, mend):
    adata = ad.AnnData(np.ones((2, 2)), layers=dict.fromkeys(layers, np.ones((2, 2))))
    with pytest.raises(ValueError, match=f"layer='count' is not in adata.layers; .*{mend}"):
        counts_of(adata, layer="count")
