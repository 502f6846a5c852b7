import numpy as np
import pytest
import torch
from grnlab_kernels import map_source, reference, rows
from grnlab_kernels.maps import MapOptions, column_sums, combine_map, map_panels, row_lse, topk_edges
from torch.library import opcheck


def pooled(n_heads=3, n_genes=41, d_head=8, *, seed=0):
    rng = np.random.default_rng(seed)
    q, k = torch.from_numpy(rng.normal(0, 1.5, (2, n_heads, n_genes, d_head))).float()
    return q, k, torch.softmax(torch.from_numpy(rng.normal(size=n_heads)), 0).float()


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_row_lse_is_an_operator():
    q, k, _ = pooled()
    opcheck(map_source.row_lse, (q, k, 0.5, "torch"))


@pytest.mark.parametrize(("forward", "backward"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("known", [False, True])
def test_combine_map_is_an_operator(forward, backward, known):
    q, k, share = pooled()
    lse = row_lse(q, k, scale=0.5) if known else None
    where = {"scale": 0.5, "start": 3, "end": 30, "forward": forward, "backward": backward, "backend": "torch"}
    opcheck(map_source.combine_map, (q, k, share, lse), where)


def test_column_sums_is_an_operator():
    q, k, share = pooled()
    opcheck(map_source.column_sums, (q, k, share, 0.5, "torch"))


@pytest.mark.parametrize("candidates", [None, torch.tensor([2, 3, 11])], ids=["all", "three"])
def test_topk_edges_is_an_operator(candidates):
    q, k, share = pooled()
    kind = {"symmetrize": True, "apc": True, "transpose": False}
    opcheck(map_source.topk_edges, (q, k, share, candidates), {"n_edges": 2, "scale": 0.5, "backend": "torch", **kind})


def test_compiles_as_one_graph():
    q, k, _ = pooled()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def mean_lse(q, k):
        return row_lse(2 * q, k, scale=0.5).mean(-1)

    expected = reference.row_lse(2 * q, k, scale=0.5).mean(-1)
    torch.testing.assert_close(mean_lse(q, k).double(), expected, rtol=1e-6, atol=1e-6)


def test_threads_change_no_bit(threads, monkeypatch):
    monkeypatch.setattr(rows, "_PANEL_ROWS", (16, 16))
    q, k, weights = pooled(n_genes=150)
    found = []
    for n_threads in (1, 2, 5):
        threads(n_threads)
        for whole_bytes in (0, 512 << 20):
            monkeypatch.setattr(map_source, "_WHOLE_BYTES", whole_bytes)
            options = MapOptions(0.5, symmetrize=True, apc=True)
            found.append([row_lse(q, k, scale=0.5), column_sums(q, k, weights, scale=0.5)])
            found[-1] += [*combine_map(q, k, weights, MapOptions(0.5)), *topk_edges(q, k, weights, 7, options)]
            found[-1] += [torch.cat([panel for _, panel in map_panels(q, k, weights, options)])]
    for n_threads in (1, 2):
        for whole in (0, 1):
            for x, y in zip(found[whole], found[2 * n_threads + whole], strict=True):
                assert torch.equal(x, y)


def test_a_panel_alone_runs_as_one_of_many(threads):
    """A map of one panel is not split among PyTorch's own threads."""
    q, k, weights = pooled(n_genes=64, d_head=64)
    first = []
    for n_threads in (1, 4):
        threads(n_threads)
        first.append(combine_map(q, k, weights, MapOptions(0.125))[0])
    assert torch.equal(*first)


@pytest.mark.parametrize("n_genes", [1, 511, 512, 513, 1_100])
def test_maps_made_whole_are_symmetric_and_turned_exactly(n_genes):
    q, k, weights = pooled(1, n_genes)
    plain, _ = combine_map(q, k, weights, MapOptions(0.5))
    both, _ = combine_map(q, k, weights, MapOptions(0.5, symmetrize=True))
    assert torch.equal(both, (plain + plain.T) / 2)
    assert torch.equal(combine_map(q, k, weights, MapOptions(0.5), transpose=True)[0], plain.T)


def test_a_whole_map_takes_one_pass(monkeypatch):
    q, k, weights = pooled()
    made = []
    logits = rows.products
    monkeypatch.setattr(rows, "products", lambda a, b: made.append(len(a) * len(b)) or logits(a, b))
    options = MapOptions(0.5, symmetrize=True, apc=True)
    for whole_bytes, passes in ((512 << 20, 1), (0, 4)):  # streamed: log-sum-exp, column sums, two directions
        monkeypatch.setattr(map_source, "_WHOLE_BYTES", whole_bytes)
        topk_edges(q, k, weights, 3, options)
        assert sum(made) == passes * 3 * 41**2
        made.clear()


def test_inference_mode_and_gradients_do_not_matter(threads):
    threads(2)
    q, k, weights = pooled(n_genes=300)
    options = MapOptions(0.5, symmetrize=True)
    expected = topk_edges(q, k, weights, 3, options)
    with torch.inference_mode():
        inside = topk_edges(q, k, weights, 3, options)
    tracked = topk_edges(q.requires_grad_(), k, weights, 3, options)
    for found in (inside, tracked):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_products_without_onednn(monkeypatch):
    q, k, weights = pooled(d_head=32)
    expected = combine_map(q, k, weights, MapOptions(0.2))[0]
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    torch.testing.assert_close(combine_map(q, k, weights, MapOptions(0.2))[0], expected, rtol=0, atol=1e-6)
