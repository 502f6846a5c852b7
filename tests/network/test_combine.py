import pytest

from grnlab.network import GeneNetwork, NetworkSet
from grnlab.network.combine import combine


@pytest.fixture
def three(build):
    one = build([("A", "B", 4), ("A", "C", 2), ("B", "C", 1)], "ABC", name="one", is_tf=[True, False, False])
    two = build([("A", "B", 2), ("B", "C", 3)], "ABC", name="two", is_tf=[True, False, False])
    six = build([("A", "B", 9), ("D", "A", 1)], "ABD", name="six", is_tf=[True, False, True])
    return NetworkSet([one, two, six])


def rows(net):
    return {(s, t): w for s, t, w in net.edges[["source", "target", "weight"]].itertuples(index=False)}


def test_union_intersection_consensus(three):
    union = three.combine(min_support=0, name="union")
    assert rows(union) == {("A", "B"): 5.0, ("B", "C"): 2.0, ("A", "C"): 2.0, ("D", "A"): 1.0}
    assert union.genes.index.tolist() == ["A", "B", "C", "D"]
    assert union.genes["is_tf"].tolist() == [True, False, False, True]
    assert union.name == "union"
    both = three.combine(min_support=1, weight="max")
    assert rows(both) == {("A", "B"): 9.0}
    assert both.genes.index.tolist() == ["A", "B"]
    most = three.combine(min_support=0.6)
    assert set(rows(most)) == {("A", "B"), ("B", "C")}
    assert most.edges["n_networks"].tolist() == [3, 2]
    assert most.edges["support"].tolist() == pytest.approx([1, 2 / 3])


def test_ranks_do_not_see_the_scale(three):
    one = three["one"]
    edges = one.edges.assign(weight=one.edges["weight"] * 1000)
    scaled = NetworkSet([GeneNetwork(edges, one.genes, name="one"), three["two"], three["six"]])
    assert rows(three.combine(min_support=0, weight="rank")) == rows(scaled.combine(min_support=0, weight="rank"))
    found = rows(three.combine(min_support=0, weight="rank"))
    assert found["A", "B"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert found["D", "A"] == pytest.approx(0.5 / 3)


def test_signs_stay_where_all_agree(build):
    def signed(name, signs):
        return build([("A", "B", 2), ("A", "C", 1)], name=name)._with_edge_columns({"sign": signs})

    both = combine([signed("x", [1, -1]), signed("y", [1, 1])], min_support=0)
    assert both.edges["sign"].tolist() == [1, 0]
    mixed = combine([signed("x", [1, -1]), build([("A", "B", 2)], name="y")], min_support=0)
    assert "sign" not in mixed.edges.columns


def test_of_one_and_of_disjoint_networks(three, build):
    alone = combine([three["one"]])
    assert rows(alone) == rows(three["one"])
    other = build([("X", "Y", 1)], name="other")
    assert len(combine([three["one"], other], min_support=1).genes) == 0
    assert len(combine([three["one"], other], min_support=0).edges) == 4


def test_wrong_arguments(three):
    with pytest.raises(ValueError, match="networks is empty"):
        combine([])
    with pytest.raises(ValueError, match="min_support must be a share"):
        three.combine(min_support=2)
    with pytest.raises(ValueError, match="weight must be one of mean, max, rank"):
        three.combine(weight="median")
