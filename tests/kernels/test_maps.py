import numpy as np
import pytest
import torch
from grnlab_kernels import MapOptions, column_sums, map_panels, maps, row_lse, topk_edges
from hypothesis import given, settings
from hypothesis import strategies as st

SCALE = 0.5
KINDS = [
    {"symmetrize": symmetrize, "apc": apc, "transpose": transpose}
    for symmetrize in (False, True)
    for apc in (False, True)
    for transpose in (False, True)
]


def pooled(n_heads=3, n_genes=41, d_head=4, *, seed=0, size=1.5):
    rng = np.random.default_rng(seed)
    q, k = rng.normal(0, size, (2, n_heads, n_genes, d_head)).astype(np.float32)
    return torch.from_numpy(q), torch.from_numpy(k), torch.from_numpy(rng.uniform(0.1, 2, n_heads)).float()


def streamed(q, k, weights, *, symmetrize=False, apc=False, transpose=False, scale=SCALE):
    panels = map_panels(q, k, weights, MapOptions(scale, symmetrize, apc), transpose=transpose)
    return torch.cat([panel.clone() for _, panel in panels])


def ranked(dense, n_edges, candidates=None):
    """Partners by falling value, then rising number; a gene is not its own partner."""
    n = len(dense)
    columns = range(n) if candidates is None else candidates
    n_kept = min(n_edges, len(columns))
    partner, value = np.full((n, n_kept), -1), np.full((n, n_kept), np.nan)
    for row in range(n):
        order = sorted((c for c in columns if c != row), key=lambda c: (-dense[row, c], c))[:n_kept]
        partner[row, : len(order)], value[row, : len(order)] = order, dense[row, order]
    return partner, value


@pytest.fixture(params=[8 << 20, 1], ids=["one panel", "panels of 16 rows"])
def panel_bytes(request, monkeypatch):
    monkeypatch.setattr(maps, "_PANEL_BYTES", request.param)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.usefixtures("panel_bytes")
def test_equals_the_definition(brute_map, kind):
    q, k, weights = pooled()
    got = streamed(q, k, weights, **kind)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, brute_map(q, k, weights, SCALE, **kind), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_panel_size_changes_nothing(monkeypatch, kind):
    q, k, weights = pooled(n_genes=70)
    whole = streamed(q, k, weights, **kind)
    options = MapOptions(SCALE, kind["symmetrize"], kind["apc"])
    edges = topk_edges(q, k, weights, 5, options, per="key" if kind["transpose"] else "query")
    for panel_bytes in (1, 70 * 4 * 17, 70 * 4 * 64):
        monkeypatch.setattr(maps, "_PANEL_BYTES", panel_bytes)
        torch.testing.assert_close(streamed(q, k, weights, **kind), whole, rtol=0, atol=1e-7)
        again = topk_edges(q, k, weights, 5, options, per="key" if kind["transpose"] else "query")
        torch.testing.assert_close(again[0], edges[0])
        torch.testing.assert_close(again[1], edges[1], rtol=0, atol=1e-7)


@pytest.mark.parametrize(("n_genes", "panel_bytes"), [(5, 8 << 20), (100, 1), (100, 100 * 4 * 30), (1_100, 8 << 20)])
def test_panels_cover_the_rows_once_within_the_memory(monkeypatch, n_genes, panel_bytes):
    monkeypatch.setattr(maps, "_PANEL_BYTES", panel_bytes)
    q, k, weights = pooled(1, n_genes)
    starts, sizes = zip(
        *((start, len(panel)) for start, panel in map_panels(q, k, weights, MapOptions(SCALE))), strict=True
    )
    assert list(starts) == list(np.cumsum([0, *sizes[:-1]]))
    assert sum(sizes) == n_genes
    assert max(sizes) <= max(16, min(512, panel_bytes // (4 * n_genes)))


@pytest.mark.usefixtures("panel_bytes")
def test_row_lse(brute_map):
    q, k, _ = pooled()
    logits = SCALE * np.einsum("hnd,hmd->hnm", q.double(), k.double())
    np.testing.assert_allclose(row_lse(q, k, scale=SCALE), np.log(np.exp(logits).sum(-1)), rtol=1e-6)


@pytest.mark.usefixtures("panel_bytes")
def test_column_sums(brute_map):
    q, k, weights = pooled()
    got = column_sums(q, k, weights, scale=SCALE)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got, brute_map(q, k, weights, SCALE).sum(axis=0), rtol=1e-6)
    assert got.sum().item() == pytest.approx(41, abs=1e-4)


def test_rows_of_the_map_are_queries():
    """Gene 0 attends to gene 1 and not the other way round."""
    q, k = torch.zeros(1, 3, 1), torch.zeros(1, 3, 1)
    q[0, 0], k[0, 1] = 3.0, 3.0
    dense = streamed(q, k, torch.ones(1), scale=1.0)
    assert dense[0, 1] > 0.99
    assert dense[1, 0].item() == pytest.approx(1 / 3)
    partner, _ = topk_edges(q, k, torch.ones(1), 1, MapOptions(1.0))
    assert partner[0].item() == 1
    partner, _ = topk_edges(q, k, torch.ones(1), 1, MapOptions(1.0), per="key")
    assert partner[1].item() == 0


def test_heads_of_weight_zero_cost_and_change_nothing():
    q, k, weights = pooled()
    weights[1] = 0.0
    expected = streamed(q[[0, 2]], k[[0, 2]], weights[[0, 2]], symmetrize=True, apc=True)
    q[1], k[1] = torch.nan, torch.nan  # never touched
    torch.testing.assert_close(streamed(q, k, weights, symmetrize=True, apc=True), expected, rtol=0, atol=0)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), factor=st.floats(1e-3, 1e3), kind=st.sampled_from(KINDS))
def test_only_the_ratio_of_weights_matters(seed, factor, kind):
    q, k, weights = pooled(n_genes=20, seed=seed)
    scaled = streamed(q, k, weights * factor, **kind)
    torch.testing.assert_close(scaled, streamed(q, k, weights, **kind), rtol=0, atol=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(KINDS), n_edges=st.integers(1, 25))
def test_permuting_genes_permutes_map_and_edges(seed, kind, n_edges):
    q, k, weights = pooled(n_genes=20, seed=seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(20))
    dense, permuted = streamed(q, k, weights, **kind), streamed(q[:, order], k[:, order], weights, **kind)
    torch.testing.assert_close(permuted, dense[order][:, order], rtol=0, atol=1e-6)
    options = MapOptions(SCALE, kind["symmetrize"], kind["apc"])
    per = "key" if kind["transpose"] else "query"
    partner, value = topk_edges(q, k, weights, n_edges, options, per=per)
    partner_p, value_p = topk_edges(q[:, order], k[:, order], weights, n_edges, options, per=per)
    torch.testing.assert_close(value_p, value[order], rtol=0, atol=1e-6, equal_nan=True)
    real = partner_p >= 0
    assert torch.equal(real, partner[order] >= 0)
    named = torch.where(real, order[partner_p], 0)  # names of the partners: their weights tell a swap beyond a near tie
    torch.testing.assert_close(dense[order].gather(1, named)[real], value_p[real], rtol=0, atol=1e-6)


@pytest.mark.parametrize("per", ["query", "key"])
@pytest.mark.parametrize("candidates", [None, [0, 3, 4, 17, 18, 40], [7]], ids=["all", "six", "one"])
@pytest.mark.parametrize("n_edges", [1, 4, 40, 500])
@pytest.mark.parametrize(("symmetrize", "apc"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.usefixtures("panel_bytes")
def test_topk_equals_sorting_the_map(brute_map, per, candidates, n_edges, symmetrize, apc):
    q, k, weights = pooled()
    chosen = None if candidates is None else torch.tensor(candidates)
    partner, value = topk_edges(q, k, weights, n_edges, MapOptions(SCALE, symmetrize, apc), per=per, candidates=chosen)
    dense = brute_map(q, k, weights, SCALE, symmetrize=symmetrize, apc=apc, transpose=per == "key")
    expected_partner, expected_value = ranked(dense, n_edges, candidates)
    assert partner.dtype == torch.int64
    np.testing.assert_array_equal(partner, expected_partner)
    np.testing.assert_allclose(value, expected_value, atol=1e-6)


def test_candidates_do_not_change_the_softmax():
    q, k, weights = pooled()
    partner, value = topk_edges(q, k, weights, 1, MapOptions(SCALE), candidates=torch.tensor([2, 9]))
    dense = streamed(q, k, weights)
    torch.testing.assert_close(dense.gather(1, partner), value)
    assert value.max() < 0.9  # a softmax over the candidates alone would give the sole partner of a candidate 1


@pytest.mark.parametrize("per", ["query", "key"])
@pytest.mark.parametrize("n_edges", [1, 2, 5, 11, 36, 37])
def test_ties_go_to_the_lower_number(per, n_edges):
    """Whole-number queries and keys, each gene present many times, make exact ties."""
    rng = np.random.default_rng(3)
    q, k = torch.from_numpy(rng.integers(-1, 2, (2, 1, 37, 2))).float()
    partner, value = topk_edges(q, k, torch.ones(1), n_edges, MapOptions(1.0), per=per)
    dense = streamed(q, k, torch.ones(1), scale=1.0, transpose=per == "key").numpy()
    assert len(np.unique(dense)) < 100
    expected_partner, expected_value = ranked(dense, n_edges)
    np.testing.assert_array_equal(partner, expected_partner)
    np.testing.assert_array_equal(value, expected_value.astype(np.float32))


def test_all_tied():
    partner, value = topk_edges(torch.zeros(2, 6, 3), torch.zeros(2, 6, 3), torch.ones(2), 3, MapOptions(1.0))
    assert partner.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    torch.testing.assert_close(value, torch.full((6, 3), 1 / 6))


@pytest.mark.parametrize("per", ["query", "key"])
@pytest.mark.parametrize("symmetrize", [False, True])
@pytest.mark.parametrize("apc", [False, True])
def test_one_and_two_genes(per, symmetrize, apc):
    options = MapOptions(SCALE, symmetrize, apc)
    q, k, weights = pooled(n_genes=1)
    partner, value = topk_edges(q, k, weights, 3, options, per=per)
    assert partner.tolist() == [[-1]]
    assert value.isnan().all()
    expected = torch.zeros(1, 1) if apc else torch.ones(1, 1)
    torch.testing.assert_close(streamed(q, k, weights, symmetrize=symmetrize, apc=apc), expected, rtol=0, atol=1e-6)
    q, k, weights = pooled(n_genes=2)
    partner, value = topk_edges(q, k, weights, 3, options, per=per)
    assert partner.tolist() == [[1, -1], [0, -1]]
    assert value.isnan().tolist() == [[False, True], [False, True]]


def test_a_sole_candidate_has_no_partner_of_its_own():
    q, k, weights = pooled(n_genes=5)
    partner, value = topk_edges(q, k, weights, 3, MapOptions(SCALE), candidates=torch.tensor([2]))
    assert partner.ravel().tolist() == [2, 2, -1, 2, 2]
    assert value.isnan().ravel().tolist() == [False, False, True, False, False]


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


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_absurd_logits_stay_shares(monkeypatch, kind):
    """At logits of 10⁹ single precision is off by tens; a share must not become e to that power."""
    monkeypatch.setattr(maps, "_PANEL_BYTES", 1)
    q, k, weights = pooled(n_genes=307, d_head=16, size=1e4)
    dense = streamed(q, k, weights, **kind)
    assert torch.isfinite(dense).all()
    if not kind["apc"]:
        assert dense.min() >= 0
        assert dense.max() <= 1 + 1e-6


def test_inputs_stay_as_they_are():
    q, k, weights = pooled()
    before = [x.clone() for x in (q, k, weights)]
    topk_edges(q, k, weights, 3, MapOptions(SCALE, symmetrize=True, apc=True))
    assert all(torch.equal(x, y) for x, y in zip((q, k, weights), before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_float32(dtype):
    q, k, weights = pooled()
    got = streamed(q.to(dtype), k.to(dtype), weights)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, streamed(q.to(dtype).float(), k.to(dtype).float(), weights))


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ([1.0, 1.0], "one weight for each of 3 heads"),
        ([1.0, -1.0, 1.0], "non-negative"),
        ([0.0, 0.0, 0.0], "positive sum"),
        ([1.0, float("nan"), 1.0], "positive sum"),
    ],
)
def test_bad_weights(weights, match):
    q, k, _ = pooled()
    with pytest.raises(ValueError, match=match):
        streamed(q, k, torch.tensor(weights))


def test_bad_arguments():
    q, k, weights = pooled()
    with pytest.raises(ValueError, match="same shape"):
        streamed(q, k[:, :-1], weights)
    with pytest.raises(ValueError, match="same shape"):
        row_lse(q[0], k[0], scale=1.0)
    with pytest.raises(ValueError, match="per='row' is unknown"):
        topk_edges(q, k, weights, 3, MapOptions(SCALE), per="row")
    with pytest.raises(ValueError, match="n_edges=0"):
        topk_edges(q, k, weights, 0, MapOptions(SCALE))
    for call in (row_lse, column_sums):
        arguments = (q, k) if call is row_lse else (q, k, weights)
        with pytest.raises(RuntimeError, match="triton"):
            call(*arguments, scale=1.0, backend="triton")
    with pytest.raises(RuntimeError, match="triton"):
        topk_edges(q, k, weights, 3, MapOptions(SCALE), backend="triton")
