import numpy as np
import pytest
import torch
from grnlab_kernels import cells, reference
from grnlab_kernels.cells import cell_mean_map, cell_scatter
from hypothesis import given, settings
from hypothesis import strategies as st

SCALE = 0.5
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def batch(n_cells=3, n_heads=2, n_genes=37, d_head=8, *, dtype=torch.float32, size=1.0, seed=0):
    rng = torch.Generator().manual_seed(seed)
    q, k = (size * torch.randn(2, n_cells, n_heads, n_genes, d_head, generator=rng)).to(dtype)
    return q, k, torch.rand(n_heads, generator=rng) + 0.1


def tokens(n_cells, n_genes, n_all, *, seed=0):
    """Distinct genes of each cell, and padding: none in the first cell, everything in the last."""
    rng = torch.Generator().manual_seed(seed)
    genes = torch.stack([torch.randperm(n_all, generator=rng)[:n_genes] for _ in range(n_cells)])
    pad = torch.rand(n_cells, n_genes, generator=rng) < 0.3
    pad[0], pad[-1] = False, True
    return genes, pad


def mean_map(q, k, weights, dtype=torch.float64, **options):
    total = torch.zeros(q.shape[2], q.shape[2], dtype=dtype)
    cell_mean_map(q, k, weights, total, scale=SCALE, **options)
    return total


def scatter(q, k, weights, genes, n_all, dtype=torch.float64, **options):
    total, pairs = torch.zeros(n_all, n_all, dtype=dtype), torch.zeros(n_all, n_all, dtype=torch.int32)
    cell_scatter(q, k, weights, genes, total, pairs, scale=SCALE, **options)
    return total, pairs


def scattered(maps_BTT, genes, pad, n_all):
    """The definition: cells and pairs one by one, by a matrix of who stands where."""
    total, pairs = torch.zeros(n_all, n_all, dtype=torch.float64), torch.zeros(n_all, n_all)
    for map_TT, genes_T, pad_T in zip(maps_BTT, genes, pad, strict=True):
        place_TG = torch.nn.functional.one_hot(genes_T.clamp(min=0), n_all).double() * ~pad_T[:, None]
        total += place_TG.T @ map_TT @ place_TG
        present_G = (place_TG.sum(0) > 0).float()
        pairs += torch.outer(present_G, present_G)
    return total, pairs


def plain(q, k, weights):
    """What PyTorch makes of it in the dtype given, cell by cell and head by head."""
    share = weights / weights.sum()
    heads = [share_1 * torch.softmax(SCALE * q[:, h] @ k[:, h].mT, -1).float() for h, share_1 in enumerate(share)]
    return sum(heads)


@pytest.fixture
def n_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(3, 2, 37, 8), (1, 1, 1, 1), (2, 3, 1, 5), (1, 4, 130, 16), (5, 1, 64, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mean_map_equals_the_definition(shape, dtype):
    q, k, weights = batch(*shape)
    got = mean_map(q, k, weights, dtype)
    assert got.dtype == dtype
    torch.testing.assert_close(
        got.double(), reference.cell_sum_map(q, k, weights, scale=SCALE).sum(0), rtol=2e-6, atol=1e-7
    )


@pytest.mark.parametrize("size", [1.0, 100.0], ids=["logits of 1", "logits of 10,000"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_error_is_at_most_twice_that_of_pytorch(dtype, size):
    q, k, weights = batch(4, 2, 90, 16, dtype=dtype, size=size)
    truth = reference.cell_sum_map(q, k, weights, scale=SCALE).sum(0)
    ours, theirs = mean_map(q, k, weights), plain(q, k, weights).double().sum(0)
    assert torch.isfinite(ours).all()
    allowed = 2 * (theirs - truth).abs().nan_to_num(torch.inf).max()  # float16 logits overflow, here they do not
    assert (ours - truth).abs().max() <= allowed + 1e-6


def test_it_adds_to_what_is_there():
    q, k, weights = batch()
    total = torch.full((37, 37), 5.0, dtype=torch.float64)
    cell_mean_map(q, k, weights, total, scale=SCALE)
    torch.testing.assert_close(total, mean_map(q, k, weights) + 5)
    genes, pad = tokens(3, 37, 50)
    total, pairs = torch.full((50, 50), 5.0), torch.full((50, 50), 7)
    cell_scatter(q, k, weights, genes, total, pairs, scale=SCALE, pad_BT=pad)
    expected, expected_pairs = scatter(q, k, weights, genes, 50, pad_BT=pad)
    torch.testing.assert_close(total.double(), expected + 5)
    assert torch.equal(pairs, expected_pairs + 7)


def test_rows_are_queries():
    q, k = torch.zeros(1, 1, 3, 1), torch.zeros(1, 1, 3, 1)
    q[0, 0, 0], k[0, 0, 1] = 8.0, 8.0
    total = mean_map(q, k, torch.ones(1))
    assert total[0, 1] > 0.99
    assert total[1, 0].item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scatter_equals_the_definition(dtype, padded):
    q, k, weights = batch(4)
    genes, pad = tokens(4, 37, 50)
    pad = pad if padded else torch.zeros_like(pad)
    total, pairs = scatter(q, k, weights, genes, 50, dtype, pad_BT=pad if padded else None)
    maps = reference.cell_sum_map(q, k, weights, scale=SCALE, pad_BT=pad)
    expected, expected_pairs = scattered(maps, genes, pad, 50)
    torch.testing.assert_close(total.double(), expected, rtol=2e-6, atol=1e-7)
    assert torch.equal(pairs, expected_pairs.int())


def test_padding_neither_gives_nor_gets_and_its_gene_is_not_read():
    q, k, weights = batch(2, n_genes=20)
    genes, pad = tokens(2, 20, 30)
    pad[0, 5:9] = True
    expected = scatter(q, k, weights, genes, 30, pad_BT=pad)
    for values in (q, k):
        values.transpose(1, 2)[pad] = torch.nan
    genes[pad] = -7
    got = scatter(q, k, weights, genes, 30, pad_BT=pad)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert expected[0].sum().item() == pytest.approx(16, rel=1e-5)


def test_a_gene_listed_twice_gets_both_and_counts_once():
    q, k, weights = batch(2, n_genes=20)
    genes = torch.arange(20).repeat(2, 1) // 2
    total, pairs = scatter(q, k, weights, genes, 12)
    maps = reference.cell_sum_map(q, k, weights, scale=SCALE)
    folded = maps.sum(0).reshape(10, 2, 10, 2).sum((1, 3))
    torch.testing.assert_close(total[:10, :10], folded, rtol=2e-6, atol=1e-7)
    assert (pairs[:10, :10] == 2).all()
    assert pairs.sum() == 200
    assert total.sum().item() == pytest.approx(40, rel=1e-5)


def test_places_beyond_two_to_the_31(tmp_path):
    """46,400 genes squared pass 2³¹; the file is sparse and holds what is written only."""
    n_all = 46_400
    q, k, weights = batch(1, n_genes=3)
    total = torch.from_numpy(np.memmap(tmp_path / "total", np.float32, "w+", shape=(n_all, n_all)))
    cell_scatter(q, k, weights, torch.tensor([[n_all - 1, 0, n_all - 2]]), total, None, scale=SCALE)
    expected = mean_map(q, k, weights, torch.float32)
    assert torch.equal(total[-2:, -2:].flip(0, 1), expected[::2, ::2])
    assert torch.equal(total[-1, 0], expected[0, 1])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_pair_counts_of_either_dtype_or_none(dtype):
    q, k, weights = batch()
    genes, pad = tokens(3, 37, 50)
    pairs = torch.zeros(50, 50, dtype=dtype)
    counted, uncounted = torch.zeros(2, 50, 50)
    cell_scatter(q, k, weights, genes, counted, pairs, scale=SCALE, pad_BT=pad)
    cell_scatter(q, k, weights, genes, uncounted, None, scale=SCALE, pad_BT=pad)
    assert torch.equal(counted, uncounted)
    assert pairs.diagonal().sum() == (~pad).sum()


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 60), st.integers(0, 1_000), st.integers(1, 70))
def test_properties(n_cells, n_heads, n_genes, seed, n_task_rows):
    q, k, weights = batch(n_cells, n_heads, n_genes, seed=seed)
    total = mean_map(q, k, weights)
    # rows of a cell sum to 1
    torch.testing.assert_close(total.sum(1), torch.full((n_genes,), float(n_cells)).double(), rtol=1e-6, atol=0)
    # the size of a task changes nothing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "_TASK_ROWS", n_task_rows)
        patch.setattr(cells, "_TASK_ELEMENTS", 1)
        torch.testing.assert_close(mean_map(q, k, weights), total, rtol=1e-6, atol=1e-7)
    # permuted genes permute the map
    order = torch.randperm(n_genes, generator=torch.Generator().manual_seed(seed))
    permuted = mean_map(q[:, :, order].contiguous(), k[:, :, order].contiguous(), weights)
    torch.testing.assert_close(permuted, total[order][:, order], rtol=1e-6, atol=1e-7)
    # scattered to the same genes, the cells make the same map
    genes = order.repeat(n_cells, 1)
    got, pairs = scatter(q, k, weights, genes, n_genes)
    torch.testing.assert_close(got[order][:, order], total, rtol=0, atol=0)
    assert (pairs == n_cells).all()
    # shards of cells add up, to the bit: a cell adds the same in any batch
    shards = torch.zeros(n_genes, n_genes, dtype=torch.float64)
    for cell in range(n_cells):
        cell_mean_map(q[cell : cell + 1], k[cell : cell + 1], weights, shards, scale=SCALE)
    assert torch.equal(shards, total)


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_same_bits_for_any_number_of_threads(n_threads, monkeypatch, deterministic):
    monkeypatch.setattr(cells, "_TASK_ROWS", 16)
    monkeypatch.setattr(cells, "_TASK_ELEMENTS", 1)
    q, k, weights = batch(6, 3, 200, 16)
    genes, pad = tokens(6, 200, 220)
    results = []
    for n in (1, 2, 3, 3):
        n_threads(n)
        got = scatter(q, k, weights, genes, 220, torch.float32, pad_BT=pad, deterministic=deterministic)
        results.append((*got, mean_map(q, k, weights, torch.float32)))
        assert torch.get_num_threads() == n
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_heads_of_weight_zero_are_not_touched():
    q, k, weights = batch(n_heads=4)
    genes, _ = tokens(3, 37, 50)
    weights[1] = 0.0
    kept = [0, 2, 3]
    lean = q[:, kept].contiguous(), k[:, kept].contiguous(), weights[kept]
    q[:, 1], k[:, 1] = torch.nan, torch.nan
    lse = torch.zeros(3, 4, 37)
    assert torch.equal(mean_map(q, k, weights, lse_BHT=lse), mean_map(*lean))
    assert torch.equal(scatter(q, k, weights, genes, 50)[0], scatter(*lean, genes, 50)[0])


def test_weights_are_relative():
    q, k, weights = batch()
    torch.testing.assert_close(mean_map(q, k, 40 * weights), mean_map(q, k, weights), rtol=1e-6, atol=1e-8)


def test_no_graph_and_in_inference_mode():
    q, k, weights = batch()
    expected = mean_map(q, k, weights)
    assert not mean_map(q.clone().requires_grad_(), k, weights.clone().requires_grad_()).requires_grad
    with torch.inference_mode():
        assert torch.equal(mean_map(q.clone(), k.clone(), weights), expected)


@pytest.mark.parametrize("given_lse", [True, False])
def test_opcheck(given_lse):
    q, k, weights = batch()
    lse = torch.zeros(3, 2, 37) if given_lse else None
    share = weights / weights.sum()
    total = torch.zeros(37, 37)
    torch.library.opcheck(cells._cell_mean_map, (q, k, share, lse, total), {"scale": SCALE, "backend": "torch"})
    genes, pad = tokens(3, 37, 50)
    sums = torch.zeros(50, 50), torch.zeros(50, 50, dtype=torch.int32) if given_lse else None
    arguments = (q, k, share, lse, genes, pad if given_lse else None, *sums)
    torch.library.opcheck(cells._cell_scatter, arguments, {"scale": SCALE, "backend": "torch"})


def test_bad_input_says_what_to_do():
    q, k, weights = batch()
    genes, pad = tokens(3, 37, 50)
    total, wide = torch.zeros(37, 37), torch.zeros(50, 50)
    wrong = {
        r"total_TT has shape \(36, 36\); expected \(37, 37\)": (q, k, weights, torch.zeros(36, 36)),
        r"total_TT has shape \(37, 36\)": (q, k, weights, torch.zeros(37, 36)),
        r"total_TT has dtype torch.float16": (q, k, weights, total.half()),
        r"total_TT has strides .*contiguous": (q, k, weights, torch.zeros(37, 74)[:, ::2]),
        r"total_TT is on meta": (q, k, weights, total.to("meta")),
        r"q of shape .*\.contiguous\(\)": (q.transpose(1, 2).contiguous().transpose(1, 2), k, weights, total),
        r"one weight for each of 2 heads": (q, k, weights[:1], total),
    }
    for reason, arguments in wrong.items():
        with pytest.raises((ValueError, TypeError), match=reason):
            cell_mean_map(*arguments, scale=SCALE)
    with pytest.raises(ValueError, match=r"lse_BHT has shape \(3, 2, 36\).*\(3, 2, 37\)"):
        cell_mean_map(q, k, weights, total, scale=SCALE, lse_BHT=torch.zeros(3, 2, 36))
    wrong = {
        r"genes_BT has shape \(3, 36\)": ((genes[:, 1:], wide, None), {}),
        r"genes_BT holds gene numbers from .* expected 0 to 36": ((genes, total, None), {}),
        r"genes_BT has dtype torch.int32.*\.long\(\)": ((genes.int(), wide, None), {}),
        r"pairs_GG has dtype torch.float32": ((genes, wide, wide), {}),
        r"pairs_GG has shape \(37, 37\); expected that of total_GG": ((genes, wide, total.int()), {}),
        r"pad_BT has dtype torch.int64.*\.bool\(\)": ((genes, wide, None), {"pad_BT": pad.long()}),
    }
    for reason, (arguments, options) in wrong.items():
        with pytest.raises((ValueError, TypeError), match=reason):
            cell_scatter(q, k, weights, *arguments, scale=SCALE, **options)
    assert not total.any()
    assert not wide.any()


def test_triton_by_name_runs_or_raises(monkeypatch):
    q, k, weights = batch()
    genes, _ = tokens(3, 37, 50)
    total = torch.zeros(50, 50)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match='backend="triton" cannot run'):
            cell_mean_map(q, k, weights, torch.zeros(37, 37), scale=SCALE, backend="triton")
    monkeypatch.setattr("grnlab_kernels.dispatch.why_not_triton", lambda device=None: None)
    with pytest.raises(ValueError, match=r'deterministic=True: .*atomics.*backend="torch"'):
        cell_scatter(q, k, weights, genes, total, None, scale=SCALE, deterministic=True, backend="triton")
    with pytest.raises(ValueError, match="d_head=8 is not one of"):
        cell_scatter(q, k, weights, genes, total, None, scale=SCALE, backend="triton")
