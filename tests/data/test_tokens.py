from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from grnlab.data import CellTokens, SignatureTokens
from grnlab.data.tokens import expressed_context, sample_context, shared_context

COUNTS = sp.csr_matrix(np.array([[0, 2, 1], [5, 0, 0], [0, 0, 0]], dtype=np.float32))
TOKENS, TOTALS = np.array([4, 7, 9]), np.array([10.0, 20.0, 30.0])


def test_shared_context_shows_every_gene_with_zeros():
    cells = shared_context(COUNTS, TOKENS, TOTALS)
    assert len(cells) == 3
    assert cells.genes_BT.tolist() == [[4, 7, 9]] * 3
    assert cells.values_BT.tolist() == COUNTS.toarray().tolist()
    assert cells.totals_B.tolist() == TOTALS.tolist()
    assert cells.pad_BT is None
    assert cells.real_BT.all()


def test_expressed_context_shows_expressed_genes_padded():
    cells = expressed_context(COUNTS, TOKENS, TOTALS)
    assert cells.pad_BT.tolist() == [[False, False], [False, True], [True, True]]
    assert cells.genes_BT[cells.real_BT].tolist() == [7, 9, 4]
    assert cells.values_BT[cells.real_BT].tolist() == [2, 1, 5]
    assert (cells.values_BT[cells.pad_BT] == 0).all()


def test_expressed_context_without_padding_has_no_mask():
    assert expressed_context(COUNTS[:1], TOKENS, TOTALS[:1]).pad_BT is None


def test_moving_keeps_everything():
    cells = expressed_context(COUNTS, TOKENS, TOTALS)
    moved = cells.to("cpu")
    for name in ("genes_BT", "values_BT", "totals_B", "pad_BT"):
        assert torch.equal(getattr(moved, name), getattr(cells, name))
    assert moved.hidden_BT is None


@given(seed=st.integers(0, 1_000), n_tokens=st.integers(1, 50), share=st.sampled_from([0.0, 0.25, 1.0]))
def test_sampled_contexts_hold_distinct_available_genes_with_their_counts(seed, n_tokens, share):
    rng = np.random.default_rng(seed)
    available = np.sort(rng.choice(40, 30, replace=False))
    dense = np.zeros((5, 40), dtype=np.float32)
    dense[:, available] = rng.poisson(0.8, (5, 30))
    counts, rows = sp.csr_matrix(dense), np.array([3, 0, 3])
    tokens, values = sample_context(counts, rows, available, n_tokens, generator=rng, unexpressed=share)
    assert tokens.shape == values.shape == (3, min(n_tokens, 30))
    for row, genes, seen in zip(rows, tokens, values, strict=True):
        assert len(set(genes)) == len(genes)
        assert set(genes) <= set(available)
        np.testing.assert_array_equal(seen, dense[row, genes])


def test_a_share_is_kept_for_unexpressed_genes():
    dense = np.zeros((1, 100), dtype=np.float32)
    dense[0, :60] = 1
    rng = np.random.default_rng(0)
    _, values = sample_context(sp.csr_matrix(dense), np.array([0]), np.arange(100), 40, generator=rng)
    assert (values == 0).sum() == 10
    _, all_of_them = sample_context(sp.csr_matrix(dense), np.array([0]), np.arange(100), 100, generator=rng)
    assert (all_of_them == 0).sum() == 40


@pytest.mark.parametrize("seed", [0, 1])
def test_sampling_is_seeded(seed):
    counts = sp.csr_matrix(np.random.default_rng(9).poisson(1.0, (4, 50)).astype(np.float32))
    draw = [
        sample_context(counts, np.arange(4), np.arange(50), 20, generator=np.random.default_rng(seed)) for _ in range(2)
    ]
    np.testing.assert_array_equal(draw[0], draw[1])
    other = sample_context(counts, np.arange(4), np.arange(50), 20, generator=np.random.default_rng(seed + 7))
    assert not np.array_equal(draw[0][0], other[0])


def test_contexts_follow_the_generator():
    """Calls in a row draw anew, and a generator in the same state draws the same."""
    counts = sp.csr_matrix(np.random.default_rng(9).poisson(1.0, (4, 50)).astype(np.float32))
    rng = np.random.default_rng(3)
    first, second = (sample_context(counts, np.arange(4), np.arange(50), 20, generator=rng)[0] for _ in range(2))
    assert not np.array_equal(first, second)
    rng = np.random.default_rng(3)
    again, _ = sample_context(counts, np.arange(4), np.arange(50), 20, generator=rng)
    np.testing.assert_array_equal(first, again)


def test_an_expressed_gene_must_be_available():
    dense = np.zeros((1, 10), dtype=np.float32)
    dense[0, 7] = 1
    with pytest.raises(ValueError, match="row 0 expresses gene 7, which is not in available"):
        sample_context(sp.csr_matrix(dense), np.array([0]), np.arange(5), 3, generator=np.random.default_rng(0))


def test_tokens_become_a_kind_that_says_more():
    tokens = shared_context(sp.csr_matrix(np.ones((2, 3))), np.arange(3), np.full(2, 3.0))
    said = replace(tokens, labels={"cell": torch.tensor([0, 1])}).into(SignatureTokens, given=True)
    assert (type(said), said.given, said.drug_BF) == (SignatureTokens, True, None)
    assert said.genes_BT is tokens.genes_BT
    less = said.into(CellTokens, totals_B=torch.zeros(2))
    assert type(less) is CellTokens
    assert (less.totals_B.tolist(), less.labels["cell"].tolist()) == ([0, 0], [0, 1])
