import networkx as nx
import numpy as np
import pytest

from grnlab.network.communities import communities


def blocks(build, sizes=(14, 10, 6), seed=0, extra=()):
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"B{b}_{i:02d}" for i, b in enumerate(block)]
    edges = []
    for i, j in np.argwhere(~np.eye(len(names), dtype=bool)):
        inside = block[i] == block[j]
        if rng.random() < (0.6 if inside else 0.08):
            edges.append((names[i], names[j], float(rng.random() * (1.0 if inside else 0.3))))
    order = rng.permutation(len(names))
    return build(edges, genes=[*(names[i] for i in order), *extra]), names


def test_planted_blocks_are_found_biggest_first(build):
    net, names = blocks(build, extra=["LONELY"])
    found = net.communities()
    assert len(found) == 3
    for name in names:
        assert found.membership[name] == int(name[1])
    assert found.membership["LONELY"] == -1
    assert found.membership.index.equals(net.genes.index)
    assert found.membership.dtype == np.int64


def test_quality_is_the_weighted_modularity(build):
    net, _ = blocks(build)
    found = net.communities(resolution=1.7)
    graph = nx.Graph()
    for source, target, weight in net.edges.itertuples(index=False):
        graph.add_edge(source, target, weight=graph.get_edge_data(source, target, {"weight": 0})["weight"] + weight)
    groups = [set(genes) for genes in found.as_dict().values()]
    assert found.quality == pytest.approx(nx.community.modularity(graph, groups, weight="weight"))


def test_weights_decide(build):
    # a ring of four: which pairs go together is in the weights alone
    ring = [("A", "B"), ("B", "C"), ("C", "D"), ("D", "A")]
    heavy_ab = build([(s, t, w) for (s, t), w in zip(ring, [9, 1, 9, 1], strict=True)]).communities()
    heavy_bc = build([(s, t, w) for (s, t), w in zip(ring, [1, 9, 1, 9], strict=True)]).communities()
    assert heavy_ab.membership["A"] == heavy_ab.membership["B"] != heavy_ab.membership["C"]
    assert heavy_bc.membership["B"] == heavy_bc.membership["C"] != heavy_bc.membership["A"]


def test_both_directions_are_summed(build):
    net = build([("A", "B", 1.0), ("B", "A", 2.0), ("C", "D", 4.0), ("B", "C", 0.1)])
    table = net.communities().table()
    assert table["strength"].tolist() == [4.0, 3.0]
    assert table["n_genes"].tolist() == [2, 2]
    assert table["top_genes"].tolist() == ["C;D", "A;B"]
    assert table.index.name == "community"


def test_the_seed_decides_where_the_network_does_not(build_random):
    net = build_random(150, 900)  # no structure: every search ends elsewhere
    found = [net.communities(seed=seed).membership for seed in (3, 3, 4)]
    assert found[0].equals(found[1])
    assert not found[0].equals(found[2])


def test_a_higher_resolution_splits(build):
    net, _ = blocks(build)
    assert len(net.communities(resolution=5.0)) > len(net.communities())


def test_seeded_search_leaves_the_global_random_state_alone(build):
    import random

    net, _ = blocks(build)
    random.seed(1)
    expected = random.random()
    random.seed(1)
    net.communities()
    assert random.random() == expected


def test_numbering_does_not_depend_on_the_gene_table_order(build):
    edges = [(a, b, 1.0) for a, b in ["AB", "CD", "EF"]]
    for genes in ("ABCDEF", "FEDCBA", "CADEBF"):
        found = build(edges, genes=genes).communities()
        assert [found.membership[gene] for gene in "ACE"] == [0, 1, 2]


def test_genes_of_a_community_are_ordered_by_ties_to_it(blood):
    found = blood.communities()
    assert found.genes(0)[0] == "SPI1"
    assert set(found.genes(1)) == {"PAX5", "CD79A", "MS4A1"}
    assert sum(map(len, found.as_dict().values())) == 7
    with pytest.raises(ValueError, match="community must be from 0 to 1, got 2"):
        found.genes(2)
    assert repr(found).startswith("Communities(2 of 7 genes, modularity 0.")


def test_without_edges(empty):
    found = empty.communities()
    assert found.membership.tolist() == [-1, -1, -1]
    assert np.isnan(found.quality)
    assert len(found) == 0
    assert found.as_dict() == {}
    assert found.table().columns.tolist() == [
        *("n_genes", "n_edges", "density", "strength", "cut", "conductance", "top_genes")
    ]
    assert found.table().empty


def test_negative_edges_tie_nothing(build):
    found = build([("A", "B", 1.0), ("B", "C", -1.0)]).communities()
    assert found.membership["C"] == -1


@pytest.mark.parametrize("resolution", [0, -1.0, float("nan"), float("inf")])
def test_wrong_resolution(blood, resolution):
    with pytest.raises(ValueError, match="resolution must be a positive number"):
        communities(blood, resolution=resolution)
