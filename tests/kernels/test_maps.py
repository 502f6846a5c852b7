import numpy as np
import pytest
import torch
from grnlab_kernels import map_source, reference, rows
from grnlab_kernels.maps import MapOptions, column_sums, combine_map, map_panels, row_lse, topk_edges
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    """What an operation allocates and does not write shows as NaN, or as gene -7."""

    def poisoned(allocate):
        def empty(*args, **options):
            x = allocate(*args, **options)
            return x.fill_(-7 if x.dtype == torch.int64 else torch.nan)

        return empty

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.usefixtures("engine")
def test_equals_the_definition(brute_map, kind):
    q, k, weights = pooled()
    got = streamed(q, k, weights, **kind)
    assert got.dtype == torch.float32
    expected = brute_map(q, k, weights, SCALE, **kind)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    options = MapOptions(SCALE, kind["symmetrize"], kind["apc"])
    whole, sums = combine_map(q, k, weights, options, transpose=kind["transpose"])
    np.testing.assert_allclose(whole, expected, atol=1e-6)
    plain = brute_map(q, k, weights, SCALE, **(kind | {"apc": False}))
    assert sums.dtype == torch.float64
    np.testing.assert_allclose(sums, plain.sum(axis=0), rtol=1e-6)
    for lse in (None, row_lse(q, k, scale=SCALE)):
        panel, sums = combine_map(q, k, weights, options, rows=(7, 30), transpose=kind["transpose"], lse_HN=lse)
        np.testing.assert_allclose(panel, expected[7:30], atol=1e-6)
        np.testing.assert_allclose(sums, plain[7:30].sum(axis=0), rtol=1e-6)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    n_genes=st.integers(1, 90),
    n_rows=st.integers(1, 128),
    whole=st.booleans(),
)
def test_panel_size_changes_nothing(seed, kind, n_genes, n_rows, whole):
    q, k, weights = pooled(n_genes=n_genes, seed=seed)
    options, per = MapOptions(SCALE, kind["symmetrize"], kind["apc"]), "key" if kind["transpose"] else "query"
    dense, (partner, value) = streamed(q, k, weights, **kind), topk_edges(q, k, weights, 5, options, per=per)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "panel_rows", lambda n_genes, device: n_rows)
        patch.setattr(map_source, "_WHOLE_BYTES", 512 << 20 if whole else 0)
        assert max(len(panel) for _, panel in map_panels(q, k, weights, options)) == min(n_rows, n_genes)
        torch.testing.assert_close(streamed(q, k, weights, **kind), dense, rtol=0, atol=3e-7)
        partner_2, value_2 = topk_edges(q, k, weights, 5, options, per=per)
    torch.testing.assert_close(value_2, value, rtol=0, atol=3e-7, equal_nan=True)
    assert torch.equal(partner_2 < 0, partner < 0)
    chosen = dense.gather(1, partner_2.clamp(min=0))[partner_2 >= 0]  # other partners only where weights nearly tie
    torch.testing.assert_close(chosen, value_2[partner_2 >= 0], rtol=0, atol=3e-7)


@pytest.mark.parametrize(("n_genes", "panel_bytes"), [(5, 8 << 20), (100, 1), (100, 100 * 4 * 70), (1_100, 8 << 20)])
@pytest.mark.parametrize("symmetrize", [False, True])
def test_panels_cover_the_rows_once_within_the_memory(monkeypatch, n_genes, panel_bytes, symmetrize):
    monkeypatch.setattr(rows, "_PANEL_BYTES", panel_bytes)
    q, k, weights = pooled(1, n_genes)
    starts, sizes = zip(
        *((start, len(panel)) for start, panel in map_panels(q, k, weights, MapOptions(SCALE, symmetrize))),
        strict=True,
    )
    assert list(starts) == list(np.cumsum([0, *sizes[:-1]]))
    assert sum(sizes) == n_genes
    assert max(sizes) <= max(64, min(128, panel_bytes // (4 * n_genes)))


@pytest.mark.usefixtures("engine")
def test_row_lse(brute_map):
    q, k, _ = pooled()
    logits = SCALE * np.einsum("hnd,hmd->hnm", q.double(), k.double())
    np.testing.assert_allclose(row_lse(q, k, scale=SCALE), np.log(np.exp(logits).sum(-1)), rtol=1e-6)


@pytest.mark.usefixtures("engine")
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
    lse = row_lse(q, k, scale=SCALE)  # NaN for head 1
    panel, _ = combine_map(q, k, weights, MapOptions(SCALE, True, True), rows=(5, 9), lse_HN=lse)
    torch.testing.assert_close(panel, expected[5:9], rtol=0, atol=1e-6)


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
    q_p, k_p = q.index_select(1, order), k.index_select(1, order)
    dense, permuted = streamed(q, k, weights, **kind), streamed(q_p, k_p, weights, **kind)
    torch.testing.assert_close(permuted, dense[order][:, order], rtol=0, atol=1e-6)
    options = MapOptions(SCALE, kind["symmetrize"], kind["apc"])
    per = "key" if kind["transpose"] else "query"
    partner, value = topk_edges(q, k, weights, n_edges, options, per=per)
    partner_p, value_p = topk_edges(q_p, k_p, weights, n_edges, options, per=per)
    torch.testing.assert_close(value_p, value[order], rtol=0, atol=1e-6, equal_nan=True)
    real = partner_p >= 0
    assert torch.equal(real, partner[order] >= 0)
    named = torch.where(real, order[partner_p], 0)  # names of the partners: their weights tell a swap beyond a near tie
    torch.testing.assert_close(dense[order].gather(1, named)[real], value_p[real], rtol=0, atol=1e-6)


@pytest.mark.parametrize("per", ["query", "key"])
@pytest.mark.parametrize("candidates", [None, [0, 3, 4, 17, 18, 40], [7]], ids=["all", "six", "one"])
@pytest.mark.parametrize("n_edges", [1, 4, 40, 500])
@pytest.mark.parametrize(("symmetrize", "apc"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.usefixtures("engine")
def test_topk_equals_sorting_the_map(brute_map, per, candidates, n_edges, symmetrize, apc):
    q, k, weights = pooled()
    chosen = None if candidates is None else torch.tensor(candidates)
    partner, value = topk_edges(q, k, weights, n_edges, MapOptions(SCALE, symmetrize, apc), per=per, candidates=chosen)
    dense = brute_map(q, k, weights, SCALE, symmetrize=symmetrize, apc=apc, transpose=per == "key")
    expected_partner, expected_value = reference.topk_edges(torch.from_numpy(dense), n_edges, chosen)
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
    dense = streamed(q, k, torch.ones(1), scale=1.0, transpose=per == "key")
    assert len(dense.unique()) < 100
    expected_partner, expected_value = reference.topk_edges(dense, n_edges)
    np.testing.assert_array_equal(partner, expected_partner)
    np.testing.assert_array_equal(value, expected_value.float())


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


def test_inputs_stay_as_they_are():
    q, k, weights = pooled()
    before = [x.clone() for x in (q, k, weights)]
    topk_edges(q, k, weights, 3, MapOptions(SCALE, symmetrize=True, apc=True))
    assert all(torch.equal(x, y) for x, y in zip((q, k, weights), before, strict=True))


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ([1.0, 1.0], "one weight for each of 3 heads"),
        ([1.0, -1.0, 1.0], "non-negative"),
        ([0.0, 0.0, 0.0], "positive sum"),
        ([1.0, float("nan"), 1.0], "finite"),
    ],
)
def test_bad_weights(weights, match):
    q, k, _ = pooled()
    with pytest.raises(ValueError, match=match):
        streamed(q, k, torch.tensor(weights))


CALLS = {
    "row_lse": lambda q, k, w, options, **more: row_lse(q, k, scale=options.scale, **more),
    "combine_map": combine_map,
    "column_sums": lambda q, k, w, options, **more: column_sums(q, k, w, scale=options.scale, **more),
    "map_panels": map_panels,
    "topk_edges": lambda q, k, w, options, **more: topk_edges(q, k, w, 3, options, **more),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_bad_queries_and_keys_raise_at_the_call(call):
    q, k, weights = pooled()
    options = MapOptions(SCALE)
    for bad_q, bad_k, kind, match in (
        (q, k[:, :-1], ValueError, "same shape"),
        (q[0], k[0], ValueError, "same shape"),
        (q[:, :0], k[:, :0], ValueError, "not be empty"),
        (q.double(), k.double(), TypeError, r"Convert with .float\(\)"),
        (q, k.half(), TypeError, "share one dtype"),
        (q.mT.contiguous().mT, k, ValueError, r"q of shape .* call .contiguous\(\)"),
        (q, k[:, ::2].repeat(1, 2, 1)[:, ::2], ValueError, "same shape"),
    ):
        with pytest.raises(kind, match=match):
            call(bad_q, bad_k, weights, options)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"scale={scale} must be positive"):
            call(q, k, weights, MapOptions(scale))
    with pytest.raises(RuntimeError, match="triton"):
        call(q, k, weights, options, backend="triton")
    with pytest.raises(ValueError, match="backend='cuda' is unknown"):
        call(q, k, weights, options, backend="cuda")


def test_bad_arguments():
    q, k, weights = pooled()
    options = MapOptions(SCALE)
    with pytest.raises(ValueError, match="positive sum"):
        map_panels(q, k, 0 * weights, options)  # before the first panel is asked for
    for rows_asked in ((-1, 3), (5, 5), (0, 42), (9, 3)):
        with pytest.raises(ValueError, match=r"rows=.* within the 41 genes"):
            combine_map(q, k, weights, options, rows=rows_asked)
    lse = row_lse(q, k, scale=SCALE)
    for bad in (lse[:2], lse.double(), lse.T):
        with pytest.raises(ValueError, match="lse_HN is"):
            combine_map(q, k, weights, options, rows=(0, 3), transpose=True, lse_HN=bad)
    with pytest.raises(ValueError, match="per='row' is unknown"):
        topk_edges(q, k, weights, 3, options, per="row")
    with pytest.raises(ValueError, match="n_edges=0"):
        topk_edges(q, k, weights, 0, options)
    with pytest.raises(TypeError, match="candidates has dtype"):
        topk_edges(q, k, weights, 3, options, candidates=torch.tensor([1.0]))
    for bad in ([3, 2], [2, 2], [[1, 2]]):
        with pytest.raises(ValueError, match="rising gene numbers"):
            topk_edges(q, k, weights, 3, options, candidates=torch.tensor(bad))
    with pytest.raises(ValueError, match="from 2 to 41; expected 0 to 40"):
        topk_edges(q, k, weights, 3, options, candidates=torch.tensor([2, 41]))


def test_without_candidates_nobody_is_a_partner():
    q, k, weights = pooled()
    partner, value = topk_edges(q, k, weights, 3, MapOptions(SCALE), candidates=torch.tensor([], dtype=torch.int64))
    assert partner.shape == value.shape == (41, 0)
