"""Sums over cells against float64, by the operations and by the kernels themselves."""

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from grnlab_kernels import cells, reference
from grnlab_kernels.triton_kernels import cells as kernels
from grnlab_kernels.triton_kernels.tiles import Tile

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SCALE = 0.3


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Log-sum-exp and parts begin as NaN: an element not written shows."""
    empty = torch.empty

    def poison(*shape, **options):
        made = empty(*shape, **options)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(kernels.torch, "empty", poison)


@pytest.fixture
def tiles_of(monkeypatch):
    return lambda rows, columns, **more: monkeypatch.setattr(
        kernels, "tile", lambda *_: Tile(rows, columns, warps=4, stages=1, **more)
    )


def batch(device, n_cells=3, n_heads=2, n_genes=70, d_head=16, *, dtype=torch.float32, size=1.0, seed=0):
    rng = torch.Generator().manual_seed(seed)
    q, k = (size * torch.randn(2, n_cells, n_heads, n_genes, d_head, generator=rng)).to(device, dtype)
    return q, k, (torch.rand(n_heads, generator=rng) + 0.1).to(device)


def tokens(device, n_cells, n_genes, n_all, seed=0):
    rng = torch.Generator().manual_seed(seed)
    genes = torch.stack([torch.randperm(n_all, generator=rng)[:n_genes] for _ in range(n_cells)])
    pad = torch.rand(n_cells, n_genes, generator=rng) < 0.3
    pad[0], pad[-1] = False, True
    return genes.to(device), pad.to(device)


def mean_map(q, k, weights, dtype=torch.float64, **options):
    total = torch.zeros(q.shape[2], q.shape[2], dtype=dtype, device=q.device)
    cells.cell_mean_map(q, k, weights, total, scale=SCALE, backend="triton", **options)
    return total


def scatter(q, k, weights, genes, n_all, dtype=torch.float64, **options):
    total = torch.zeros(n_all, n_all, dtype=dtype, device=q.device)
    pairs = torch.zeros(n_all, n_all, dtype=torch.int32, device=q.device)
    cells.cell_scatter(q, k, weights, genes, total, pairs, scale=SCALE, backend="triton", **options)
    return total, pairs


def scattered(maps_BTT, genes, n_all):
    total = torch.zeros(n_all, n_all, dtype=torch.float64, device=genes.device)
    for map_TT, genes_T in zip(maps_BTT, genes, strict=True):
        total.index_put_((genes_T[:, None], genes_T), map_TT, accumulate=True)
    return total


def plain(q, k, weights):
    share = weights / weights.sum()
    return sum(share[h] * torch.softmax(SCALE * q[:, h] @ k[:, h].mT, -1).double() for h in range(len(share)))


@pytest.mark.parametrize("size", [1.0, 50.0], ids=["logits of 3", "logits of 10,000"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("d_head", [16, 32, 64, 128])
def test_mean_map(device, d_head, dtype, size):
    q, k, weights = batch(device, d_head=d_head, dtype=dtype, size=size * 2 / d_head**0.25)
    truth = reference.cell_sum_map(q, k, weights, scale=SCALE).sum(0)
    allowed = 2 * (plain(q, k, weights).sum(0) - truth).abs().nan_to_num(torch.inf).max()
    logits = (SCALE * q.double() @ k.double().mT).abs().max()
    assert (mean_map(q, k, weights) - truth).abs().max() <= torch.maximum(allowed, 4 * 2**-24 * logits)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (1, 1, 65), (7, 1, 5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_odd_shapes(device, shape, dtype):
    q, k, weights = batch(device, *shape)
    expected = reference.cell_sum_map(q, k, weights, scale=SCALE)
    got = mean_map(q, k, weights, dtype)
    torch.testing.assert_close(got.double(), expected.sum(0), rtol=2e-6, atol=1e-6)
    genes = torch.arange(shape[2], device=device).flip(0).repeat(shape[0], 1)
    got, pairs = scatter(q, k, weights, genes, shape[2], dtype)
    torch.testing.assert_close(got.double().flip(0, 1), expected.sum(0), rtol=2e-6, atol=1e-6)
    assert (pairs == shape[0]).all()


@pytest.mark.parametrize("programs", [1, 2, 5, 100])
def test_parts_of_the_cells_change_nothing(device, monkeypatch, programs):
    q, k, weights = batch(device, 5, n_genes=20)
    expected = reference.cell_sum_map(q, k, weights, scale=SCALE).sum(0)
    monkeypatch.setattr(kernels, "_ENOUGH_PROGRAMS", programs)
    torch.testing.assert_close(mean_map(q, k, weights), expected, rtol=2e-6, atol=1e-6)
    assert torch.equal(mean_map(q, k, weights), mean_map(q, k, weights))


@pytest.mark.parametrize("sizes", [(16, 16), (16, 64), (64, 32)], ids=str)
def test_tile_size_changes_nothing(device, tiles_of, sizes):
    q, k, weights = batch(device, 2, 1, 40, 32)
    genes, pad = tokens(device, 2, 40, 90)
    whole, (total, _) = mean_map(q, k, weights), scatter(q, k, weights, genes, 90, pad_BT=pad)
    tiles_of(*sizes, depth=16)
    torch.testing.assert_close(mean_map(q, k, weights), whole, rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(scatter(q, k, weights, genes, 90, pad_BT=pad)[0], total, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("total_dtype", [torch.float32, torch.float64], ids=str)
def test_scatter(device, dtype, total_dtype):
    q, k, weights = batch(device, 4, dtype=dtype)
    genes, pad = tokens(device, 4, 70, 90)
    got, pairs = scatter(q, k, weights, genes, 90, total_dtype, pad_BT=pad)
    maps = reference.cell_sum_map(q, k, weights, scale=SCALE, pad_BT=pad)
    torch.testing.assert_close(got.double(), scattered(maps, genes, 90), rtol=4e-6, atol=1e-6)
    elsewhere = torch.zeros(90, 90, device=device)
    expected_pairs = torch.zeros(90, 90, dtype=torch.int32, device=device)
    cells.cell_scatter(q, k, weights, genes, elsewhere, expected_pairs, scale=SCALE, pad_BT=pad, backend="torch")
    assert torch.equal(pairs, expected_pairs)


def test_places_beyond_two_to_the_31(device, tmp_path):
    """46,400 genes squared pass 2³¹; on the CPU the file is sparse and holds what is written only."""
    n_all = 46_400
    q, k, weights = batch(device, 1, n_genes=3)
    if device.type == "cpu":
        total = torch.from_numpy(np.memmap(tmp_path / "total", np.float32, "w+", shape=(n_all, n_all)))
    else:
        total = torch.zeros(n_all, n_all, device=device)
    genes = torch.tensor([[n_all - 1, 0, n_all - 2]], device=device)
    cells.cell_scatter(q, k, weights, genes, total, None, scale=SCALE, backend="triton")
    expected = mean_map(q, k, weights, torch.float32)
    torch.testing.assert_close(total[-2:, -2:].flip(0, 1), expected[::2, ::2])
    torch.testing.assert_close(total[-1, 0], expected[0, 1])


def test_padding_is_not_read(device):
    q, k, weights = batch(device, 3)
    genes, pad = tokens(device, 3, 70, 90)
    expected = scatter(q, k, weights, genes, 90, pad_BT=pad)
    q.transpose(1, 2)[pad], k.transpose(1, 2)[pad] = torch.nan, torch.nan
    genes[pad] = -7
    torch.testing.assert_close(scatter(q, k, weights, genes, 90, pad_BT=pad), expected)


def test_a_gene_listed_twice_gets_both_and_counts_once(device):
    q, k, weights = batch(device, 2)
    genes = (torch.arange(70, device=device) // 2).repeat(2, 1)
    got, pairs = scatter(q, k, weights, genes, 40)
    maps = reference.cell_sum_map(q, k, weights, scale=SCALE)
    torch.testing.assert_close(got, scattered(maps, genes, 40), rtol=4e-6, atol=1e-6)
    assert pairs.max() == 2
    assert pairs.sum() == 2 * 35**2


def test_given_log_sum_exp(device):
    q, k, weights = batch(device)
    genes, pad = tokens(device, 3, 70, 90)
    logits = SCALE * q.double() @ k.double().mT
    got = mean_map(q, k, weights, lse_BHT=torch.logsumexp(logits, -1).float())
    torch.testing.assert_close(got, mean_map(q, k, weights), rtol=2e-6, atol=1e-7)
    lse = torch.logsumexp(logits.masked_fill(pad[:, None, None], -torch.inf), -1).nan_to_num(neginf=0.0).float()
    got, _ = scatter(q, k, weights, genes, 90, pad_BT=pad, lse_BHT=lse)
    torch.testing.assert_close(got, scatter(q, k, weights, genes, 90, pad_BT=pad)[0], rtol=2e-6, atol=1e-7)


def test_asked_to_be_deterministic(device):
    q, k, weights = batch(device)
    genes, _ = tokens(device, 3, 70, 90)
    total = torch.zeros(90, 90, device=device)
    with pytest.raises(ValueError, match="deterministic=True"):
        scatter(q, k, weights, genes, 90, deterministic=True)
    for _ in range(2):
        cells.cell_scatter(q, k, weights, genes, total, None, scale=SCALE, deterministic=True)
    torch.testing.assert_close(total.double(), 2 * scatter(q, k, weights, genes, 90)[0], rtol=4e-6, atol=1e-6)


def test_opcheck(device):
    q, k, weights = batch(device, n_genes=5)
    share, total = weights / weights.sum(), torch.zeros(5, 5, device=device)
    options = {"scale": SCALE, "backend": "triton"}
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(cells._cell_mean_map, (q, k, share, None, total), options, test_utils=tests)
    genes = torch.arange(5, device=device).repeat(3, 1)
    arguments = (q, k, share, None, genes, None, total, None)
    torch.library.opcheck(cells._cell_scatter, arguments, options, test_utils=tests)
