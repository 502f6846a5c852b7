import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grnlab.network import GeneNetwork


@pytest.mark.parametrize(("per", "column"), [("target", "target"), ("regulator", "source")])
def test_top_per_gene_against_a_loop(build_random, per, column):
    net = build_random(20, 150)
    kept = net.top(3, per=per).edges
    expected = {
        tuple(row)
        for _, part in net.edges.groupby(column)
        for row in part.nlargest(3, "weight")[["source", "target"]].to_numpy()
    }
    assert set(map(tuple, kept[["source", "target"]].to_numpy())) == expected


def test_quantile_and_other_columns(build_random):
    net = build_random(20, 100)
    assert len(net.threshold(quantile=0.9).edges) == 10
    assert net.threshold(quantile=0).equals(net)
    assert len(net.threshold(quantile=1).edges) == 1
    sure = net._with_edge_columns({"confidence": np.where(np.arange(100) < 7, 0.95, np.nan)})
    assert len(sure.threshold(0.9, column="confidence").edges) == 7


def test_thresholds_refuse_what_they_cannot_do(blood):
    for arguments in ({}, {"minimum": 1.0, "quantile": 0.5}):
        with pytest.raises(ValueError, match="either minimum or quantile"):
            blood.threshold(**arguments)
    with pytest.raises(ValueError, match="quantile must be from 0 to 1"):
        blood.threshold(quantile=1.5)
    with pytest.raises(ValueError, match="minimum must be a number"):
        blood.threshold(float("nan"))
    with pytest.raises(ValueError, match=r"numeric column of the edges \(weight\), got 'z'"):
        blood.threshold(1.0, column="z")
    with pytest.raises(ValueError, match="per must be"):
        blood.top(3, per="gene")
    with pytest.raises(ValueError, match="neither padj nor pvalue"):
        blood.significant()
    with pytest.raises(ValueError, match="alpha must lie"):
        blood.backbone(0)


def test_false_discovery_rate_is_computed_or_read(build):
    net = build([("A", "B", 4), ("A", "C", 3), ("B", "C", 2), ("C", "D", 1)])
    tested = net._with_edge_columns({"pvalue": [0.001, 0.02, 0.04, np.nan]})
    found = tested.significant(0.05)
    assert found.edges["padj"].tolist() == pytest.approx([0.003, 0.03, 0.04])
    assert len(tested.significant(0.01).edges) == 1
    given_padj = net._with_edge_columns({"padj": [0.2, 0.01, 0.3, np.nan]})
    assert given_padj.significant().edges["target"].tolist() == ["C"]


def test_a_wrong_p_value_is_refused(build):
    with pytest.raises(ValueError, match=r"a p-value outside \[0, 1\]"):
        build([("A", "B", 1)])._with_edge_columns({"pvalue": [1.2]})


def test_backbone_against_the_formula(build_random):
    net = build_random(15, 90)
    edges = net.edges
    out, into = edges.groupby("source")["weight"], edges.groupby("target")["weight"]
    by_source = (1 - edges["weight"] / out.transform("sum")) ** (out.transform("size") - 1)
    by_target = (1 - edges["weight"] / into.transform("sum")) ** (into.transform("size") - 1)
    by_source[out.transform("size") == 1] = 1.0
    by_target[into.transform("size") == 1] = 1.0
    expected = np.minimum(by_source, by_target)
    kept = net.backbone(0.2)
    assert len(kept.edges) == (expected < 0.2).sum() > 0
    np.testing.assert_allclose(np.sort(kept.edges["disparity"]), np.sort(expected[expected < 0.2]))


def test_backbone_of_single_and_negative_edges(build):
    assert len(build([("A", "B", 5.0)]).backbone().edges) == 0
    star = build([("A", "B", 50.0), ("A", "C", -1.0), ("A", "D", 0.0)])
    assert len(star.backbone(1.0).edges) == 0  # one edge of weight alone is a gene's only edge


def test_backbone_share_of_a_random_split(build):
    # one regulator shares its strength at random among many targets: alpha of the edges pass from its side
    rng = np.random.default_rng(0)
    edges = [("A", f"T{i:04d}", w) for i, w in enumerate(rng.exponential(size=2_000))]
    assert len(build(edges).backbone(0.05).edges) / 2_000 == pytest.approx(0.05, abs=0.015)


def test_filters_on_an_empty_network(empty):
    for net in (empty.top(2, per="target"), empty.threshold(quantile=0.5), empty.backbone()):
        assert len(net.edges) == 0
        assert len(net.genes) == 3


@given(st.floats(0, 1), st.integers(0, 5))
def test_filters_keep_the_universe_and_only_take_away(quantile, k):
    rng = np.random.default_rng(3)
    names = np.array(list("ABCDEFG"), dtype=object)
    s, t = (a.ravel() for a in np.meshgrid(range(7), range(7)))
    table = pd.DataFrame({"source": names[s], "target": names[t], "weight": rng.random(49)})[s != t]
    net = GeneNetwork.from_edges(table, name="all pairs")
    for small in (net.threshold(quantile=quantile), net.top(k, per="target"), net.backbone(max(quantile, 0.01))):
        assert small.genes.equals(net.genes)
        pairs = pd.MultiIndex.from_frame(small.edges[["source", "target"]])
        assert pairs.isin(pd.MultiIndex.from_frame(net.edges[["source", "target"]])).all()


def test_renamed(blood):
    other = blood.renamed("other")
    assert (other.name, blood.name) == ("other", "blood")
    assert other.edges.equals(blood.edges)
    with pytest.raises(ValueError, match="name must be"):
        blood.renamed(" ")


# --- tables from elsewhere


BAD = pd.DataFrame(
    {
        "source": ["A", "A", "B", "C", None, "A"],
        "target": ["B", "B", "B", "D", "D", "C"],
        "weight": [1.0, 2.0, 3.0, np.nan, 1.0, 0.5],
    }
)


def test_bad_rows_are_errors_or_go(caplog):
    with pytest.raises(ValueError, match=r"edges row 3 .*not finite"):
        GeneNetwork.from_edges(BAD.drop(index=4).reset_index(drop=True), name="bad")
    net = GeneNetwork.from_edges(BAD, name="bad", on_bad="drop")
    assert net.edges[["source", "target"]].to_numpy().tolist() == [["A", "B"], ["A", "C"]]
    assert net.edges["weight"].tolist() == [2.0, 0.5]
    for told in ("1 without two names", "1 with a weight", "1 self loops", "1 weaker repeats"):
        assert told in caplog.text
    with pytest.raises(ValueError, match="on_bad must be"):
        GeneNetwork.from_edges(BAD, name="bad", on_bad="ignore")


def test_universe_of_from_edges():
    one = BAD.iloc[[1]]
    assert GeneNetwork.from_edges(one, name="x").genes.index.tolist() == ["A", "B"]
    assert GeneNetwork.from_edges(one, ["B", "Z", "A"], name="x").genes.index.tolist() == ["B", "Z", "A"]
    with pytest.raises(ValueError, match="'A' is not in the index of genes"):
        GeneNetwork.from_edges(one, ["B", "A2"], name="x")
    with pytest.raises(ValueError, match="lacks the column"):
        GeneNetwork.from_edges(pd.DataFrame({"source": ["A"]}), name="x", on_bad="drop")
    long = "G" * 200
    assert GeneNetwork.from_edges(one.assign(source=long), name="x").targets(long)["target"].tolist() == ["B"]
