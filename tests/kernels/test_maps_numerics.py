import numpy as np
import pytest
import torch
from grnlab_kernels import map_source, reference, rows
from grnlab_kernels.maps import MapOptions, column_sums, map_panels, row_lse, topk_edges

SCALE = 0.5
KINDS = [
    {"symmetrize": symmetrize, "apc": apc, "transpose": transpose}
    for symmetrize in (False, True)
    for apc in (False, True)
    for transpose in (False, True)
]
# how a map is made: rows of a panel, largest map made whole, compiled loops or PyTorch as on other devices
ENGINES = {
    "whole": (128, 512 << 20, True),
    "streamed": (128, 0, True),
    "panels of 16 rows": (16, 0, True),
    "no compiled loops": (16, 0, False),
}


def pooled(n_heads=3, n_genes=41, d_head=4, *, seed=0, size=1.5):
    rng = np.random.default_rng(seed)
    q, k = rng.normal(0, size, (2, n_heads, n_genes, d_head)).astype(np.float32)
    return torch.from_numpy(q), torch.from_numpy(k), torch.from_numpy(rng.uniform(0.1, 2, n_heads)).float()


def streamed(q, k, weights, *, symmetrize=False, apc=False, transpose=False, scale=SCALE):
    panels = map_panels(q, k, weights, MapOptions(scale, symmetrize, apc), transpose=transpose)
    return torch.cat([panel.clone() for _, panel in panels])


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch):
    panel_rows, whole_bytes, compiled = ENGINES[request.param]
    monkeypatch.setattr(rows, "_PANEL_ROWS", (panel_rows, panel_rows))
    monkeypatch.setattr(map_source, "_WHOLE_BYTES", whole_bytes)
    if not compiled:
        monkeypatch.setattr(rows, "_compiled", lambda x: False)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_huge_logits(kind):
    """Logits of some 10⁴: no overflow, and where one key wins by far, it takes all."""
    q, k, weights = pooled(n_genes=30, size=100.0)
    logits = SCALE * torch.einsum("hnd,hmd->hnm", q.double(), k.double())
    assert logits.abs().max() > 1e4
    dense = streamed(q, k, weights, **kind)
    assert torch.isfinite(dense).all()
    if not kind["apc"] and not kind["symmetrize"]:
        winner = torch.nn.functional.one_hot(logits.argmax(-1), 30).double()
        top = logits.topk(2, dim=-1).values
        clear = (top[..., 0] - top[..., 1] > 30).all(0)
        expected = torch.einsum("h,hnm->nm", weights.double() / weights.sum(), winner)
        got = dense.T if kind["transpose"] else dense
        torch.testing.assert_close(got[clear].double(), expected[clear], rtol=0, atol=5e-3)
    _, value = topk_edges(q, k, weights, 4, MapOptions(SCALE, kind["symmetrize"], kind["apc"]))
    assert torch.isfinite(value).all()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_absurd_logits_stay_shares(kind):
    """At logits of 10⁹ single precision is off by tens; a share must not become e to that power."""
    q, k, weights = pooled(n_genes=307, d_head=16, size=1e4)
    dense = streamed(q, k, weights, **kind)
    assert torch.isfinite(dense).all()
    if not kind["apc"]:
        assert dense.min() >= 0
        assert dense.max() <= 1 + 1e-6


@pytest.mark.usefixtures("engine")
def test_column_sums_at_logits_of_ten_million():
    """Whole numbers below 2²⁴ are exact in float32, so what is wrong would be the sums. Two best keys differ by ±2."""
    rng = np.random.default_rng(5)
    q, k = torch.from_numpy(rng.integers(-900, 900, (2, 3, 300, 12))).float()
    q[..., 0] = torch.from_numpy(rng.integers(-2, 3, (3, 300)))
    k[:, 1::2] = k[:, ::2]
    k[:, 1::2, 0] += 1
    weights = torch.tensor([1.0, 2.0, 0.5])
    logits = q.double() @ k.double().mT
    assert 3e6 < logits.abs().max() < 2**24
    sums = column_sums(q, k, weights, scale=1.0)
    expected = reference.combine_map(q, k, weights, scale=1.0).sum(0)
    torch.testing.assert_close(sums, expected, rtol=1e-6, atol=1e-6)
    assert ((expected > 0.01) & (expected < 0.3)).any()
    assert sums.sum().item() == pytest.approx(300, abs=1e-4)


def test_float16_is_read_as_float32():
    q, k, weights = (x.half() for x in pooled())
    got = streamed(q, k, weights)
    assert got.dtype == torch.float32
    assert torch.equal(got, streamed(q.float(), k.float(), weights))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("n_heads", "n_genes", "d_head"), [(3, 41, 4), (2, 257, 64), (1, 1, 1)])
def test_no_more_than_twice_the_error_of_plain_pytorch(dtype, n_heads, n_genes, d_head):
    q, k, weights = pooled(n_heads, n_genes, d_head)
    q, k, scale = q.to(dtype), k.to(dtype), d_head**-0.5

    def check(got, plain, expected):
        allowed = 2 * (plain - expected).abs().max() + 2**-24
        assert (got - expected).abs().max() <= allowed, (got, allowed)

    plain_lse = torch.logsumexp((q @ k.mT) * scale, -1)
    check(row_lse(q, k, scale=scale), plain_lse, reference.row_lse(q, k, scale=scale))
    share = (weights / weights.sum()).to(dtype)
    plain = sum(w * torch.softmax((q_ND @ k_ND.T) * scale, -1) for w, q_ND, k_ND in zip(share, q, k, strict=True))
    for symmetrize, transpose in ((False, False), (False, True), (True, False)):
        kind = {"symmetrize": symmetrize, "transpose": transpose}
        expected = reference.combine_map(q, k, weights, scale=scale, **kind)
        turned = (plain + plain.T) / 2 if symmetrize else plain.T if transpose else plain
        check(streamed(q, k, weights, scale=scale, **kind), turned, expected)
    expected = reference.combine_map(q, k, weights, scale=scale).sum(0)
    check(column_sums(q, k, weights, scale=scale), plain.double().sum(0), expected)


@pytest.mark.usefixtures("engine")
def test_what_is_not_a_number_shows():
    q, k, weights = pooled()
    q[0, 3] = torch.nan
    dense = streamed(q, k, weights)
    assert dense[3].isnan().all()
    assert torch.isfinite(dense[:3]).all()
    assert streamed(q, k, weights, transpose=True)[:, 3].isnan().all()
    assert row_lse(q, k, scale=SCALE).isnan().nonzero().tolist() == [[0, 3]]
    for symmetrize in (False, True):
        with pytest.raises(ValueError, match="must be finite"):
            topk_edges(q, k, weights, 2, MapOptions(SCALE, symmetrize))
    q[0, 3], k[0, 5] = 0.0, torch.inf
    with pytest.raises(ValueError, match="must be finite"):
        topk_edges(q, k, weights, 2, MapOptions(SCALE))
