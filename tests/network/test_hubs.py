import logging

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse.linalg

from grnlab.network import hubs as hubs_module
from grnlab.network.hubs import CENTRALITIES


def undirected(network):
    graph = nx.Graph()
    graph.add_nodes_from(network.genes.index)
    for source, target, weight in network.edges.itertuples(index=False):
        previous = graph.get_edge_data(source, target, {"weight": 0.0})["weight"]
        graph.add_edge(source, target, weight=previous + weight)
    return graph


@pytest.mark.parametrize("seed", range(3))
def test_degrees_and_strengths_against_networkx(build_random, seed):
    net = build_random(seed=seed)
    graph, table = net.to_networkx(), net.hubs()
    for column, reference in {
        "out_degree": graph.out_degree(),
        "in_degree": graph.in_degree(),
        "degree": graph.degree(),
        "out_strength": graph.out_degree(weight="weight"),
        "in_strength": graph.in_degree(weight="weight"),
        "strength": graph.degree(weight="weight"),
    }.items():
        pd.testing.assert_series_equal(table[column].sort_index(), pd.Series(dict(reference)), check_names=False)


@pytest.mark.parametrize("seed", range(3))
def test_pagerank_is_that_of_the_reversed_graph(build_random, seed):
    net = build_random(seed=seed, n_edges=60)  # some genes have no regulator, some no edge
    reference = pd.Series(nx.pagerank(net.to_networkx().reverse(), alpha=0.85, tol=1e-13, max_iter=1000))
    found = net.hubs()["pagerank"]
    np.testing.assert_allclose(found[reference.index], reference, rtol=1e-6)
    assert found.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("n_genes", "n_edges"), [(40, 200), (120, 1500)])  # exact solver, ARPACK
def test_eigenvector_is_that_of_the_undirected_projection(build_random, n_genes, n_edges):
    net = build_random(n_genes, n_edges)
    graph = undirected(net)
    assert nx.is_connected(graph)
    reference = pd.Series(nx.eigenvector_centrality_numpy(graph, weight="weight"))
    np.testing.assert_allclose(net.hubs()["eigenvector"][reference.index], reference / reference.max(), rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_betweenness_takes_strong_edges_for_short_ones(build_random, seed):
    net = build_random(seed=seed, n_edges=120)
    graph = net.to_networkx()
    for *_, edge in graph.edges(data=True):
        edge["length"] = 1 / edge["weight"]
    reference = pd.Series(nx.betweenness_centrality(graph, weight="length"))
    table = net.hubs("betweenness")
    np.testing.assert_allclose(table["betweenness"][reference.index], reference, atol=1e-12)
    assert table["betweenness"].is_monotonic_decreasing
    assert "betweenness" not in net.hubs()


def test_betweenness_of_networks_without_paths(build, empty):
    assert empty.hubs("betweenness")["betweenness"].tolist() == [0.0, 0.0, 0.0]
    assert build([("A", "B", -1.0), ("B", "C", 1.0)]).hubs("betweenness")["betweenness"].tolist() == [0.0, 0.0, 0.0]


def test_a_planted_master_regulator_comes_first(build):
    # master -> 4 regulators -> 5 targets each; a busy listener hears many genes and moves nobody
    edges = [("MASTER", f"TF{i}", 1.0) for i in range(4)]
    edges += [(f"TF{i}", f"T{i}{j}", 1.0) for i in range(4) for j in range(5)]
    edges += [(f"T{i}{j}", "LISTENER", 1.0) for i in range(4) for j in range(5)]
    table = build(edges).hubs()
    assert table.index[0] == "MASTER"
    assert table["in_degree"].idxmax() == "LISTENER"
    assert table.loc["LISTENER", "rank"] == len(table)


def test_eigenvector_lives_in_the_largest_component(build):
    # the pair is far heavier, but three genes are more than two
    net = build([("A", "B", 1.0), ("B", "C", 1.0), ("X", "Y", 50.0)], genes="ABCXYZ")
    table = net.hubs("eigenvector")
    assert table.index[0] == "B"
    assert table["eigenvector"].max() == 1.0
    assert table.loc[["A", "C"], "eigenvector"].to_numpy() == pytest.approx(np.sqrt(0.5))
    assert (table.loc[["X", "Y", "Z"], "eigenvector"] == 0).all()


def test_eigenvector_of_equal_components_takes_the_heavier(build):
    table = build([("A", "B", 1.0), ("X", "Y", 2.0)]).hubs("eigenvector")
    assert table.query("eigenvector > 0").index.tolist() == ["X", "Y"]


def test_acyclic_networks_have_an_eigenvector_centrality(build):
    table = build([("A", "B", 1.0), ("A", "C", 1.0), ("B", "D", 1.0)]).hubs("eigenvector")
    assert (table["eigenvector"] > 0).all()


@pytest.mark.parametrize("shape", ["random", "star"])  # unshifted, the star would swing for ever
def test_power_iteration_stands_in_when_arpack_gives_up(build, build_random, monkeypatch, caplog, shape):
    star = [("HUB", f"G{i:03d}", 1.0 + i) for i in range(100)]
    net = build_random(120, 1500) if shape == "random" else build(star)
    expected = net.hubs("eigenvector")["eigenvector"]

    def give_up(*_, **__):
        raise scipy.sparse.linalg.ArpackNoConvergence("no", np.zeros(0), np.zeros((0, 0)))

    monkeypatch.setattr(scipy.sparse.linalg, "eigsh", give_up)
    with caplog.at_level(logging.WARNING, logger=hubs_module.__name__):
        found = net.hubs("eigenvector")["eigenvector"]
    assert "did not converge" in caplog.text
    np.testing.assert_allclose(found[expected.index], expected, rtol=1e-6)


@pytest.mark.parametrize("by", CENTRALITIES)
def test_sorted_ranked_and_ties_by_name(build, by):
    star = build([("HUB", gene, 1.0) for gene in "DBAC"], genes=["D", "HUB", "C", "A", "B"])
    table = star.hubs(by)
    assert table[by].round(9).is_monotonic_decreasing
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]
    assert [gene for gene in table.index if gene != "HUB"] == ["A", "B", "C", "D"]
    assert table.index.name == "gene"


def test_ties_of_iterative_solvers_are_broken_by_name(build_random):
    ring = [(f"G{i:03d}", f"G{(i + 1) % 200:03d}", 0.1) for i in range(200)]
    net = build_random(200, 0)
    table = type(net)(pd.DataFrame(ring, columns=["source", "target", "weight"]), net.genes, name="ring").hubs(
        "eigenvector"
    )
    assert table.index.tolist() == sorted(table.index)


def test_n_and_regulators_only(blood, build):
    table = blood.hubs("out_degree", n=2, regulators_only=True)
    assert table.index.tolist() == ["SPI1", "PAX5"]
    assert blood.hubs(n=0).empty
    assert set(blood.hubs(regulators_only=True).index) == {"SPI1", "CEBPB", "PAX5"}
    assert blood.hubs(regulators_only=True)["rank"].tolist() == [1, 2, 3]
    plain = build([("A", "B", 1.0)])
    assert plain.hubs()["is_tf"].isna().all()
    with pytest.raises(ValueError, match="no column is_tf"):
        plain.hubs(regulators_only=True)


def test_negative_weights_are_no_evidence(build):
    net = build([("A", "B", 1.0), ("C", "B", -3.0), ("D", "B", 0.0)])
    table = net.hubs()
    assert table.loc["C", ["out_degree", "out_strength", "eigenvector"]].tolist() == [1, 0.0, 0.0]
    assert table.loc["C", "pagerank"] == pytest.approx(table.loc["D", "pagerank"])
    assert table.index[0] == "A"


def test_wrong_questions_are_refused(blood):
    with pytest.raises(ValueError, match=r"by must be one of .*betweenness, got 'closeness'"):
        blood.hubs("closeness")
    with pytest.raises(ValueError, match=r"got 10\. For a number of genes write n=10"):
        blood.hubs(10)
    with pytest.raises(ValueError, match="n must be None or a whole number"):
        blood.hubs(n=-1)
    with pytest.raises(ValueError, match="n must be None or a whole number"):
        blood.hubs(n=2.5)


def test_order_of_the_gene_table_does_not_matter(build_random):
    net = build_random()
    shuffled = type(net)(net.edges, net.genes.iloc[::-1], name="shuffled")
    pd.testing.assert_frame_equal(net.hubs(), shuffled.hubs(), rtol=1e-9)
