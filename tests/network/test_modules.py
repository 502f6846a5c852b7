import networkx as nx
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from grnlab.network import (
    NetworkSet,
    joint_communities,
    match_communities,
    nested_communities,
    resolution_sweep,
)


def planted(build, sizes, *, inside=0.6, outside=0.05, seed=0, name="planted", prefix="G"):
    """Blocks of genes, and the block of each."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"{prefix}{i:03d}" for i in range(len(block))]
    chance = np.where(block[:, None] == block[None, :], inside, outside)
    hit = (rng.random(chance.shape) < chance) & ~np.eye(len(block), dtype=bool)
    edges = [(names[i], names[j], 0.5 + rng.random()) for i, j in np.argwhere(hit)]
    return build(edges, names, name=name), dict(zip(names, block, strict=True))


@pytest.mark.parametrize("method", ["leiden", "louvain", "cpm"])
def test_every_method_finds_the_planted_blocks(build, method):
    net, truth = planted(build, (30, 20, 10))
    found = net.communities(method=method, resolution=0.4 if method == "cpm" else 1.0)
    assert adjusted_rand_score(list(truth.values()), found.membership) == 1
    assert (found.method, len(found)) == (method, 3)
    assert found.quality == pytest.approx(net.communities().quality)


def test_directed_modularity_against_networkx(build):
    net, truth = planted(build, (30, 20, 10))
    found = net.communities(directed=True)
    assert adjusted_rand_score(list(truth.values()), found.membership) == 1
    expected = nx.community.modularity(net.to_networkx(), [set(g) for g in found.as_dict().values()], weight="weight")
    assert found.quality == pytest.approx(expected)
    with pytest.raises(ValueError, match="directed=True needs method='leiden'"):
        net.communities(directed=True, method="louvain")
    with pytest.raises(ValueError, match="method must be one of leiden, louvain, cpm, got 'infomap'"):
        net.communities(method="infomap")


def test_measures_against_networkx(build_random):
    net = build_random(40, 150)
    found = net.communities()
    graph = nx.Graph()
    graph.add_nodes_from(net.genes.index)
    for s, t, w in net.edges.itertuples(index=False):
        graph.add_edge(s, t, weight=graph.get_edge_data(s, t, {"weight": 0})["weight"] + w)
    table = found.table(n_top=2)
    for number, genes in found.as_dict().items():
        row, inner = table.loc[number], graph.subgraph(genes)
        assert row["n_genes"] == len(genes)
        assert row["n_edges"] == inner.number_of_edges()
        assert row["density"] == pytest.approx(nx.density(inner))
        assert row["strength"] == pytest.approx(inner.size("weight"))
        assert row["cut"] == pytest.approx(nx.cut_size(graph, genes, weight="weight"))
        assert row["conductance"] == pytest.approx(nx.conductance(graph, genes, weight="weight"))


def test_conductance_of_components(build):
    table = build([("A", "B", 1), ("C", "D", 1)]).communities().table()
    assert table["conductance"].tolist() == [0, 0]
    alone = build([("A", "B", 1)]).communities().table()
    assert np.isnan(alone["conductance"].iloc[0])
    assert alone["density"].tolist() == [1.0]


def test_sweep_agrees_on_structure_and_not_on_noise(build, build_random):
    net, _ = planted(build, (30, 20, 10))
    clear = resolution_sweep(net, [1.0], n_seeds=4)
    assert clear[["ari", "nmi", "n_communities"]].to_numpy().tolist() == [[1, 1, 3]]
    noise = resolution_sweep(build_random(150, 900), [0.2, 3.0], n_seeds=4)
    assert noise["ari"].iloc[1] < 0.8
    assert noise["n_communities"].iloc[1] > noise["n_communities"].iloc[0]


def test_sweep_of_nothing(empty):
    table = resolution_sweep(empty, [1.0], n_seeds=2)
    assert np.isnan(table["ari"].iloc[0])
    with pytest.raises(ValueError, match="n_seeds must be at least 2"):
        resolution_sweep(empty, n_seeds=1)
    with pytest.raises(ValueError, match="resolution must be a positive"):
        resolution_sweep(empty, [-1.0])


def test_nested_levels_refine(build):
    # two blocks, each of two blocks
    rng = np.random.default_rng(0)
    names = [f"G{i:02d}" for i in range(60)]
    coarse, fine = np.arange(60) // 30, np.arange(60) // 15
    chance = 0.02 + 0.25 * (coarse[:, None] == coarse) + 0.6 * (fine[:, None] == fine)
    hit = (rng.random((60, 60)) < chance) & ~np.eye(60, dtype=bool)
    net = build([(names[i], names[j], 1) for i, j in np.argwhere(hit)], [*names, "ALONE"])
    table = nested_communities(net, levels=3, resolution=0.5, min_genes=10)
    assert table.columns.tolist() == ["level_1", "level_2", "level_3"]
    assert table.loc["ALONE"].isna().all()
    genes = table.loc[names]
    assert adjusted_rand_score(coarse, genes["level_1"]) == 1
    finer = nested_communities(net, levels=2)
    for one, two in finer.loc[names].to_numpy():
        assert two == one or two.startswith(f"{one}.")
    with pytest.raises(ValueError, match="levels must be at least 1"):
        nested_communities(net, levels=0)


def test_small_communities_stay_whole(build):
    net, _ = planted(build, (8, 8), outside=0.01)
    table = nested_communities(net, levels=2, min_genes=50)
    assert table["level_1"].equals(table["level_2"].rename("level_1"))


def test_matching_undoes_a_renumbering(build):
    net, _ = planted(build, (30, 20, 10))
    a = net.communities()
    # the same genes, with a part of block 0 gone: numbers change, partners do not
    b = net.subset(net.genes.index[18:]).communities()
    table = match_communities(a, b)
    assert dict(zip(table["a"], table["b"], strict=True)) == {1: 0, 0: 1, 2: 2}
    assert table["jaccard"].tolist() == [1, 1, 1]  # over the genes both know
    assert table["overlap"].sum() == 42


def test_communities_without_a_partner(build):
    a = build([("A", "B", 1), ("C", "D", 1), ("E", "F", 1)], "ABCDEF", name="a").communities()
    b = build([("A", "B", 1)], "ABCDEF", name="b").communities()
    table = match_communities(a, b)
    assert table["jaccard"].tolist() == [1, 0, 0]
    assert table["b"].isna().tolist() == [False, True, True]
    back = match_communities(b, a)
    assert back["a"].isna().tolist() == [False, True, True]
    assert match_communities(b, build([], "AB").communities())["b"].isna().all()


def test_matching_through_a_set(build):
    nets = NetworkSet(planted(build, (20, 10), seed=s, name=str(s))[0] for s in range(2))
    assert nets.match_communities("0", "1")["jaccard"].tolist() == [1, 1]


def test_joint_communities_need_both_networks(build):
    # network one splits {0-9 | 10-29}, network two {0-19 | 20-29}; together three blocks
    names = [f"G{i:02d}" for i in range(30)]

    def cliques(name, groups, scale):
        return build(
            [(names[i], names[j], scale) for group in groups for i in group for j in group if i < j], names, name=name
        )

    one = cliques("one", [range(10), range(10, 30)], 1.0)
    two = cliques("two", [range(20), range(20, 30)], 1000.0)  # the scale of a network does not count
    found = joint_communities([one, two], resolution=1.3)
    assert adjusted_rand_score(np.arange(30) // 10, found.membership) == 1
    assert 0 < found.quality < 1
    assert joint_communities([build([], "AB", name="x")]).membership.tolist() == [-1, -1]
    with pytest.raises(ValueError, match="networks is empty"):
        joint_communities([])
