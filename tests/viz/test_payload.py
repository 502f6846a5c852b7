import json

import numpy as np
import pandas as pd
import pytest

from grnlab.network import GeneNetwork
from grnlab.viz.payload import group_payload, jsonable

from .conftest import ODD_NAMES, edgeless, network


def edge_set(payload):
    name, edges = payload["genes"]["name"], payload["edges"]
    return list(zip(*([name[i] for i in edges[end]] for end in ("source", "target")), strict=True))


def test_a_network_that_fits_is_held_whole():
    net = network(n_genes=30, n_edges=60)
    payload = group_payload(net, max_edges=60, max_nodes=30, seed=0)
    assert payload["levels"] == ["all edges"]
    assert edge_set(payload) == list(zip(net.edges["source"], net.edges["target"], strict=True))
    assert payload["edges"]["weight"] == pytest.approx(net.edges["weight"].tolist(), rel=1e-5)
    assert sorted(payload["genes"]["name"]) == sorted(net.genes.index)
    columns = ("name", "x", "y", "rank", "community", "is_tf", "mean_counts", "level", "eigenvector")
    assert {len(payload["genes"][key]) for key in columns} == {30}
    assert payload["genes"]["first_x"] == payload["genes"]["x"]


def test_a_larger_network_is_cut_to_the_limits():
    net = network(n_genes=80, n_edges=600)
    payload = group_payload(net, max_edges=100, max_nodes=40, seed=0)
    assert len(payload["genes"]["name"]) == len(payload["genes"]["x"]) <= 40
    assert len(payload["edges"]["weight"]) <= 100
    assert (payload["n_genes"], payload["n_edges"]) == (80, 600)
    assert {gene for pair in edge_set(payload) for gene in pair} == set(payload["genes"]["name"])


def test_genes_of_the_first_view_come_first_and_have_places_of_their_own():
    net = network(n_genes=120, n_edges=900)
    payload = group_payload(net, max_edges=5000, max_nodes=500, seed=0)
    level = payload["genes"]["level"]
    first = level.count(0)
    assert level == sorted(level)
    assert len(payload["genes"]["first_x"]) == first < 120
    drawn = [place for place, value in enumerate(level) if value < len(payload["levels"])]
    spots = {(payload["genes"]["x"][i], payload["genes"]["y"][i]) for i in drawn}
    assert len(spots) == len(drawn)
    edges = payload["edges"]
    for end in ("source", "target"):
        assert all(level[gene] <= own for gene, own in zip(edges[end], edges["level"], strict=True))


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
    places = set(zip(payload["genes"]["x"], payload["genes"]["y"], strict=True))
    assert (len(places), payload["edges"]["source"], payload["communities"]) == (2, [], [])
    assert group_payload(edgeless(), max_edges=10, max_nodes=10, seed=0)["genes"]["name"] == []


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
