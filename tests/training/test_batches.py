import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from grnlab.data import CellCollection, sample_context
from grnlab.objectives import Denoise, Mask
from grnlab.training.batches import CellStream, FixedBatches, no_collate, seed_dropout, seeded

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


OPTIONS = {"objectives": (), "batch_size": 4, "n_tokens": 6, "seed": 3}


def stream(cells, *, weights=None, **options):
    weights = np.ones(len(cells)) if weights is None else weights
    return CellStream(cells, np.arange(len(cells)), weights, **(OPTIONS | options))


def draw(source, number):
    [batch] = source.draw(number)
    return batch.target


def same(first, second):
    return all(torch.equal(getattr(first, x), getattr(second, x)) for x in ("genes_BT", "values_BT", "totals_B"))


def same_batch(first, second):
    return first.number == second.number and same(first.target, second.target) and same(first.seen, second.seen)


def test_a_batch_depends_on_seed_and_number_alone(cells):
    batches = [batch.target for batch in itertools.islice(stream(cells), 4)]
    assert not same(batches[0], batches[1])
    assert same(draw(stream(cells), 2), batches[2])
    assert same(next(iter(stream(cells, first_step=3))).target, batches[3])
    assert not same(draw(stream(cells, seed=4), 2), batches[2])


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_processes_share_the_batches_of_each_step(cells, world_size):
    numbers = [
        [batch.number for batch in itertools.islice(
            stream(cells, accumulate=6, first_step=5, rank=rank, world_size=world_size), 12 // world_size)]
        for rank in range(world_size)
    ]  # fmt: skip
    share = 6 // world_size
    steps = [[n for of_rank in numbers for n in of_rank[step * share : (step + 1) * share]] for step in (0, 1)]
    assert steps == [list(range(30, 36)), list(range(36, 42))]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("read_ahead", [1, 2])
def test_batches_of_workers_come_in_order(cells, workers, read_ahead):
    source = stream(cells, objectives=[Mask(0.5)], accumulate=4, world_size=2, rank=1)
    source.read_ahead = read_ahead
    loader = DataLoader(source, batch_size=None, collate_fn=no_collate, num_workers=workers)
    expected = itertools.islice(stream(cells, objectives=[Mask(0.5)], accumulate=4, world_size=2, rank=1), 7)
    got = list(itertools.islice(loader, 7))
    assert [batch.number for batch in got] == [2, 3, 6, 7, 10, 11, 14]
    assert all(same_batch(x, y) for x, y in zip(got, expected, strict=True))


def test_corruptions_are_chained_and_depend_on_seed_and_number(cells):
    objectives = [Denoise(), Mask(0.5)]
    source = stream(cells, objectives=objectives, batch_size=50)
    one, same_one = source.draw(1, 1)
    [two] = source.draw(2)
    assert torch.equal(one.seen.hidden_BT, same_one.seen.hidden_BT)
    assert not torch.equal(one.seen.hidden_BT, two.seen.hidden_BT)
    generator, seen = seeded(3, 1), one.target
    for objective in objectives:
        seen = objective.corrupt(seen, generator=generator)
    assert torch.equal(one.seen.values_BT, seen.values_BT)
    assert torch.equal(one.seen.hidden_BT, seen.hidden_BT)
    assert one.target.hidden_BT is None
    assert (one.seen.values_BT < one.target.values_BT).any()


def test_batches_know_their_cells_and_move(cells):
    [batch] = stream(cells, objectives=[Mask(0.5)]).draw(7)
    np.testing.assert_array_equal(batch.rows, batch.target.totals_B.long() - 1)
    moved = batch.to(torch.device("meta"))
    assert (moved.number, moved.rows is batch.rows) == (7, True)
    assert moved.seen.hidden_BT.device.type == moved.target.labels["x"].device.type == "meta"


def test_batches_hold_true_counts(cells):
    batch = draw(stream(cells, batch_size=64), 0)
    rows = batch.totals_B.long() - 1
    assert batch.genes_BT.shape == batch.values_BT.shape == (64, 6)
    assert batch.pad_BT is None
    expected = cells.counts.toarray()[rows[:, None], batch.genes_BT]
    np.testing.assert_array_equal(batch.values_BT, expected)
    np.testing.assert_array_equal(batch.labels["x"], rows)


def test_rows_and_weights_are_respected(cells):
    weights = np.array([1.0, 0.0, 3.0, 0.0, 4.0])
    chosen = np.array([2, 5, 7, 11, 14])
    source = CellStream(cells, chosen, weights, objectives=(), batch_size=4_000, n_tokens=2, seed=0)
    rows = draw(source, 0).totals_B.long().numpy() - 1
    share = (rows[:, None] == chosen).mean(axis=0)
    np.testing.assert_allclose(share, weights / 8, atol=0.03)
    assert share[weights == 0].max() == 0
    assert share.sum() == 1


def test_fixed_batches_cover_each_cell_once_and_repeat(cells):
    rows = np.array([1, 4, 5, 8, 9, 12, 14])
    source = FixedBatches(cells, rows, **(OPTIONS | {"batch_size": 3, "objectives": [Mask(0.5)]}))
    first, again = list(source), list(source)
    assert [len(batch.target) for batch in first] == [3, 3, 1]
    np.testing.assert_array_equal(torch.cat([batch.target.totals_B for batch in first]) - 1, rows)
    assert all(same_batch(x, y) for x, y in zip(first, again, strict=True))


@pytest.mark.parametrize("world_size", [2, 3, 4, 5])
def test_fixed_batches_of_processes_are_those_of_one(cells, world_size):
    rows = np.arange(10)
    alone = list(FixedBatches(cells, rows, **(OPTIONS | {"batch_size": 3})))
    shares = [
        list(FixedBatches(cells, rows, **(OPTIONS | {"batch_size": 3}), rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({len(share) for share in shares}) == 1  # all processes take part in every batch
    source = FixedBatches(cells, rows, **(OPTIONS | {"batch_size": 3}))
    counted = [batch for share in shares for batch in share if batch.number < source.n_batches]
    assert source.n_batches == len(alone) == len(counted) == 4
    assert all(same_batch(x, y) for x, y in zip(sorted(counted, key=lambda x: x.number), alone, strict=True))


def test_small_data_sets_are_padded(cells):
    batch = draw(stream(cells, n_tokens=18), 0)
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


def test_generators_of_batches():
    draws = [
        torch.rand(3, generator=seeded(seed, number)).tolist() for seed, number in ((0, 1), (0, 1), (0, 2), (1, 1))
    ]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert draws[0] != draws[3]
    seeded(2**40, 2**30)


def test_dropout_is_seeded_by_batch_and_unlike_the_corruptions():
    def drawn(seed, number):
        seed_dropout(seed, number, torch.device("cpu"))
        return torch.rand(3).tolist()

    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1) != drawn(0, 2)
    assert drawn(0, 1) != drawn(1, 1)
    assert drawn(0, 1) != torch.rand(3, generator=seeded(0, 1)).tolist()
    seed_dropout(2**40, 2**30, torch.device("cpu"))
