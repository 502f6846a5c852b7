import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from grnlab.data import CellCollection, sample_context
from grnlab.training.batches import CellStream, FixedBatches, seeded

N_GENES = 20


def make_cells(n_cells=15, *, seed=0):
    """Two data sets: the first measures genes 0-14, the second genes 5-19; `totals` number the cells."""
    rng = np.random.default_rng(seed)
    datasets = np.arange(n_cells) % 2
    available = [np.arange(15), np.arange(5, 20)]
    counts = np.zeros((n_cells, N_GENES), dtype=np.float32)
    for row, dataset in enumerate(datasets):
        genes = available[dataset]
        counts[row, genes] = rng.poisson(2.0, len(genes)) * (rng.random(len(genes)) < rng.random())
    return CellCollection(
        sp.csr_matrix(counts), datasets, ["one", "two"], available, np.arange(n_cells) + 1.0, {"x": np.arange(n_cells)}
    )


@pytest.fixture
def cells():
    return make_cells()


def stream(cells, *, weights=None, **options):
    options = {"batch_size": 4, "n_tokens": 6, "seed": 3} | options
    weights = np.ones(len(cells)) if weights is None else weights
    return CellStream(cells, np.arange(len(cells)), weights, **options)


def same(first, second):
    return all(torch.equal(getattr(first, x), getattr(second, x)) for x in ("genes_BT", "values_BT", "totals_B"))


def test_a_batch_depends_on_seed_and_number_alone(cells):
    batches = list(itertools.islice(stream(cells), 4))
    assert not same(batches[0], batches[1])
    assert same(stream(cells).draw(2), batches[2])
    assert same(next(iter(stream(cells, first=3))), batches[3])
    assert not same(stream(cells, seed=4).draw(2), batches[2])


def test_batches_hold_true_counts(cells):
    batch = stream(cells, batch_size=64).draw(0)
    rows = batch.totals_B.long() - 1
    assert batch.genes_BT.shape == batch.values_BT.shape == (64, 6)
    assert batch.pad_BT is None
    expected = cells.counts.toarray()[rows[:, None], batch.genes_BT]
    np.testing.assert_array_equal(batch.values_BT, expected)
    np.testing.assert_array_equal(batch.labels["x"], rows)


def test_rows_and_weights_are_respected(cells):
    weights = np.array([1.0, 0.0, 3.0, 0.0, 4.0])
    chosen = np.array([2, 5, 7, 11, 14])
    source = CellStream(cells, chosen, weights, batch_size=4_000, n_tokens=2, seed=0)
    rows = source.draw(0).totals_B.long().numpy() - 1
    share = (rows[:, None] == chosen).mean(axis=0)
    np.testing.assert_allclose(share, weights / 8, atol=0.03)
    assert share[weights == 0].max() == 0
    assert share.sum() == 1


def test_fixed_batches_cover_each_cell_once_and_repeat(cells):
    rows = np.array([1, 4, 5, 8, 9, 12, 14])
    source = FixedBatches(cells, rows, batch_size=3, n_tokens=6, seed=0)
    first, again = list(source), list(source)
    assert [len(batch) for batch in first] == [3, 3, 1]
    np.testing.assert_array_equal(torch.cat([batch.totals_B for batch in first]) - 1, rows)
    assert all(same(x, y) for x, y in zip(first, again, strict=True))


def test_small_data_sets_are_padded(cells):
    batch = stream(cells, n_tokens=18).draw(0)
    assert batch.pad_BT.sum(-1).tolist() == [3] * 4
    assert batch.pad_BT[:, 15:].all()
    assert batch.values_BT[batch.pad_BT].abs().max() == 0


@given(
    seed=st.integers(0, 1_000),
    n_tokens=st.integers(1, 25),
    unexpressed=st.floats(0, 1),
    rows=st.lists(st.sampled_from(range(0, 15, 2)), min_size=1, max_size=5),
)
def test_contexts(seed, n_tokens, unexpressed, rows):
    cells = make_cells(seed=seed)
    tokens, values = sample_context(
        cells.counts,
        np.array(rows),
        cells.available[0],
        n_tokens,
        generator=np.random.default_rng(seed),
        unexpressed=unexpressed,
    )
    width = min(n_tokens, 15)
    assert tokens.shape == values.shape == (len(rows), width)
    dense = cells.counts.toarray()
    for row, genes, counts in zip(rows, tokens, values, strict=True):
        assert len(set(genes)) == width
        assert set(genes) <= set(range(15))
        np.testing.assert_array_equal(counts, dense[row, genes])
        n_expressed = int((dense[row] > 0).sum())
        silent = width - int((counts > 0).sum())
        least = min(round(unexpressed * width), 15 - n_expressed)
        assert silent == max(least, width - n_expressed)


def test_every_expressed_gene_has_its_turn(cells):
    row = int(np.diff(cells.counts.indptr)[::2].argmax() * 2)
    rows = np.full(300, row)
    tokens, values = sample_context(cells.counts, rows, cells.available[0], 5, generator=np.random.default_rng(0))
    genes, times = np.unique(tokens[values > 0], return_counts=True)
    np.testing.assert_array_equal(genes, np.sort(cells.counts[row].indices))
    assert times.min() > 0.6 * times.mean()


def test_generators_of_steps():
    draws = [
        torch.rand(3, generator=seeded(seed, number)).tolist() for seed, number in ((0, 1), (0, 1), (0, 2), (1, 1))
    ]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert draws[0] != draws[3]
    seeded(2**40, 2**30)
