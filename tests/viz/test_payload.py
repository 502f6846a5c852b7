import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grnlab.network import GeneNetwork
from grnlab.viz.payload import TABLE_EDGES, choose_drawn, group_payload, jsonable

from .conftest import ODD_NAMES, edgeless, network


def edge_set(payload, first=None):
    name, edges = payload["genes"]["name"], payload["edges"]
    return list(zip(*([name[i] for i in edges[end][:first]] for end in ("source", "target")), strict=True))


def test_a_network_that_fits_is_drawn_whole():
    net = network(n_genes=30, n_edges=60)
    payload = group_payload(net, max_edges=60, max_nodes=30, seed=0)
    assert (payload["n_drawn_genes"], payload["n_drawn_edges"]) == (30, 60)
    assert edge_set(payload) == list(zip(net.edges["source"], net.edges["target"], strict=True))
    assert payload["edges"]["weight"] == pytest.approx(net.edges["weight"].tolist(), rel=1e-5)
    assert sorted(payload["genes"]["name"]) == sorted(net.genes.index)
    assert {len(payload["genes"][key]) for key in ("name", "x", "y", "rank", "community", "is_tf", "mean_counts")} == {
        30
    }


def test_a_larger_network_keeps_every_edge_in_its_table():
    net = network(n_genes=80, n_edges=600)
    payload = group_payload(net, max_edges=100, max_nodes=40, seed=0)
    assert payload["n_drawn_genes"] <= 40
    assert payload["n_drawn_edges"] <= 100
    assert payload["n_edges"] == 600
    assert set(edge_set(payload)) == set(zip(net.edges["source"], net.edges["target"], strict=True))
    drawn = payload["genes"]["name"][: payload["n_drawn_genes"]]
    assert {gene for pair in edge_set(payload, payload["n_drawn_edges"]) for gene in pair} == set(drawn)
    assert len(payload["genes"]["x"]) == len(drawn)


def test_the_table_is_capped_at_the_strongest_edges(monkeypatch):
    monkeypatch.setattr("grnlab.viz.payload.TABLE_EDGES", 150)
    net = network(n_genes=80, n_edges=600)
    payload = group_payload(net, max_edges=100, max_nodes=80, seed=0)
    assert len(payload["edges"]["weight"]) == 150 < TABLE_EDGES
    hidden = set(zip(net.edges["source"], net.edges["target"], strict=True)) - set(edge_set(payload))
    strength = net.edges.set_index(["source", "target"])["weight"]
    listed_only = edge_set(payload)[payload["n_drawn_edges"] :]
    assert min(strength[pair] for pair in listed_only) >= max(strength[pair] for pair in hidden)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_what_is_drawn_respects_the_limits_and_the_order(n_genes, max_edges, max_nodes, seed):
    generator = np.random.default_rng(seed)
    pairs = np.array([(i, j) for i in range(n_genes) for j in range(n_genes) if i != j])
    source, target = pairs[generator.permutation(len(pairs))[: generator.integers(1, len(pairs) + 1)]].T
    strength = generator.integers(0, 4, len(source)).astype(float)
    rank = generator.permutation(n_genes) + 1
    genes, edges = choose_drawn(n_genes, source, target, strength, rank, max_edges=max_edges, max_nodes=max_nodes)
    assert len(genes) <= max_nodes
    assert len(edges) == len(set(edges)) <= max_edges
    assert set(source[edges]) | set(target[edges]) <= set(genes)
    assert (np.diff(strength[edges]) <= 0).all()
    if n_genes <= max_nodes and max_edges >= n_genes:
        strongest = pd.Series(strength).groupby(target).max()
        drawn = pd.Series(strength[edges]).groupby(target[edges]).max()
        assert drawn.equals(strongest), "every target keeps its strongest regulator"


def test_ranks_communities_and_degrees_are_those_of_the_network():
    net = network(n_genes=40, n_edges=120)
    payload = group_payload(net, max_edges=1000, max_nodes=1000, seed=5)
    name = payload["genes"]["name"]
    hubs = net.hubs().loc[name]
    assert payload["genes"]["rank"] == hubs["rank"].tolist()
    assert payload["genes"]["out_degree"] == hubs["out_degree"].tolist()
    assert payload["genes"]["community"] == net.communities(seed=5).membership.loc[name].tolist()
    assert payload["communities"][0]["size"] == max(entry["size"] for entry in payload["communities"])
    radius = pd.Series(payload["genes"]["radius"], index=name)
    assert radius.idxmax() == hubs["rank"].idxmin()


def test_odd_names_stay_what_they_are():
    payload = group_payload(network(names=ODD_NAMES), max_edges=100, max_nodes=100, seed=0)
    assert set(ODD_NAMES) <= set(payload["genes"]["name"])
    assert json.loads(json.dumps(payload)) == payload


def test_without_edges_genes_are_still_placed():
    payload = group_payload(edgeless("A", "B"), max_edges=10, max_nodes=10, seed=0)
    assert (payload["n_drawn_genes"], payload["n_drawn_edges"], payload["communities"]) == (2, 0, [])
    assert group_payload(edgeless(), max_edges=10, max_nodes=10, seed=0)["n_drawn_genes"] == 0


def test_negative_weights_count_by_their_size():
    edges = pd.DataFrame({"source": ["A", "B", "C"], "target": ["B", "C", "A"], "weight": [0.1, -0.9, 0.5]})
    net = GeneNetwork(edges, pd.DataFrame(index=pd.Index(list("ABC"), name="gene")), name="signed")
    payload = group_payload(net, max_edges=10, max_nodes=10, seed=0)
    assert payload["edges"]["weight"] == [-0.9, 0.5, 0.1]


def test_missing_values_become_null():
    net = network(n_genes=5, n_edges=6)
    net.genes.loc[net.genes.index[0], "mean_counts"] = np.nan
    payload = group_payload(net, max_edges=10, max_nodes=10, seed=0)
    assert payload["genes"]["mean_counts"].count(None) == 1


def test_jsonable_leaves_plain_types_only():
    value = {
        "a": np.arange(2),
        "b": {"x"},
        "c": float("inf"),
        4: (np.bool_(True), None),
        "d": np.float32(0.5),
        "e": object,
    }
    assert json.loads(json.dumps(jsonable(value), allow_nan=False)) == {
        "a": [0, 1], "b": ["x"], "c": None, "4": [True, None], "d": 0.5, "e": "<class 'object'>",
    }  # fmt: skip
