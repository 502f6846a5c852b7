import numpy as np
import pandas as pd
import pytest

from grnlab.network import NetworkSet
from grnlab.network.compare import compare
from grnlab.network.hubs import CENTRALITIES


@pytest.fixture
def pair(build):
    """In `a` H regulates everything, in `b` K does; A -> B is in both; P and Q are each in one universe alone."""
    a = build(
        [("H", "A", 0.9), ("H", "B", 0.8), ("H", "K", 0.7), ("A", "B", 0.2), ("H", "P", 1.0)],
        genes="ABHKP",
        name="a",
        is_tf=[False, False, True, True, False],
    )
    b = build(
        [("K", "A", 0.9), ("K", "B", 0.8), ("K", "H", 0.7), ("A", "B", 0.5), ("Q", "K", 1.0)], genes="QKHBA", name="b"
    )
    return a, b


def test_edges_are_shared_or_of_one_alone(pair):
    found = compare(*pair)
    assert found.edges_shared.to_dict("records") == [
        {"source": "A", "target": "B", "weight_a": 0.2, "weight_b": 0.5, "difference": 0.2 - 0.5}
    ]
    assert list(zip(found.edges_a_only["source"], found.edges_a_only["target"], strict=True)) == [
        ("H", "A"),
        ("H", "B"),
        ("H", "K"),
    ]
    assert list(zip(found.edges_b_only["source"], found.edges_b_only["target"], strict=True)) == [
        ("K", "A"),
        ("K", "B"),
        ("K", "H"),
    ]
    assert found.jaccard == 1 / 7
    assert found.shared_fraction_a == found.shared_fraction_b == 1 / 4
    assert (found.n_genes_shared, found.n_genes_a_only, found.n_genes_b_only) == (4, 1, 1)


def test_differential_hubs_are_those_that_changed(pair):
    table = compare(*pair).hubs("out_degree")
    assert table.index.tolist() == ["H", "K", "A", "B"]
    assert table.loc["H"].tolist() == [3, 0, 3, 1, 4, 3, True]
    assert table.loc["K", ["a", "b", "difference", "rank_a", "rank_b", "rank_change"]].tolist() == [0, 3, -3, 4, 1, -3]
    assert table.columns.tolist() == ["a", "b", "difference", "rank_a", "rank_b", "rank_change", "is_tf"]
    assert set(compare(*pair).hubs(n=2).index) == {"H", "K"}


@pytest.mark.parametrize("by", CENTRALITIES)
def test_centralities_are_those_of_the_shared_universe(pair, by):
    a, b = (network.subset(list("ABHK")) for network in pair)
    table = compare(*pair).hubs(by)
    for column, network in {"a": a, "b": b}.items():
        alone = network.hubs(by)
        pd.testing.assert_series_equal(table[column].sort_index(), alone[by].sort_index(), check_names=False)
        assert table[f"rank_{column}"].sort_index().tolist() == alone["rank"].sort_index().tolist()
    assert table["difference"].abs().round(9).is_monotonic_decreasing


def test_the_other_way_round_is_the_opposite(pair):
    one, two = compare(*pair), compare(*pair[::-1])
    for column in ("difference", "rank_change"):
        np.testing.assert_allclose(one.hubs()[column].sort_index(), -two.hubs()[column].sort_index(), atol=1e-12)
    assert one.jaccard == two.jaccard
    assert one.edges_a_only.equals(two.edges_b_only)
    assert two.hubs()["is_tf"].isna().all()  # b does not know


def test_a_network_compared_with_itself(blood):
    found = compare(blood, blood)
    assert found.jaccard == 1.0
    assert found.edges_a_only.empty
    assert found.edges_b_only.empty
    assert (found.hubs()["difference"] == 0).all()
    assert found.hubs().index.tolist() == sorted(blood.genes.index)


def test_long_table_and_summary(pair):
    found = compare(*pair)
    table = found.centralities()
    assert len(table) == 4 * len(CENTRALITIES)
    assert table.columns.tolist()[:2] == ["centrality", "gene"]
    assert found.summary()["n_edges_shared"] == 1
    assert repr(found) == "NetworkComparison('a' with 'b': 4 shared genes, 1 shared edges, Jaccard 0.143)"


def test_without_edges_fractions_are_nan(empty, blood, build):
    other = build([("A", "B", 1.0)], genes="ABC", name="other")
    assert np.isnan(compare(empty, empty).jaccard)
    one_sided = compare(empty, other)
    assert one_sided.jaccard == 0.0
    assert np.isnan(one_sided.shared_fraction_a)
    assert one_sided.shared_fraction_b == 0.0
    assert one_sided.edges_shared.columns.tolist() == ["source", "target", "weight_a", "weight_b", "difference"]
    with pytest.raises(ValueError, match=r"'empty' .3 genes. and 'blood' .8 genes. share no gene name"):
        compare(empty, blood)


def test_wrong_questions_are_refused(pair):
    nets = NetworkSet(pair)
    with pytest.raises(ValueError, match="by must be one of"):
        nets.compare("a", "b").hubs("closeness")
    with pytest.raises(KeyError, match="no network named 'c'; the set has 'a', 'b'"):
        nets.compare("a", "c")
