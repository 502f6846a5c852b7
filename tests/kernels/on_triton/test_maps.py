"""row_lse and combine_map against float64; each error at most twice that of PyTorch in the same dtype.

Below a floor errors are not compared: four roundings in float32 of numbers as large as the logits, relative to the
largest value. Halves are multiplied exactly and added in float32: they stay near the floor, far below PyTorch's error.
"""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from grnlab_kernels import reference
from grnlab_kernels.triton_kernels import maps
from grnlab_kernels.triton_kernels.tiles import Tile

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DIRECTIONS = ((True, False), (False, True), (True, True))
CLOSE = 2e-5
_GUARD = 1_024


@pytest.fixture(autouse=True)
def guarded(monkeypatch):
    """Outputs begin as NaN, between NaN that must stay: an element not written, or written beside, shows."""
    empty, made = torch.empty, []

    def poisoned(*shape, dtype, device):
        size = torch.Size(shape).numel()
        whole = torch.full((size + 2 * _GUARD,), torch.nan, dtype=dtype, device=device)
        made.append((whole, size))
        return whole[_GUARD : _GUARD + size].view(shape)

    def instead(*shape, **options):
        return (poisoned if options.get("dtype") == torch.float32 else empty)(*shape, **options)

    monkeypatch.setattr(torch, "empty", instead)
    yield
    for whole, size in made:
        assert whole[:_GUARD].isnan().all()
        assert whole[_GUARD + size :].isnan().all()


@pytest.fixture
def tiles_of(monkeypatch):
    return lambda *sizes, **more: monkeypatch.setattr(maps, "tile", lambda *_: Tile(*sizes, warps=4, stages=2, **more))


def pooled(device, n_heads=2, n_genes=66, d_head=16, *, dtype=torch.float32, size=1.5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    q, k = (size * torch.randn(2, n_heads, n_genes, d_head, generator=rng)).to(dtype)
    share = torch.rand(n_heads, generator=rng) + 0.1
    return q.to(device), k.to(device), (share / share.sum()).to(device)


def ran(q, k, share, *, scale=0.3, forward=True, backward=False, start=0, end=None):
    lse = maps.row_lse(q, k, scale)
    panel, column_sum = maps.combine_map(q, k, share, lse, scale, start, end or q.shape[1], forward, backward)
    return panel.cpu(), column_sum.cpu()


def expected(q, k, share, *, scale=0.3, forward=True, backward=False):
    q, k, share = q.cpu(), k.cpu(), share.cpu()
    both = {"symmetrize": forward and backward, "transpose": backward and not forward}
    return reference.combine_map(q, k, share, scale=scale, **both)


def by_pytorch(q, k, share, *, scale=0.3, forward=True, backward=False):
    """Log-sum-exp, and the map by the formula of the kernel, all in the dtype of the input."""
    lse = torch.logsumexp(scale * q @ k.mT, -1)
    exponents = [scale * q @ k.mT - lse[:, :, None]] * forward + [scale * k @ q.mT - lse[:, None, :]] * backward
    parts = [torch.einsum("h,hij->ij", share.to(q.dtype), x.clamp(max=0).exp()) for x in exponents]
    return lse, sum(parts) / len(parts)


def check(got, plain, exact, q, k, *, scale=0.3):
    assert got.dtype == torch.float32
    largest_logit = (scale * q.double() @ k.double().mT).abs().max().item()
    floor = (1e-6 + 2**-22 * largest_logit) * exact.abs().max().item()
    error, plain_error = ((x.cpu().double() - exact).abs().max().item() for x in (got, plain))
    assert error <= max(2 * plain_error, floor)
    if q.dtype != torch.float32:
        assert error <= 4 * floor


@pytest.mark.parametrize("d_head", [16, 32, 64, 128])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_the_definition(device, dtype, d_head):
    q, k, share = pooled(device, d_head=d_head, dtype=dtype)
    check(maps.row_lse(q, k, 0.3), by_pytorch(q, k, share)[0], reference.row_lse(q.cpu(), k.cpu(), scale=0.3), q, k)
    for forward, backward in DIRECTIONS:
        way = {"forward": forward, "backward": backward}
        panel, column_sum = ran(q, k, share, **way)
        exact = expected(q, k, share, **way)
        plain = by_pytorch(q, k, share, **way)[1]
        check(panel, plain, exact, q, k)
        check(column_sum, plain.sum(0), exact.sum(0), q, k)


@pytest.mark.parametrize(("n_genes", "n_heads"), [(1, 1), (2, 5), (63, 2), (64, 1), (65, 3), (130, 4)])
def test_any_number_of_genes_and_heads(device, n_genes, n_heads):
    q, k, share = pooled(device, n_heads, n_genes)
    check(maps.row_lse(q, k, 0.3), by_pytorch(q, k, share)[0], reference.row_lse(q.cpu(), k.cpu(), scale=0.3), q, k)
    panel, column_sum = ran(q, k, share, backward=True)
    exact = expected(q, k, share, backward=True)
    plain = by_pytorch(q, k, share, backward=True)[1]
    check(panel, plain, exact, q, k)
    check(column_sum, plain.sum(0), exact.sum(0), q, k)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (129, 130), (5, 70), (63, 65), (64, 128)])
def test_any_rows(device, start, end):
    q, k, share = pooled(device, n_genes=130)
    panel, column_sum = ran(q, k, share, backward=True, start=start, end=end)
    assert panel.shape == (end - start, 130)
    exact = expected(q, k, share, backward=True)[start:end]
    torch.testing.assert_close(panel.double(), exact, rtol=0, atol=CLOSE * exact.max().item())
    torch.testing.assert_close(column_sum.double(), exact.sum(0), rtol=CLOSE, atol=0)


def test_tiles_in_bands(device, tiles_of):
    """More row tiles than share a band, the last band not full."""
    tiles_of(16, 64)
    q, k, share = pooled(device, 1, 150)
    panel, _ = ran(q, k, share)
    check(panel, by_pytorch(q, k, share)[1], expected(q, k, share), q, k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_tiles_change_nothing(device, dtype, tiles_of):
    q, k, share = pooled(device, 1, n_genes=45, d_head=32, dtype=dtype)
    whole, sums = ran(q, k, share, backward=True)
    for *sizes, depth in ((16, 32, 32), (64, 16, 16), (32, 64, 16)):
        tiles_of(*sizes, depth=depth)
        panel, column_sum = ran(q, k, share, backward=True)
        torch.testing.assert_close(panel, whole, rtol=CLOSE, atol=0)
        torch.testing.assert_close(column_sum, sums, rtol=CLOSE, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_huge_logits(device, dtype):
    """Logits of some 10⁴: finite, shares at most 1, and no further off than PyTorch."""
    q, k, share = pooled(device, size=100.0, dtype=dtype)
    logits = 0.3 * q.double() @ k.double().mT
    assert logits.abs().max() > 1e4
    check(maps.row_lse(q, k, 0.3), by_pytorch(q, k, share)[0], reference.row_lse(q.cpu(), k.cpu(), scale=0.3), q, k)
    for forward, backward in DIRECTIONS:
        way = {"forward": forward, "backward": backward}
        panel, column_sum = ran(q, k, share, **way)
        assert panel.min() >= 0
        assert panel.max() <= 1 + 1e-6
        check(panel, by_pytorch(q, k, share, **way)[1], expected(q, k, share, **way), q, k)
        torch.testing.assert_close(column_sum, panel.sum(0), rtol=1e-5, atol=1e-12)


def test_logits_far_below_zero(device):
    """No logit of a row is near 0, where a running maximum might begin."""
    q, k, share = pooled(device, size=20.0)
    q, k = q.abs(), -k.abs()
    exact = reference.row_lse(q.cpu(), k.cpu(), scale=0.3)
    assert exact.max() < -100
    check(maps.row_lse(q, k, 0.3), by_pytorch(q, k, share)[0], exact, q, k)


def test_absurd_logits_stay_shares(device):
    """At logits of 10⁹ single precision is off by tens; a share must not become e to that power."""
    q, k, share = pooled(device, size=1e4)
    for forward, backward in DIRECTIONS:
        panel, _ = ran(q, k, share, forward=forward, backward=backward)
        assert panel.min() >= 0
        assert panel.max() <= 1 + 1e-6


def test_a_gene_without_numbers_shows(device):
    """NaN in a query is NaN in its row, and nowhere else; a share cut to 1 would hide it."""
    q, k, share = pooled(device)
    q[:, 3] = torch.nan
    panel, column_sum = ran(q, k, share)
    assert panel[3].isnan().all()
    assert not panel[torch.arange(66) != 3].isnan().any()
    assert column_sum.isnan().all()
    panel, _ = ran(q, k, share, forward=False, backward=True)
    assert panel[:, 3].isnan().all()
    assert not panel[:, torch.arange(66) != 3].isnan().any()


def test_same_bits_again(device):
    q, k, share = pooled(device, n_genes=130)
    for first, again in zip(ran(q, k, share), ran(q, k, share), strict=True):
        assert torch.equal(first, again)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n_genes=st.integers(1, 80), n_heads=st.integers(1, 3), seed=st.integers(0, 9), dtype=st.sampled_from(DTYPES))
def test_rows_sum_to_the_shares(device, n_genes, n_heads, seed, dtype):
    q, k, share = pooled(device, n_heads, n_genes, dtype=dtype, seed=seed)
    panel, column_sum = ran(q, k, share)
    torch.testing.assert_close(panel.sum(1), torch.ones(n_genes), rtol=0, atol=CLOSE)
    torch.testing.assert_close(column_sum, panel.double().sum(0).float(), rtol=CLOSE, atol=0)
    assert column_sum.sum().item() == pytest.approx(n_genes, rel=CLOSE)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n_genes=st.integers(2, 80), seed=st.integers(0, 99), way=st.sampled_from(DIRECTIONS))
def test_permuting_genes_permutes_the_map(device, n_genes, seed, way):
    q, k, share = pooled(device, n_genes=n_genes, seed=seed)
    order = torch.randperm(n_genes, generator=torch.Generator().manual_seed(seed))
    forward, backward = way
    panel, _ = ran(q, k, share, forward=forward, backward=backward)
    q, k = q[:, order.to(device)], k[:, order.to(device)]
    permuted, _ = ran(q.contiguous(), k.contiguous(), share, forward=forward, backward=backward)
    torch.testing.assert_close(permuted, panel[order][:, order], rtol=CLOSE, atol=0)


@pytest.mark.parametrize("many", ["genes", "heads"])
def test_more_than_two_to_the_31(device, many):
    """The last rows where elements of the panel, or of the queries, pass 2³¹ (a CUDA device only; else small)."""
    large = device.type == "cuda"
    if large and torch.cuda.mem_get_info()[0] < 40 << 30:
        pytest.skip("needs 40 GB of device memory")
    if many == "genes":
        n_heads, n_genes, d_head, start = 1, 47_000 if large else 130, 16, 0
    else:
        n_heads, n_genes, d_head, start = 520 if large else 3, 32_769 if large else 65, 128, 32_700 if large else 60
    q, k, share = pooled(device, 1, n_genes, d_head, dtype=torch.bfloat16)
    q, k = (x.expand(n_heads, -1, -1).contiguous() for x in (q, k))
    share = torch.full((n_heads,), 1 / n_heads, device=device)
    lse = maps.row_lse(q, k, 0.1)
    panel, _ = maps.combine_map(q, k, share, lse, 0.1, start, n_genes, True, False)
    assert (panel.numel() if many == "genes" else q.numel()) > 2**31 or not large
    exact = torch.softmax(0.1 * q[0, -5:].double() @ k[0].double().mT, -1)  # all heads are the same
    torch.testing.assert_close(panel[-5:].double(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale", [0.0, -0.5, float("nan")])
def test_scale_above_zero(device, scale):
    q, k, _ = pooled(device)
    with pytest.raises(ValueError, match="must be above 0"):
        maps.row_lse(q, k, scale)
