import itertools
import threading

import numpy as np
import pytest
import scipy.sparse as sp
from grnlab_kernels.sampling import sample_csr
from grnlab_kernels.sampling_loop import below
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

N_VOCAB = 60


def make_counts(*, seed=0, n_cells=6, n_vocab=N_VOCAB, n_available=45, mean=0.8, dtype=np.float32):
    """Counts of cells over a vocabulary, and the genes measured in them in random order."""
    rng = np.random.default_rng(seed)
    available = rng.permutation(n_vocab)[:n_available]
    dense = np.zeros((n_cells, n_vocab), dtype=dtype)
    dense[:, available] = rng.poisson(mean, (n_cells, n_available))
    return sp.csr_matrix(dense), available


def draw(counts, rows, available, n_tokens, **options):
    return sample_csr(counts.indptr, counts.indices, counts.data, rows, available, n_tokens, **{"seed": 0} | options)


@given(
    seed=st.integers(0, 2**64 - 1),
    n_tokens=st.integers(1, 60),
    share=st.floats(0, 1),
    rows=st.lists(st.integers(0, 5), max_size=6),
    mean=st.sampled_from([0.0, 0.05, 0.8, 5.0]),
)
def test_distinct_available_genes_with_their_counts_and_the_asked_share(seed, n_tokens, share, rows, mean):
    counts, available = make_counts(seed=seed, mean=mean)
    tokens, values = draw(counts, np.array(rows, dtype=int), available, n_tokens, seed=seed, unexpressed=share)
    width = min(n_tokens, 45)
    assert tokens.shape == values.shape == (len(rows), width)
    assert (tokens.dtype, values.dtype) == (np.int64, np.float32)
    dense = counts.toarray()
    for row, genes, seen in zip(rows, tokens, values, strict=True):
        assert len(set(genes)) == width
        assert set(genes) <= set(available)
        np.testing.assert_array_equal(seen, dense[row, genes])
        n_expressed = int((dense[row] > 0).sum())
        n_silent = int((seen == 0).sum())
        assert n_silent == max(min(round(share * width), 45 - n_expressed), width - n_expressed)
        assert (seen[: width - n_silent] > 0).all()


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("value", [np.float32, np.float64, np.int32, np.int64, np.uint16])
def test_index_and_count_types_do_not_matter(index, value):
    counts, available = make_counts()
    expected = draw(counts, np.arange(6), available, 20)
    got = sample_csr(
        counts.indptr.astype(index),
        counts.indices.astype(index),
        counts.data.astype(value),
        np.arange(6, dtype=index),
        available.astype(index),
        20,
        seed=0,
    )
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_strided_and_mapped_input(tmp_path):
    counts, available = make_counts()
    expected = draw(counts, np.arange(6), available, 20)
    strided = [np.repeat(x, 2)[::2] for x in (counts.indptr, counts.indices, counts.data)]
    np.testing.assert_array_equal(sample_csr(*strided, np.arange(6), available, 20, seed=0), expected)
    mapped = []
    for name in ("indptr", "indices", "data"):
        np.save(tmp_path / f"{name}.npy", getattr(counts, name))
        mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    np.testing.assert_array_equal(sample_csr(*mapped, np.arange(6), available, 20, seed=0), expected)


def test_a_draw_depends_on_seed_and_place_alone():
    counts, available = make_counts()
    tokens, _ = draw(counts, np.array([2, 2, 5]), available, 20)
    np.testing.assert_array_equal(draw(counts, np.array([2, 2, 5]), available, 20)[0], tokens)
    np.testing.assert_array_equal(draw(counts, np.array([0, 2, 1, 4]), available, 20)[0][1], tokens[1])
    assert not np.array_equal(tokens[0], tokens[1])
    assert not np.array_equal(draw(counts, np.array([2, 2, 5]), available, 20, seed=1)[0], tokens)


def test_seeds_and_places_share_no_stream():
    """Seed s at place p must not be seed s + 1 at place p - 1, nor any other of them."""
    counts, available = make_counts(n_cells=1, n_vocab=1000, n_available=900, mean=5.0)
    draws = [draw(counts, np.zeros(8, dtype=int), available, 12, seed=seed)[0] for seed in range(8)]
    streams = {tuple(row) for row in np.concatenate(draws)}
    assert len(streams) == 64


def test_threads_do_not_disturb_one_another():
    counts, available = make_counts(n_cells=200, n_vocab=500, n_available=400)
    rows, drawn = np.arange(200), {}
    expected = [draw(counts, rows, available, 100, seed=seed)[0] for seed in range(4)]

    def work(seed):
        drawn[seed] = [draw(counts, rows, available, 100, seed=seed)[0] for _ in range(5)]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, repeat in itertools.product(range(4), range(5)):
        np.testing.assert_array_equal(drawn[seed][repeat], expected[seed])


def times_drawn(n_expressed, n_available, n_tokens, share, *, n_cells=20_000):
    """How often each gene was drawn; the first genes are expressed."""
    counts = sp.csr_matrix(np.ones((1, n_expressed), dtype=np.float32))
    available = np.arange(n_available)[::-1]
    tokens, _ = draw(counts, np.zeros(n_cells, dtype=int), available, n_tokens, unexpressed=share, seed=11)
    times = np.bincount(tokens.ravel(), minlength=n_available)
    return times[:n_expressed], times[n_expressed:]


@pytest.mark.parametrize(
    ("n_expressed", "n_available", "n_tokens", "share"),
    [(30, 200, 20, 0.5), (30, 50, 20, 0.5), (40, 60, 50, 0.25), (3, 100, 20, 0.0)],
    ids=["by trial", "by list", "both nearly full", "few expressed"],
)
def test_genes_are_equally_likely(n_expressed, n_available, n_tokens, share):
    """Draws of a cell are without replacement, so the sum of squares is a bit small: the test is conservative."""
    for times in times_drawn(n_expressed, n_available, n_tokens, share):
        assert times.min() > 0
        if times.min() < times.max():
            assert chisquare(times).pvalue > 1e-3


@pytest.mark.parametrize(("n_expressed", "n_available"), [(5, 40), (5, 12)], ids=["by trial", "by list"])
def test_pairs_of_genes_are_equally_likely(n_expressed, n_available):
    """Each first gene with each second: draws within a cell are independent but for replacement."""
    counts = sp.csr_matrix(np.ones((1, n_expressed), dtype=np.float32))
    tokens, _ = draw(counts, np.zeros(40_000, dtype=int), np.arange(n_available), 4, unexpressed=0.5)
    for first, second, genes in ((0, 1, np.arange(n_expressed)), (2, 3, np.arange(n_expressed, n_available))):
        times = np.zeros((n_available, n_available))
        np.add.at(times, (tokens[:, first], tokens[:, second]), 1)
        times = times[np.ix_(genes, genes)]
        assert times.sum() == 40_000
        assert times.diagonal().sum() == 0
        assert chisquare(times[~np.eye(len(genes), dtype=bool)]).pvalue > 1e-3


def test_whole_numbers_below_a_bound_are_unbiased():
    """At 3 · 2³⁰, a remainder of 32 bits favours the lowest third; the high part of a product, multiples of 3."""
    state, drawn = np.uint64(5), []
    for _ in range(30_000):
        state, number = below(np.uint64(state), 3 << 30)  # numba hands back a Python int
        drawn.append(number)
    assert 0 <= min(drawn) <= max(drawn) < 3 << 30
    for third in (np.array(drawn) >> 30, np.array(drawn) % 3):
        assert chisquare(np.bincount(third, minlength=3)).pvalue > 1e-3


def test_stored_zeros_are_unexpressed():
    data, indices = np.array([0.0, 2.0, 0.0], dtype=np.float32), np.array([1, 3, 4])
    tokens, values = sample_csr(np.array([0, 3]), indices, data, np.array([0]), np.arange(5), 5, seed=0)
    assert tokens[0, 0] == 3
    assert values[0].tolist() == [2, 0, 0, 0, 0]
    assert sorted(tokens[0]) == [0, 1, 2, 3, 4]


def test_every_place_of_the_result_is_written(monkeypatch):
    counts, available = make_counts()
    expected = draw(counts, np.arange(6), available, 30)
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, -7, dtype=dtype))
    tokens, values = draw(counts, np.arange(6), available, 30)
    np.testing.assert_array_equal(tokens, expected[0])
    np.testing.assert_array_equal(values, expected[1])


BAD = {
    "n_tokens=0": ({"n_tokens": 0}, ValueError, "n_tokens=0 must be at least 1"),
    "unexpressed": ({"unexpressed": 1.5}, ValueError, r"unexpressed=1.5 must be a share in \[0, 1\]"),
    "negative seed": ({"seed": -1}, ValueError, r"seed=-1 must be a whole number in \[0, 2\*\*64\)"),
    "row too high": ({"rows": np.array([0, 2])}, ValueError, "rows holds 0 to 2; expected cells in 0 to 1"),
    "row negative": ({"rows": np.array([-1])}, ValueError, "rows holds -1 to -1"),
    "float rows": ({"rows": np.array([0.0])}, TypeError, r"rows has shape \(1,\) and dtype float64; expected integers"),
    "matrix of rows": ({"rows": np.array([[0]])}, TypeError, r"rows has shape \(1, 1\)"),
    "nothing available": ({"available": np.array([], dtype=int)}, ValueError, "available holds nothing"),
    "negative gene": ({"available": np.array([-1, 2])}, ValueError, "available holds -1 to 2; expected"),
    "gene far out": ({"available": np.array([0, 2**40])}, ValueError, "none negative or above"),
    "repeated": ({"available": np.array([0, 1, 2, 1])}, ValueError, "available holds gene 1 twice; pass np.unique"),
    "not available": ({"available": np.array([0, 1])}, ValueError, "row 0 expresses gene 2, which is not in available"),
    "stored twice": ({"indices": np.array([2, 2, 1])}, ValueError, r"row 0 stores gene 2 twice; call sum_duplicates"),
    "negative index": ({"indices": np.array([0, -2, 1])}, ValueError, "row 0 expresses gene -2"),
    "data too short": ({"data": np.ones(2)}, TypeError, r"data has shape \(2,\) and dtype float64; expected 3 numbers"),
    "data of names": ({"data": np.array(["a", "b", "c"])}, TypeError, "data has shape"),
    "foreign indptr": ({"indptr": np.array([0, 9, 9])}, ValueError, "indptr of row 0 does not point into indices"),
    "falling indptr": ({"indptr": np.array([2, 1, 3])}, ValueError, "indptr of row 0 does not point"),
    "no indptr": ({"indptr": np.array([], dtype=int), "rows": np.array([], dtype=int)}, ValueError, "indptr is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    changes, error, match = BAD[name]
    good = {
        "indptr": np.array([0, 2, 3]),
        "indices": np.array([0, 2, 1]),
        "data": np.ones(3, dtype=np.float32),
        "rows": np.array([0, 1]),
        "available": np.arange(5),
        "n_tokens": 3,
        "seed": 0,
    }
    sample_csr(**good)
    with pytest.raises(error, match=match):
        sample_csr(**good | changes)
