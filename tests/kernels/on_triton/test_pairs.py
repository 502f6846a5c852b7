"""head_panel and head_hist against float64, and the operations that run them.

Errors are at most twice those of PyTorch in the same dtype, above a floor of four roundings of the logits in float32.
"""

import pytest
import torch

pytest.importorskip("triton")

from grnlab_kernels import reference
from grnlab_kernels.histograms import head_hist
from grnlab_kernels.pairs import gather_pairs, head_gram
from grnlab_kernels.triton_kernels import pairs
from grnlab_kernels.triton_kernels.tiles import Tile

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SCALE = 0.3


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Panels begin as NaN: an element not written shows."""
    monkeypatch.setattr(pairs.torch, "empty", lambda *shape, **options: torch.full(shape, torch.nan, **options))


@pytest.fixture
def tiles_of(monkeypatch):
    return lambda rows, columns, **more: monkeypatch.setattr(
        pairs, "tile", lambda *_: Tile(rows, columns, warps=4, stages=1, **more)
    )


def pooled(device, n_heads=2, n_genes=70, d_head=16, *, dtype=torch.float32, size=1.5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    q, k = (size * torch.randn(2, n_heads, n_genes, d_head, generator=rng)).to(device, dtype)
    return q, k, reference.row_lse(q, k, scale=SCALE).float()


def some(n_genes, n_chosen, device, seed=1):
    return torch.randperm(n_genes, generator=torch.Generator().manual_seed(seed))[:n_chosen].to(device)


def expected_panel(q, k, query, key):
    x_RHC = reference.attention(q, k, scale=SCALE)[:, query][:, :, key].transpose(0, 1).clone()
    x_RHC[(query[:, None] == key)[:, None, :].expand_as(x_RHC)] = 0.0
    return x_RHC


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("d_head", [16, 32, 64, 128])
def test_panel(device, d_head, dtype):
    q, k, lse = pooled(device, d_head=d_head, dtype=dtype, size=4 / d_head**0.5)
    query, key = some(70, 65, device), some(70, 37, device, seed=2)
    got = pairs.head_panel(q, k, lse, SCALE, query, key)
    assert got.dtype == torch.float32
    expected = expected_panel(q, k, query, key)
    plain = torch.softmax(SCALE * q @ k.mT, -1)[:, query][:, :, key].transpose(0, 1)
    elsewhere = expected > 0
    floor = 4 * 2**-24 * (SCALE * q.double() @ k.double().mT).abs().max()
    allowed = 2 * (plain - expected)[elsewhere].abs().max() + floor * expected.max()
    assert (got - expected).abs().max() <= allowed


@pytest.mark.parametrize(("n_query", "n_key"), [(1, 1), (1, 70), (70, 1), (64, 64), (70, 70)])
def test_odd_sizes(device, n_query, n_key):
    q, k, lse = pooled(device)
    query, key = some(70, n_query, device), some(70, n_key, device, seed=2)
    torch.testing.assert_close(
        pairs.head_panel(q, k, lse, SCALE, query, key).double(), expected_panel(q, k, query, key), rtol=1e-5, atol=1e-7
    )


def test_tiles_change_nothing(device, tiles_of):
    q, k, lse = pooled(device, d_head=32)
    query, key = some(70, 33, device), some(70, 70, device, seed=2)
    panel, counts = (
        f(q, k, lse, SCALE, query, key, *more) for f, more in ((pairs.head_panel, ()), (pairs.head_hist, (15,)))
    )
    for sizes in ({"rows": 16, "columns": 64}, {"rows": 32, "columns": 16, "depth": 16}):
        tiles_of(**sizes)
        torch.testing.assert_close(pairs.head_panel(q, k, lse, SCALE, query, key), panel, rtol=1e-5, atol=0)
        again = pairs.head_hist(q, k, lse, SCALE, query, key, 15)
        assert (again - counts).abs().sum() <= 0.01 * counts.sum()  # a rounding moves a pair to the next bin
        assert torch.equal(again.sum(-1), counts.sum(-1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shift", [15, 20])
def test_hist_counts_the_panel(device, dtype, shift):
    q, k, lse = pooled(device, n_heads=3, dtype=dtype)
    query, key = some(70, 66, device), some(70, 41, device, seed=2)
    got = pairs.head_hist(q, k, lse, SCALE, query, key, shift)
    panel_RHC = pairs.head_panel(q, k, lse, SCALE, query, key)
    two_genes = (query[:, None] != key).ravel()
    for head in range(3):
        bins = (panel_RHC[:, head].reshape(-1)[two_genes].view(torch.int32) >> shift).long()
        assert torch.equal(got[head], torch.bincount(bins, minlength=got.shape[1]))
    assert got.dtype == torch.int64


def test_huge_logits_stay_shares(device):
    q, k, _ = pooled(device, size=1e4)
    lse = reference.row_lse(q, k, scale=SCALE).float()
    every = torch.arange(70, device=device)
    panel = pairs.head_panel(q, k, lse, SCALE, every, every)
    assert panel.min() >= 0
    assert panel.max() <= 1
    assert pairs.head_hist(q, k, lse, SCALE, every, every, 15).sum(-1).tolist() == [70 * 69] * 2


def test_nan_is_counted_nowhere(device):
    q, k, lse = pooled(device)
    q[1, 3] = torch.nan
    every = torch.arange(70, device=device)
    counts = pairs.head_hist(q, k, lse, SCALE, every, every, 15)
    assert counts.sum(-1).tolist() == [70 * 69, 69 * 69]
    assert pairs.head_panel(q, k, lse, SCALE, every, every)[3, 1].isnan().sum() == 69


@pytest.mark.parametrize("known", [False, True])
def test_operations_agree_with_pytorch(device, known):
    q, k, lse = pooled(device, n_heads=3)
    options = {"query": some(70, 50, device), "key": some(70, 40, device, seed=2), "scale": SCALE}
    fold = torch.arange(40, device=device) % 3
    lse_HN = lse if known else None
    got, expected = (head_gram(q, k, **options, fold=fold, lse_HN=lse_HN, backend=b) for b in ("triton", "torch"))
    torch.testing.assert_close(got.gram_FHH, expected.gram_FHH, rtol=1e-5, atol=0)
    torch.testing.assert_close(got.sum_FH, expected.sum_FH, rtol=1e-5, atol=0)
    torch.testing.assert_close(got.lse_HN, expected.lse_HN, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert torch.equal(got.n_pairs_F, expected.n_pairs_F)
    counts = [head_hist(q, k, **options, lse_HN=lse_HN, backend=b).counts_HB for b in ("triton", "torch")]
    assert (counts[0] - counts[1]).abs().sum() <= 0.01 * counts[1].sum()
    assert torch.equal(counts[0].sum(-1), counts[1].sum(-1))
    listed = [
        gather_pairs(q, k, some(70, 30, device), some(70, 30, device, seed=2), scale=SCALE, backend=b)
        for b in ("triton", "torch")
    ]
    torch.testing.assert_close(*listed, rtol=1e-5, atol=0)
