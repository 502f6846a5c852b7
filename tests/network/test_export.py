import networkx as nx
import pandas as pd
import pytest

from grnlab.network import GeneNetwork


@pytest.fixture
def signed():
    edges = {"source": ["A", "A", "A", "B"], "target": ["B", "C", "D", "A"], "weight": [0.9, 0.8, 0.7, 0.6]}
    genes = pd.DataFrame({"is_tf": [True, False, False, False, True], "ensembl_id": ["E1", None, "E3", "E4", "E5"]})
    table = pd.DataFrame(edges | {"sign": [1, -1, 0, 1]})
    return GeneNetwork(table, genes.set_axis(list("ABCDE")), name="signed")


def test_networkx_keeps_direction_and_attributes(signed):
    graph = signed.to_networkx()
    assert isinstance(graph, nx.DiGraph)
    assert list(graph.successors("A")) == ["B", "C", "D"]
    assert graph["A"]["C"] == {"weight": 0.8, "sign": -1}
    assert graph.nodes["E"] == {"is_tf": True, "ensembl_id": "E5"}
    assert graph.name == "signed"


def test_igraph_keeps_direction_and_attributes(signed):
    graph = signed.to_igraph()
    assert graph.is_directed()
    assert graph.vs["name"] == list("ABCDE")
    first = graph.es[0]
    assert (graph.vs[first.source]["name"], graph.vs[first.target]["name"], first["weight"]) == ("A", "B", 0.9)
    assert graph.vs["is_tf"] == [True, False, False, False, True]


def test_igraph_name_is_the_gene():
    genes = pd.DataFrame({"name": ["alpha", "beta"]}, index=["A", "B"])
    net = GeneNetwork(pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [1.0]}), genes, name="x")
    assert net.to_igraph().vs["name"] == ["A", "B"]


def test_graphml_reads_back_in_networkx(signed, tmp_path):
    path = signed.write(tmp_path / "net.graphml")
    graph = nx.read_graphml(path)
    label = nx.get_node_attributes(graph, "name")
    found = {(label[s], label[t]): data["weight"] for s, t, data in graph.edges(data=True)}
    assert found == {("A", "B"): 0.9, ("A", "C"): 0.8, ("A", "D"): 0.7, ("B", "A"): 0.6}
    assert {label[node]: data["is_tf"] for node, data in graph.nodes(data=True)}["E"] is True
    with pytest.raises(FileExistsError):
        signed.write(path)
    signed.write(path, overwrite=True)


def test_graphml_escapes_and_refuses_what_xml_cannot_hold(build, tmp_path):
    path = build([('<"&>', "é", 1.0)]).write(tmp_path / "odd.graphml")
    assert set(nx.get_node_attributes(nx.read_graphml(path), "name").values()) == {'<"&>', "é"}
    with pytest.raises(ValueError, match="cannot be written as GraphML"):
        build([("A\x01", "B", 1.0)]).write(tmp_path / "control.graphml")
    assert [file.name for file in tmp_path.iterdir()] == ["odd.graphml"]


def test_decoupler_table_is_signed(signed, blood):
    assert signed.to_decoupler()["weight"].tolist() == [0.9, -0.8, 0.0, 0.6]
    assert signed.edges["weight"].tolist() == [0.9, 0.8, 0.7, 0.6]
    pd.testing.assert_frame_equal(blood.to_decoupler(), blood.edges)


def test_regulons(signed, blood):
    assert signed.to_regulons() == {"A": {"D": 0.7}, "A(+)": {"B": 0.9}, "A(-)": {"C": 0.8}, "B(+)": {"A": 0.6}}
    assert set(signed.to_regulons(regulators_only=True)) == {"A", "A(+)", "A(-)"}
    plain = blood.to_regulons()
    assert list(plain) == ["SPI1", "PAX5", "CD79A", "CEBPB"]
    assert list(plain["SPI1"]) == ["CD14", "LYZ", "CEBPB"]
    assert list(blood.to_regulons(min_targets=3)) == ["SPI1"]
    assert "CD79A" not in blood.to_regulons(regulators_only=True)


def test_regulons_need_to_know_the_regulators(build):
    with pytest.raises(ValueError, match="needs the column is_tf"):
        build([("A", "B", 1.0)]).to_regulons(regulators_only=True)
    with pytest.raises(ValueError, match="min_targets"):
        build([("A", "B", 1.0)]).to_regulons(min_targets=-1)
