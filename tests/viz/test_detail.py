import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from grnlab.viz.detail import choose_stored, detail_levels


def random_edges(n_genes, seed):
    """Distinct edges by falling strength, in a number the generator chooses, and a ranking of the genes."""
    generator = np.random.default_rng(seed)
    pairs = np.array([(i, j) for i in range(n_genes) for j in range(n_genes) if i != j])
    source, target = pairs[generator.permutation(len(pairs))[: generator.integers(1, len(pairs) + 1)]].T
    return source, target, generator.permutation(n_genes) + 1


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_what_is_stored_respects_the_limits_and_the_order(n_genes, max_edges, max_nodes, seed):
    source, target, rank = random_edges(n_genes, seed)
    strength = np.random.default_rng(seed).integers(0, 4, len(source)).astype(float)
    genes, edges = choose_stored(n_genes, source, target, strength, rank, max_edges=max_edges, max_nodes=max_nodes)
    assert len(genes) <= max_nodes
    assert len(edges) == len(set(edges)) <= max_edges
    assert set(source[edges]) | set(target[edges]) <= set(genes)
    assert (np.diff(strength[edges]) <= 0).all()
    if n_genes <= max_nodes and max_edges >= n_genes:
        strongest = pd.Series(strength).groupby(target).max()
        kept = pd.Series(strength[edges]).groupby(target[edges]).max()
        assert kept.equals(strongest), "every target keeps its strongest regulator"


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 90), st.integers(0, 2**32 - 1))
def test_levels_grow_to_the_whole_network(n_genes, seed):
    source, target, rank = random_edges(n_genes, seed)
    detail = detail_levels(n_genes, source, target, rank)
    last = len(detail.titles) - 1
    assert detail.titles[last] == "all edges"
    assert set(detail.edge_level) <= set(range(last + 1))
    assert len(set(detail.edge_level)) == last + 1, "every level adds edges"
    for end in (source, target):
        assert (detail.gene_level[end] <= detail.edge_level).all()
    touched = np.isin(np.arange(n_genes), np.concatenate([source, target]))
    if last:
        assert (detail.gene_level[~touched] == last + 1).all()


def test_the_first_view_of_a_large_network_is_small_and_shows_the_main_hubs():
    generator = np.random.default_rng(0)
    source = generator.integers(0, 100, 20_000)
    target = generator.integers(0, 2_000, 20_000)
    keep = source != target
    source, target = pd.DataFrame({"s": source[keep], "t": target[keep]}).drop_duplicates().to_numpy().T
    rank = np.arange(2_000) + 1
    detail = detail_levels(2_000, source, target, rank)
    first = detail.edge_level == 0
    assert first.sum() <= 12 * 12 + 24
    assert set(source[first]) == set(range(12))
    strongest = [np.flatnonzero(source == hub)[:12] for hub in range(12)]
    assert first[np.concatenate(strongest)].all()
    assert (np.bincount(target[detail.edge_level <= 1], minlength=2_000)[np.unique(target)] >= 1).all()


def test_a_small_network_has_one_level():
    source, target = np.array([0, 1]), np.array([1, 2])
    detail = detail_levels(4, source, target, np.array([1, 2, 3, 4]))
    assert detail.titles == ["all edges"]
    assert detail.gene_level.tolist() == [0, 0, 0, 0]
