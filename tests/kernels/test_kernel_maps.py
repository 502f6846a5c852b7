"""Kernel maps against their definition, dense and in float64."""

import itertools

import numpy as np
import pytest
import torch
from grnlab_kernels import (
    MapOptions,
    auprc_from_histograms,
    combine_map,
    gather_pairs,
    head_gram,
    head_hist,
    map_panels,
    map_source,
    pair_hist,
    reference,
    topk_edges,
)

N = 37
KINDS = list(itertools.product((False, True), repeat=3))  # symmetrize, apc, transpose


@pytest.fixture
def features():
    drawn = torch.Generator().manual_seed(0)
    q, k = torch.rand(2, 3, N, 5, generator=drawn) ** 3
    return q, k, torch.tensor([0.5, 2.0, 0.0])


def dense(q, k):
    products = q.double() @ k.double().mT
    return (products / products.sum(-1, keepdim=True)).nan_to_num(0.0)


def expected_map(q, k, weights, symmetrize, apc, transpose):
    share = weights.double() / weights.sum()
    a = torch.einsum("h,hij->ij", share, dense(q, k))
    if symmetrize:
        a = (a + a.T) / 2
    if apc:
        a = a - torch.outer(a.sum(1), a.sum(0)) / a.sum()
    return (a.T if transpose else a).numpy()


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("whole_bytes", [512 << 20, 0])
def test_every_map_equals_its_definition(features, kind, whole_bytes, unseen, monkeypatch):
    monkeypatch.setattr(map_source, "_WHOLE_BYTES", whole_bytes)
    q, k, weights = features
    if unseen:  # a gene that no cell shows has no features: its row and its column are 0
        q[:, 4], k[:, 4] = 0.0, 0.0
    symmetrize, apc, transpose = kind
    options, expected = MapOptions(1.0, symmetrize, apc, "kernel"), expected_map(q, k, weights, *kind)
    whole, _ = combine_map(q, k, weights, options, transpose=transpose)
    np.testing.assert_allclose(whole, expected, atol=1e-7)
    panel, sums = combine_map(q, k, weights, options, rows=(5, 19), transpose=transpose)
    np.testing.assert_allclose(panel, expected[5:19], atol=1e-7)
    np.testing.assert_allclose(sums, expected_map(q, k, weights, symmetrize, False, transpose)[5:19].sum(0), atol=1e-6)
    streamed = torch.cat([part.clone() for _, part in map_panels(q, k, weights, options, transpose=transpose)])
    np.testing.assert_allclose(streamed, expected, atol=1e-7)
    per = "key" if transpose else "query"
    some = torch.arange(0, N, 2)
    partner, value = topk_edges(q, k, weights, 4, options, per=per, candidates=some)
    best, _ = reference.topk_edges(whole, 4, some)
    np.testing.assert_allclose(value, np.take_along_axis(whole.numpy(), best.numpy(), 1), atol=1e-7)
    np.testing.assert_allclose(value, np.take_along_axis(whole.numpy(), partner.numpy(), 1), atol=1e-7)


def test_scales_of_features_do_not_matter(features):
    """What a query is multiplied by cancels in its row, and what all keys of a head are, too."""
    q, k, weights = features
    options = MapOptions(1.0, kind="kernel")
    plain, _ = combine_map(q, k, weights, options)
    scaled, _ = combine_map(q * torch.rand(3, N, 1), k * torch.tensor([3.0, 0.1, 1.0])[:, None, None], weights, options)
    torch.testing.assert_close(scaled, plain)


def test_sums_of_head_selection(features):
    q, k, _ = features
    query, key, fold = torch.arange(20), torch.arange(10, 30, 2), torch.arange(10) % 2
    pairs = torch.tensor([(i, j) for i in query for j in key if i != j])
    x = dense(q, k)[:, pairs[:, 0], pairs[:, 1]].T
    torch.testing.assert_close(gather_pairs(q, k, *pairs.T, scale=1.0, kind="kernel"), x.float())
    found = head_gram(q, k, scale=1.0, query=query, key=key, fold=fold, kind="kernel")
    of_pair = fold[(pairs[:, 1] - 10) // 2]
    for number in range(2):
        own = x[of_pair == number]
        torch.testing.assert_close(found.gram_FHH[number], own.T @ own, rtol=1e-5, atol=0)
        torch.testing.assert_close(found.sum_FH[number], own.sum(0), rtol=1e-5, atol=0)
    again = gather_pairs(q, k, *pairs.T, scale=1.0, lse_HN=found.lse_HN, kind="kernel")
    torch.testing.assert_close(again, x.float())
    known = head_gram(q, k, scale=1.0, query=query, key=key, fold=fold, lse_HN=found.lse_HN, kind="kernel")
    torch.testing.assert_close(known.gram_FHH, found.gram_FHH)
    every = head_hist(q, k, scale=1.0, query=query, key=key, kind="kernel")
    assert torch.equal(every.counts_HB, pair_hist(x.float()).counts_HB)
    assert (auprc_from_histograms(every, pair_hist(x[:9].float())) > 0).all()


def test_bad_arguments(features):
    q, k, weights = features
    with pytest.raises(ValueError, match=r"kind='cross' is unknown; choose one of \('softmax', 'kernel'\)"):
        combine_map(q, k, weights, MapOptions(1.0, kind="cross"))
    with pytest.raises(ValueError, match=r'"triton" has no kernel maps.*use backend="torch"'):
        topk_edges(q, k, weights, 2, MapOptions(1.0, kind="kernel"), backend="triton")
    for bad in (-q, q + torch.inf, q * torch.nan):
        with pytest.raises(ValueError, match=r"q_HND reaches from .*features are finite and not negative"):
            head_hist(bad, k, scale=1.0, kind="kernel")
    q[:, 3] = 0.0
    with pytest.raises(ValueError, match=r"the log-sum-exp of head 0 at query gene 3 is -inf"):
        head_gram(q, k, scale=1.0, kind="kernel")
