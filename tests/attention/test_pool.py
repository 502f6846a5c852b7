import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from grnlab.attention import AttentionMaps, pool, pool_queries_keys
from grnlab.data.tokens import CellTokens

TOKENS = np.array([4, 9, 0, 21, 13, 29, 7, 2])
SCALES = ["log2", "fraction"]


def cells(n_cells=11, *, seed=0, density=0.5):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(4.0, (n_cells, len(TOKENS))) * (rng.random((n_cells, len(TOKENS))) < density)
    return sp.csr_matrix(counts, dtype=np.float32), rng.integers(50, 3_000, n_cells).astype(float)


def by_hand(model, counts, totals, *, context):
    """Sums over cells of gene queries and keys: one cell at a time, no padding, the whole model run."""
    spec = model.attention
    sums = np.zeros((2, spec.n_layers, spec.n_heads, len(TOKENS), spec.d_head))
    seen = np.zeros(len(TOKENS), dtype=int)
    for row, total in zip(counts.toarray(), totals, strict=True):
        places = np.arange(len(row)) if context == "shared" else np.flatnonzero(row)
        if len(places) == 0:
            continue
        tokens = CellTokens(
            torch.from_numpy(TOKENS[places])[None], torch.from_numpy(row[places])[None], torch.tensor([total]).float()
        )

        def record(layer, q_BTHD, k_BTHD, v_BTHD, out_BTHD, places=places):
            for number, x_BTHD in enumerate((q_BTHD, k_BTHD)):
                for place, x_HD in zip(places, x_BTHD[0, spec.n_prefix :].double().numpy(), strict=True):
                    sums[number, layer, :, place] += x_HD

        with torch.no_grad():
            model.encode(tokens, record=record)
        seen[places] += 1
    return sums[0], sums[1], seen


def check(got, want, *, atol=1e-5):
    for x, y in ((got.q_LHGD, want.q_LHGD), (got.k_LHGD, want.k_LHGD)):
        torch.testing.assert_close(x, y, rtol=0, atol=atol)
    assert torch.equal(got.count_G, want.count_G)
    assert got.n_cells == want.n_cells


@pytest.mark.parametrize("context", ["shared", "expressed"])
@pytest.mark.parametrize("value_scale", SCALES)
@pytest.mark.parametrize("density", [0.5, 1.0, 0.1])
def test_equals_one_cell_at_a_time(make_model, context, value_scale, density):
    model = make_model(value_scale=value_scale)
    counts, totals = cells(density=density)
    got = pool_queries_keys(model, counts, TOKENS, totals, name="B cells", context=context)
    q, k, seen = by_hand(model, counts, totals, context=context)
    np.testing.assert_allclose(got.q_sum_LHGD, q, atol=1e-4)
    np.testing.assert_allclose(got.k_sum_LHGD, k, atol=1e-4)
    np.testing.assert_array_equal(got.count_G, seen)
    assert (got.name, got.n_cells) == ("B cells", 11)
    assert got.q_sum_LHGD.shape == (2, 4, 8, 4)


def test_a_gene_is_counted_once_per_cell(tiny_model):
    counts, totals = cells()
    shared = pool_queries_keys(tiny_model, counts, TOKENS, totals)
    assert shared.count_G.tolist() == [11] * 8
    expressed = pool_queries_keys(tiny_model, counts, TOKENS, totals, context="expressed")
    assert expressed.count_G.tolist() == (counts.toarray() > 0).sum(axis=0).tolist()


@pytest.mark.parametrize("context", ["shared", "expressed"])
def test_batch_size_changes_nothing(monkeypatch, tiny_model, context):
    counts, totals = cells()
    whole = pool_queries_keys(tiny_model, counts, TOKENS, totals, context=context)
    for tokens_per_batch in (1, 20, 33):
        monkeypatch.setattr(pool, "TOKENS_PER_BATCH", tokens_per_batch)
        check(pool_queries_keys(tiny_model, counts, TOKENS, totals, context=context), whole)


@given(seed=st.integers(0, 1_000), cut=st.integers(0, 11), context=st.sampled_from(["shared", "expressed"]))
def test_shards_of_cells_add_up(make_model, seed, cut, context):
    model, (counts, totals) = make_model(n_layers=1), cells(seed=seed)
    whole = pool_queries_keys(model, counts, TOKENS, totals, context=context)
    parts = [
        pool_queries_keys(model, counts[rows], TOKENS, totals[rows], context=context)
        for rows in (slice(None, cut), slice(cut, None))
    ]
    check(parts[0] + parts[1], whole)


@given(seed=st.integers(0, 1_000), context=st.sampled_from(["shared", "expressed"]))
def test_order_of_genes_and_cells_changes_nothing(make_model, seed, context):
    model, (counts, totals) = make_model(n_layers=1), cells(seed=seed)
    rng = np.random.default_rng(seed)
    genes, rows = rng.permutation(8), rng.permutation(11)
    whole = pool_queries_keys(model, counts, TOKENS, totals, context=context)
    got = pool_queries_keys(model, counts[rows][:, genes].tocsr(), TOKENS[genes], totals[rows], context=context)
    torch.testing.assert_close(got.q_LHGD, whole.q_LHGD[:, :, genes], rtol=0, atol=1e-5)
    torch.testing.assert_close(got.k_LHGD, whole.k_LHGD[:, :, genes], rtol=0, atol=1e-5)
    assert torch.equal(got.count_G, whole.count_G[genes])


def test_map_of_one_cell_is_its_attention_without_special_tokens(tiny_model):
    """Special tokens leave before the softmax: the true attention, cut to the genes and scaled to sum to 1."""
    counts, totals = cells(1)
    spec, recorded = tiny_model.attention, {}
    tokens = CellTokens(
        torch.from_numpy(TOKENS)[None], torch.from_numpy(counts.toarray()), torch.tensor(totals).float()
    )
    with torch.no_grad():
        tiny_model.encode(tokens, record=lambda layer, *rest: recorded.update({layer: rest}))
    pooled = pool_queries_keys(tiny_model, counts, TOKENS, totals)
    maps = AttentionMaps(pd.DataFrame(index=[str(token) for token in TOKENS]), {"all": pooled}, spec)
    for layer, head in np.ndindex(spec.n_layers, spec.n_heads):
        q, k, v, out = (x[0, :, head].double() for x in recorded[layer])
        full = (spec.scale * q @ k.T).softmax(-1)
        torch.testing.assert_close(full @ v, out, rtol=0, atol=1e-5)
        genes = full[spec.n_prefix :, spec.n_prefix :]
        assert genes.sum(-1).min() < 0.95  # special tokens take a real share
        one = torch.zeros(spec.n_layers, spec.n_heads)
        one[layer, head] = 1.0
        dense = maps.dense("all", one)
        np.testing.assert_allclose(dense, genes / genes.sum(-1, keepdim=True), atol=1e-5)
        np.testing.assert_allclose(dense.sum(axis=1), 1, atol=1e-6)


def test_cells_without_counts(tiny_model):
    counts, totals = cells(4)
    counts = sp.vstack([counts, sp.csr_matrix((2, 8), dtype=np.float32)], format="csr")
    totals = np.append(totals, [10.0, 10.0])
    got = pool_queries_keys(tiny_model, counts, TOKENS, totals, context="expressed")
    assert got.n_cells == 6
    torch.testing.assert_close(
        got.q_sum_LHGD, pool_queries_keys(tiny_model, counts[:4], TOKENS, totals[:4], context="expressed").q_sum_LHGD
    )
    nothing = pool_queries_keys(tiny_model, counts[4:], TOKENS, totals[4:], context="expressed")
    assert nothing.count_G.sum() == 0
    assert nothing.q_LHGD.abs().max() == 0


@pytest.mark.parametrize("context", ["shared", "expressed"])
def test_progress_reaches_the_number_of_cells(monkeypatch, tiny_model, context):
    monkeypatch.setattr(pool, "TOKENS_PER_BATCH", 30)
    counts, totals = cells(density=1.0)
    done = []
    pool_queries_keys(tiny_model, counts, TOKENS, totals, context=context, on_batch=done.append)
    assert len(done) > 1
    assert sum(done) == 11


def test_a_small_cell_makes_no_batch_of_large_ones(monkeypatch, tiny_model):
    monkeypatch.setattr(pool, "TOKENS_PER_BATCH", 24)
    counts, totals = cells(density=1.0)
    counts = sp.csr_matrix(np.where(np.arange(11)[:, None] < 2, np.eye(11, 8), counts.toarray()))  # of one gene, or all
    sizes, tokenize = [], tiny_model.tokenize

    def watched(*given, **settings):
        found = tokenize(*given, **settings)
        sizes.append(found.genes_BT.numel())
        return found

    monkeypatch.setattr(tiny_model, "tokenize", watched)
    pool_queries_keys(tiny_model, counts, TOKENS, totals, context="expressed")
    assert max(sizes) <= 24


def test_asks_the_model_for_queries_and_keys_only(monkeypatch, tiny_model):
    monkeypatch.setattr(tiny_model, "encode", lambda *_, **__: pytest.fail("ran the whole model"))
    counts, totals = cells(2)
    got = pool_queries_keys(tiny_model, counts, TOKENS, totals)
    assert not got.q_sum_LHGD.requires_grad


def test_errors(tiny_model):
    counts, totals = cells()
    with pytest.raises(ValueError, match="context='all' is unknown"):
        pool_queries_keys(tiny_model, counts, TOKENS, totals, context="all")
    with pytest.raises(ValueError, match=r"counts has shape \(11, 8\); expected \(11, 7\)"):
        pool_queries_keys(tiny_model, counts, TOKENS[:-1], totals)
    with pytest.raises(ValueError, match=r"expected \(10, 8\)"):
        pool_queries_keys(tiny_model, counts, TOKENS, totals[:-1])


@pytest.mark.parametrize("context", ["shared", "expressed"])
def test_genes_that_are_shown_and_not_kept(make_model, context):
    model, keep = make_model(), np.array([1, 4, 6])
    counts, totals = cells()
    every = pool_queries_keys(model, counts, TOKENS, totals, context=context)
    some = pool_queries_keys(model, counts, TOKENS, totals, context=context, keep=keep)
    torch.testing.assert_close(some.q_sum_LHGD, every.q_sum_LHGD[:, :, keep], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(some.k_sum_LHGD, every.k_sum_LHGD[:, :, keep], rtol=1e-5, atol=1e-5)
    assert torch.equal(some.count_G, every.count_G[keep])
    assert some.n_cells == every.n_cells
