import pandas as pd
import pytest

from grnlab.network.base import DIRECTION
from grnlab.network.network import GeneNetwork


def test_regulators_and_targets_follow_the_direction(blood):
    assert blood.targets("SPI1")["target"].tolist() == ["CD14", "LYZ", "CEBPB"]
    assert blood.regulators("LYZ")["source"].tolist() == ["SPI1", "CEBPB"]
    assert blood.regulators("LYZ", n=1)["source"].tolist() == ["SPI1"]
    assert blood.regulators("SPI1").empty
    assert blood.targets("KIT").columns.tolist() == ["source", "target", "weight"]
    assert blood.provenance["direction"] == DIRECTION


@pytest.mark.parametrize("ask", ["regulators", "targets", "neighbourhood"])
def test_an_unknown_gene_is_answered_with_nearest_names(blood, ask):
    with pytest.raises(ValueError, match=r"gene 'CEBPA' is not in network 'blood'.* Nearest names: CEBPB"):
        getattr(blood, ask)("CEBPA")


def test_a_gene_that_is_no_name_is_refused(blood):
    with pytest.raises(ValueError, match=r"gene must be gene names \(str\), got \['LYZ'\]"):
        blood.regulators(["LYZ"])
    with pytest.raises(ValueError, match="gene None is not in network"):
        blood.targets(None)
    with pytest.raises(ValueError, match=r"which has 0 genes\.$"):
        blood.subset([]).targets("LYZ")


def test_subset_cuts_universe_and_edges(blood):
    small = blood.subset(["SPI1", "LYZ", "KIT"])
    assert small.genes.index.tolist() == ["KIT", "LYZ", "SPI1"]
    assert small.edges.to_dict("records") == [{"source": "SPI1", "target": "LYZ", "weight": 0.8}]
    assert small.genes["is_tf"].tolist() == [False, False, True]
    with pytest.raises(ValueError, match="genes: gene 'nope'"):
        blood.subset(["SPI1", "nope"])


def test_top_and_threshold_keep_the_universe(blood):
    assert blood.top(2).edges["weight"].tolist() == [0.9, 0.8]
    assert blood.threshold(0.7).edges["weight"].tolist() == [0.9, 0.8, 0.7]
    assert len(blood.top(0).genes) == len(blood.threshold(5).genes) == 8
    with pytest.raises(ValueError, match="n_edges must be"):
        blood.top(-1)


def test_a_smaller_network_is_what_the_constructor_would_make(blood):
    for small in (blood.subset(["SPI1", "LYZ", "CD14"]), blood.top(3), blood.threshold(0.45)):
        again = GeneNetwork(small.edges, small.genes, name=small.name, provenance=small.provenance)
        assert small.equals(again)
        small.provenance["mark"] = 1
    assert "mark" not in blood.provenance


def test_neighbourhood_grows_by_steps(blood):
    assert set(blood.neighbourhood("CD14").genes.index) == {"CD14", "SPI1"}
    two = blood.neighbourhood("CD14", radius=2)
    assert set(two.genes.index) == {"CD14", "SPI1", "LYZ", "CEBPB"}
    assert len(two.edges) == 4  # also the edges among the neighbours
    assert blood.neighbourhood("KIT", radius=3).genes.index.tolist() == ["KIT"]
    assert blood.neighbourhood("CD14", radius=0).genes.index.tolist() == ["CD14"]


def test_neighbourhood_keeps_the_nearest_and_strongest(blood):
    # from SPI1: CD14 0.9, LYZ 0.8, CEBPB 0.6
    assert set(blood.neighbourhood("SPI1", max_genes=2).genes.index) == {"SPI1", "CD14", "LYZ"}
    assert set(blood.neighbourhood("CD14", radius=2, max_genes=2).genes.index) == {"CD14", "SPI1", "LYZ"}


def test_edges_without_evidence_still_are_neighbours(build):
    net = build([("A", "B", 0.0), ("C", "A", -1.0)], genes="ABCD")
    assert set(net.neighbourhood("A").genes.index) == {"A", "B", "C"}


def test_summary_counts(blood):
    summary = blood.summary()
    assert summary["n_genes"] == 8
    assert summary["n_genes_with_edges"] == 7
    assert summary["n_edges"] == 7
    assert summary["n_regulators"] == 4
    assert summary["n_targets"] == 5
    assert summary["density"] == 7 / 56
    assert (summary["weight_min"], summary["weight_median"], summary["weight_max"]) == (0.3, 0.6, 0.9)


def test_looks(build):
    net = build([("<b>A", "B", 1.0)], name="<i>cells")
    assert repr(net) == "GeneNetwork('<i>cells': 2 genes, 1 edges)"
    page = net._repr_html_()
    assert "<i>" not in page
    assert "&lt;b&gt;A" in page


def test_equals_sees_every_part(blood, build):
    assert blood.equals(blood.subset(blood.genes.index))
    assert not blood.equals(blood.top(6))
    assert not blood.equals(GeneNetwork(blood.edges, blood.genes, name="other"))
    assert not blood.equals(GeneNetwork(blood.edges, blood.genes, name="blood", provenance={"seed": 1}))
    assert not blood.equals(GeneNetwork(blood.edges, blood.genes.drop(columns="is_tf"), name="blood"))
    assert not blood.equals("blood")


@pytest.mark.parametrize("n_genes", [0, 1, 3])
def test_a_network_without_edges_answers_everything(tmp_path, n_genes):
    genes = pd.DataFrame({"is_tf": [True] * n_genes}, index=list("ABC")[:n_genes]).astype({"is_tf": bool})
    edges = pd.DataFrame({"source": [], "target": [], "weight": []})
    net = GeneNetwork(edges, genes, name="empty")
    hubs = net.hubs(regulators_only=True)
    assert len(hubs) == n_genes
    assert hubs["degree"].sum() == hubs["eigenvector"].sum() == 0
    assert len(net.communities().membership) == n_genes
    assert net.enrich().empty
    assert net.summary()["weight_max"] is None
    assert net.to_networkx().number_of_nodes() == net.to_igraph().vcount() == n_genes
    assert net.to_decoupler().columns.tolist() == ["source", "target", "weight"]
    assert net.to_regulons() == {}
    assert net.write(tmp_path / "x.graphml").exists()
    assert net.top(3).equals(net)
    assert net.threshold(0.0).equals(net)
    assert net.subset([]).genes.empty
    if n_genes:
        assert net.regulators("A").empty
        assert net.neighbourhood("A").genes.index.tolist() == ["A"]
    assert GeneNetwork.load(net.save(tmp_path / "x.grn")).equals(net)
    assert "0 edges" in repr(net)
    assert "0 edges" in net._repr_html_()
