import numpy as np
import pandas as pd
import pytest
import torch
from grnlab_kernels import rows as kernel

from grnlab.attention import AttentionMaps, GroupMaps
from grnlab.backbones import AttentionSpec

SPEC = AttentionSpec(n_layers=2, n_heads=3, d_head=4, scale=0.7, n_prefix=2)
N = 23


def group(name="A", *, seed=0, n_genes=N, unseen=()):
    rng = np.random.default_rng(seed)
    count = torch.from_numpy(rng.integers(1, 9, n_genes))
    q, k = torch.from_numpy(rng.normal(size=(2, 2, 3, n_genes, 4)).astype(np.float32)) * count[:, None]
    for gene in unseen:
        count[gene], q[:, :, gene], k[:, :, gene] = 0, 0, 0
    return GroupMaps(name, q, k, count, n_cells=9)


@pytest.fixture
def maps():
    genes = pd.DataFrame({"is_tf": np.arange(N) < 5}, index=[f"G{number}" for number in range(N)])
    return AttentionMaps(genes, {"A": group(), "B": group("B", seed=1, unseen=[3, 7])}, SPEC)


@pytest.fixture
def weights():
    return torch.tensor([[0.0, 2.0, 0.5], [1.0, 0.0, 0.0]])


@pytest.fixture
def expected(maps, weights, brute_map):
    """The map from the definition: mean queries and keys, softmax over the given genes."""

    def compute(name="A", rows=slice(None), **kind):
        pooled = maps.groups[name]
        count = pooled.count_G.numpy().clip(1)[:, None]
        q, k = ((x.double().numpy() / count).reshape(6, N, 4)[:, rows] for x in (pooled.q_sum_LHGD, pooled.k_sum_LHGD))
        return brute_map(q, k, weights.flatten(), SPEC.scale, **kind)

    return compute


def test_means(maps):
    pooled = maps.group("B")
    torch.testing.assert_close(pooled.q_LHGD[1, 2, 4], pooled.q_sum_LHGD[1, 2, 4] / pooled.count_G[4])
    torch.testing.assert_close(pooled.k_LHGD[0, 1, 5], pooled.k_sum_LHGD[0, 1, 5] / pooled.count_G[5])
    assert pooled.q_LHGD[:, :, [3, 7]].abs().max() == pooled.k_LHGD[:, :, [3, 7]].abs().max() == 0


@pytest.mark.parametrize("name", ["A", "B"])
@pytest.mark.parametrize("rows", [None, np.array([0, 3, 4, 11, 20])], ids=["all genes", "five genes"])
@pytest.mark.parametrize(("symmetrize", "apc"), [(False, False), (True, False), (False, True), (True, True)])
def test_dense_and_tiles_equal_the_definition(monkeypatch, maps, weights, expected, name, rows, symmetrize, apc):
    monkeypatch.setattr(kernel, "_PANEL_ROWS", (16, 16))
    options = {"rows": rows, "symmetrize": symmetrize, "apc": apc}
    dense = maps.dense(name, weights, **options)
    assert dense.dtype == np.float32
    want = expected(name, slice(None) if rows is None else rows, symmetrize=symmetrize, apc=apc)
    np.testing.assert_allclose(dense, want, atol=1e-6)
    tiles = {start: panel.numpy().copy() for start, panel in maps.tiles(name, weights, **options)}
    assert list(tiles) == ([0, 16] if rows is None else [0])
    np.testing.assert_array_equal(np.concatenate(list(tiles.values())), dense)
    if not symmetrize and not apc:
        np.testing.assert_allclose(dense.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("per", ["query", "key"])
@pytest.mark.parametrize("rows", [None, np.array([0, 3, 4, 11, 20])], ids=["all genes", "five genes"])
@pytest.mark.parametrize("candidates", [None, np.array([3, 11])], ids=["any", "two"])
@pytest.mark.parametrize(("symmetrize", "apc"), [(False, False), (True, True)])
def test_topk_equals_sorting_the_definition(maps, weights, expected, per, rows, candidates, symmetrize, apc):
    partner, value = maps.topk(
        "A", 3, weights, rows=rows, candidates=candidates, per=per, symmetrize=symmetrize, apc=apc
    )
    genes = np.arange(N) if rows is None else rows
    want = expected("A", genes, symmetrize=symmetrize, apc=apc, transpose=per == "key")
    allowed = genes if candidates is None else candidates
    assert partner.shape == value.shape == (len(genes), min(3, len(allowed)))
    for row, gene in enumerate(genes):
        others = sorted((c for c in allowed if c != gene), key=lambda c: -want[row, np.searchsorted(genes, c)])
        others = others[: partner.shape[1]]
        assert partner[row].tolist() == others + [-1] * (partner.shape[1] - len(others))
        np.testing.assert_allclose(value[row, : len(others)], want[row, np.searchsorted(genes, others)], atol=1e-6)
        assert np.isnan(value[row, len(others) :]).all()


def test_candidates_outside_the_rows_are_no_partners(maps):
    partner, _ = maps.topk("A", 5, rows=np.array([1, 2, 3]), candidates=np.array([2, 9]))
    assert partner.ravel().tolist() == [2, -1, 2]


def test_the_default_is_the_mean_over_all_heads(maps):
    single = []
    for layer, head in np.ndindex(2, 3):
        one = torch.zeros(2, 3)
        one[layer, head] = 3.0
        single.append(maps.dense("A", one))
    np.testing.assert_allclose(maps.dense("A"), np.mean(single, axis=0), atol=1e-6)


def test_genes_never_seen_give_no_nan(maps):
    dense = maps.dense("B")
    assert np.isfinite(dense).all()
    np.testing.assert_allclose(dense[3], 1 / N, atol=1e-6)  # a query of 0 looks at everybody alike


def test_sums_add_up():
    first, second = group(seed=0), group(seed=1)
    both = first + second
    torch.testing.assert_close(both.q_sum_LHGD, first.q_sum_LHGD + second.q_sum_LHGD)
    torch.testing.assert_close(both.k_sum_LHGD, first.k_sum_LHGD + second.k_sum_LHGD)
    assert torch.equal(both.count_G, first.count_G + second.count_G)
    assert (both.name, both.n_cells) == ("A", 18)
    with pytest.raises(ValueError, match="shapes differ"):
        first + group(n_genes=5)


def test_errors(maps, weights):
    with pytest.raises(KeyError, match=r"'C' is unknown; there are \['A', 'B'\]"):
        maps.dense("C")
    with pytest.raises(ValueError, match=r"\(n_layers, n_heads\) = \(2, 3\)"):
        maps.dense("A", weights.T)
    with pytest.raises(ValueError, match="positive sum"):
        maps.dense("A", torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="triton"):
        list(maps.tiles("A", backend="triton"))
    with pytest.raises(RuntimeError, match="triton"):
        maps.topk("A", 3, backend="triton")


def test_repr(maps):
    assert repr(maps) == "AttentionMaps(23 genes, 2 layers × 3 heads; A (9 cells), B (9 cells))"
