import gzip
import json

import anndata as ad
import igraph as ig
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import grnlab as gl
from grnlab.network import GeneNetwork, NetworkSet, read_network
from grnlab.network.formats import FORMATS

ODD = ["NA", "nan", "1", "HLA-DRB1", 'say "x", y', "é", "Q" * 200]


@pytest.fixture
def signed():
    edges = pd.DataFrame(
        {
            "source": ["NA", "NA", "1", "é"],
            "target": ["1", "Q" * 200, "nan", 'say "x", y'],
            "weight": [0.9, 0.1, 1 / 3, 2e-9],
        }
    ).assign(sign=[1, -1, 1, -1], pvalue=[0.01, 0.5, np.nan, 1.0])
    genes = pd.DataFrame({"is_tf": [True, False] * 3 + [True], "mean_counts": np.arange(7) / 3}, index=ODD)
    return GeneNetwork(edges, genes, name="odd / names")


def ends(net):
    return set(zip(net.edges["source"], net.edges["target"], strict=True))


def weights(net):
    return {(s, t): w for s, t, w in net.edges[["source", "target", "weight"]].itertuples(index=False)}


# --- round trips


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "gmt"])
def test_edges_and_weights_come_back(signed, tmp_path, format):
    path = signed.write(tmp_path / "net.any", format)
    back = read_network(path, format, name="back")
    expected = weights(signed)
    if format == "decoupler":
        assert weights(back) == expected
    else:
        assert weights(back) == pytest.approx(expected, rel=1e-12)
    assert back.name == "back" or format == "grnndata"
    if format in ("decoupler", "celloracle", "csv", "tsv", "cx2", "sif", "graphml"):
        assert back.edges["sign"].tolist() == signed.edges["sign"].tolist()
    with pytest.raises(FileExistsError):
        signed.write(path, format)
    signed.write(path, format, overwrite=True)


@pytest.mark.parametrize("format", ["cx2", "sif", "graphml", "grnndata"])
def test_formats_that_hold_the_genes(signed, tmp_path, format):
    back = read_network(signed.write(tmp_path / "net.x", format), format)
    assert back.genes.index.tolist() == signed.genes.index.tolist()  # HLA-DRB1 has no edge
    assert back.genes["is_tf"].tolist() == signed.genes["is_tf"].tolist()
    assert back.genes["mean_counts"].tolist() == pytest.approx(signed.genes["mean_counts"].tolist())


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".cx2", ".graphml", ".sif", ".h5ad", ".gmt"])
def test_endings_tell_the_format(blood, tmp_path, ending):
    path = blood.write(tmp_path / f"net{ending}")
    assert ends(gl.read_network(path)) == ends(blood)


def test_own_file(blood, tmp_path):
    assert gl.read_network(blood.save(tmp_path / "x.grn")).equals(blood)


def test_regulons_in_gmt(signed, tmp_path):
    path = signed.write(tmp_path / "net.gmt")
    text = path.read_text().splitlines()
    assert "NA(+)\ttargets of NA in odd / names\t1" in text
    back = read_network(path)
    assert ends(back) == ends(signed)
    sign = {(s, t): x for s, t, x in signed.edges[["source", "target", "sign"]].itertuples(index=False)}
    assert {(s, t): x for s, t, x in back.edges[["source", "target", "sign"]].itertuples(index=False)} == sign


def test_gmt_with_windows_line_ends(tmp_path):
    path = tmp_path / "regulons.gmt"
    path.write_bytes(b"SPI1(+)\tx\tLYZ\tCD14\r\nPAX5(-)\tx\tCD3D\r\n")
    net = read_network(path)
    assert ends(net) == {("SPI1", "LYZ"), ("SPI1", "CD14"), ("PAX5", "CD3D")}
    assert dict(zip(net.edges["target"], net.edges["sign"], strict=True)) == {"LYZ": 1, "CD14": 1, "CD3D": -1}


# --- what others wrote


@pytest.mark.parametrize(
    "text",
    [
        "TF\ttarget\timportance\nSPI1\tLYZ\t12.5\n",
        "Gene1\tGene2\tEdgeWeight\r\nSPI1\tLYZ\t12.5\r\n",
        "source,target,weight\nSPI1,LYZ,12.5\n",
        ",source,target,weight,cell_type\n0,SPI1,LYZ,12.5,B\n",
        '"regulatoryGene","targetGene","weight"\n"SPI1","LYZ",12.5\n',
        "\ufeffsource,target,coef_mean,coef_abs,p,-logp\nSPI1,LYZ,12.5,12.5,0.01,2\n",
    ],
)
def test_tables_are_told_by_their_header(tmp_path, text):
    path = tmp_path / "edges.csv"
    path.write_bytes(text.encode())
    assert weights(read_network(path)) == {("SPI1", "LYZ"): 12.5}
    with gzip.open(tmp_path / "edges.csv.gz", "wb") as file:
        file.write(text.encode())
    assert read_network(tmp_path / "edges.csv.gz").name == "edges"


def test_celloracle_tables(signed, tmp_path):
    tables = NetworkSet([signed]).to_celloracle()
    table = tables["odd / names"]
    assert table.columns.tolist() == ["source", "target", "coef_mean", "coef_abs", "p", "-logp"]
    assert (np.sign(table["coef_mean"]) == signed.edges["sign"]).all()
    back = NetworkSet.from_celloracle(tables)["odd / names"]
    assert back.edges.equals(signed.edges[["source", "target", "weight", "sign", "pvalue"]])


def test_pyscenic_and_beeline_headers(blood, tmp_path):
    for format, header in (("pyscenic", "TF\ttarget\timportance"), ("beeline", "Gene1\tGene2\tEdgeWeight")):
        lines = blood.write(tmp_path / format, format).read_text().splitlines()
        assert lines[0] == header
        assert lines[1] == "SPI1\tCD14\t0.9"


def test_genernib_layout(blood, tmp_path):
    adata = ad.read_h5ad(blood.write(tmp_path / "net.h5ad", "genernib"))
    table = adata.uns["prediction"]
    assert table.columns.tolist() == ["source", "target", "weight"]
    assert isinstance(table["weight"].iloc[0], str)
    assert adata.uns["method_id"] == "grnlab"


def test_networkx_reads_our_graphml_and_we_its(blood, tmp_path):
    graph = nx.read_graphml(blood.write(tmp_path / "net.graphml"))
    names = nx.get_node_attributes(graph, "name")
    assert {(names[s], names[t]) for s, t in graph.edges} == ends(blood)
    nx.write_graphml(blood.to_networkx(), tmp_path / "theirs.graphml")
    theirs = read_network(tmp_path / "theirs.graphml", name="blood")
    assert weights(theirs) == weights(blood)
    assert theirs.genes["is_tf"].tolist() == blood.genes["is_tf"].tolist()


def test_networkx_and_igraph_objects(blood, signed):
    for net in (blood, signed):
        for back in (
            GeneNetwork.from_networkx(net.to_networkx(), name=net.name),
            GeneNetwork.from_igraph(net.to_igraph(), name=net.name),
        ):
            assert back.edges.equals(net.edges)
            assert back.genes.equals(net.genes)


def test_an_edge_without_a_weight_among_others_has_one(tmp_path):
    graph = nx.DiGraph([("A", "B")])
    graph.add_edge("B", "C", weight=3.0)
    assert weights(GeneNetwork.from_networkx(graph, name="mixed")) == {("A", "B"): 1.0, ("B", "C"): 3.0}
    nodes = [{"id": i, "v": {"name": name}} for i, name in enumerate("ABC")]
    edges = [{"s": 0, "t": 1, "v": {}}, {"s": 1, "t": 2, "v": {"weight": 3.0}}]
    (tmp_path / "net.cx2").write_text(json.dumps([{"CXVersion": "2.0"}, {"nodes": nodes}, {"edges": edges}]))
    assert weights(read_network(tmp_path / "net.cx2")) == {("A", "B"): 1.0, ("B", "C"): 3.0}


def test_undirected_and_unweighted_graphs():
    for net in (
        GeneNetwork.from_networkx(nx.Graph([("A", "B")]), name="x"),
        GeneNetwork.from_igraph(ig.Graph.TupleList([("A", "B")]), name="x"),
    ):
        assert weights(net) == {("A", "B"): 1.0, ("B", "A"): 1.0}
    many = nx.MultiDiGraph([("A", "B"), ("A", "B"), ("A", "A")])
    with pytest.raises(ValueError, match=r"is a self loop|repeats an earlier edge"):
        GeneNetwork.from_networkx(many, name="x")
    assert len(GeneNetwork.from_networkx(many, name="x", on_bad="drop").edges) == 1
    with pytest.raises(ValueError, match="no vertex attribute 'name'"):
        GeneNetwork.from_igraph(ig.Graph(2, [(0, 1)]), name="x")


def test_cx2_aliases_and_defaults(tmp_path):
    declared = {"nodes": {"name": {"a": "n", "d": "string"}}, "edges": {"weight": {"v": 0.25, "d": "double"}}}
    document = [
        {"CXVersion": "2.0", "hasFragments": True},
        {"attributeDeclarations": [declared]},
        {"nodes": [{"id": 7, "v": {"n": "A"}}]},
        {"nodes": [{"id": 9, "v": {"n": "B"}}]},
        {"edges": [{"id": 0, "s": 7, "t": 9, "v": {}}, {"id": 1, "s": 9, "t": 7, "v": {"weight": 3}}]},
        {"status": [{"success": True}]},
    ]
    (tmp_path / "net.cx2").write_text(json.dumps(document))
    assert weights(read_network(tmp_path / "net.cx2")) == {("A", "B"): 0.25, ("B", "A"): 3.0}


def test_cx2_declares_every_attribute(signed, tmp_path):
    aspects = {k: v for part in json.loads(signed.write(tmp_path / "x.cx2").read_text()) for k, v in part.items()}
    declared = aspects["attributeDeclarations"][0]
    assert {name for node in aspects["nodes"] for name in node["v"]} <= set(declared["nodes"])
    assert {name for edge in aspects["edges"] for name in edge["v"]} <= set(declared["edges"])
    assert declared["edges"]["sign"] == {"d": "long"}
    assert [m["elementCount"] for m in aspects["metaData"] if m["name"] == "edges"] == [4]
    assert {edge["v"]["interaction"] for edge in aspects["edges"]} == {"activates", "represses"}


def test_lone_sif(tmp_path):
    (tmp_path / "net.sif").write_text("A activates B C\nB represses C\nALONE\n")
    net = read_network(tmp_path / "net.sif")
    assert ends(net) == {("A", "B"), ("A", "C"), ("B", "C")}
    assert net.genes.index.tolist() == ["A", "B", "C", "ALONE"]
    assert net.regulators("C")["sign"].tolist() == [1, -1]
    (tmp_path / "bad.sif").write_text("A B\n")
    with pytest.raises(ValueError, match="line 1: expected"):
        read_network(tmp_path / "bad.sif")


# --- bad input


def test_bad_tables(tmp_path):
    path = tmp_path / "edges.tsv"
    path.write_text("TF\ttarget\timportance\nA\tB\tnan\nA\tA\t1\nA\tC\t2\nA\tC\t3\n")
    with pytest.raises(ValueError, match=r"edges.tsv holds .* on_bad='drop' leaves"):
        read_network(path)
    assert weights(read_network(path, on_bad="drop")) == {("A", "C"): 3.0}
    path.write_text("TF\ttarget\timportance\nA\tB\thigh\n")
    with pytest.raises(ValueError, match="row 1 after the header: the weight 'high' is no number"):
        read_network(path)
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(ValueError, match="none of them is a known name of the source"):
        read_network(path)
    path.write_text("")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        read_network(path)
    path.write_text("TF\ttarget\timportance\n")
    assert len(read_network(path).edges) == 0


def test_tables_of_two_columns_weigh_1(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("source,target\nA,B\n")
    assert weights(read_network(path)) == {("A", "B"): 1.0}


def test_rows_longer_than_the_header_are_not_shifted(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("source,target,weight\nA,B,1,4,5\n")
    with pytest.raises(ValueError, match=r"edges\.csv cannot be read as a table .* more fields"):
        read_network(path)


@pytest.mark.parametrize("weight", ['"x"', "[1]"])
def test_cx2_weights_are_numbers(tmp_path, weight):
    path = tmp_path / "net.cx2"
    nodes = '{"nodes": [{"id": 1, "v": {"name": "A"}}, {"id": 2, "v": {"name": "B"}}]}'
    path.write_text(
        f'[{{"CXVersion": "2.0"}}, {nodes}, {{"edges": [{{"s": 1, "t": 2, "v": {{"weight": {weight}}}}}]}}]'
    )
    with pytest.raises(ValueError, match=r"net\.cx2 cannot be read as CX2"):
        read_network(path)


def test_nested_too_deep_or_of_another_encoding(tmp_path):
    (tmp_path / "net.cx2").write_text("[" * 100_000)
    (tmp_path / "net.sif").write_bytes(b"\xff\xfe")
    for name in ("net.cx2", "net.sif"):
        with pytest.raises(ValueError, match=rf"{name} (cannot be read as|is not UTF-8)"):
            read_network(tmp_path / name)


def test_genes_given_are_the_universe(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("source,target,weight\nSPI1,LYZ,1\n")
    assert len(read_network(path, genes=["LYZ", "SPI1", "KIT"]).genes) == 3
    with pytest.raises(ValueError, match=r"'SPI1' is not in the index of genes. Nearest names: SPIB"):
        read_network(path, genes=["LYZ", "SPIB"])


@pytest.mark.parametrize("ending", [".cx2", ".graphml", ".h5ad"])
def test_damaged_files_are_named(tmp_path, ending):
    path = tmp_path / f"net{ending}"
    path.write_text("{ not this")
    with pytest.raises(ValueError, match=f"net{ending}.* cannot be read as"):
        read_network(path)


def test_wrong_paths_and_formats(blood, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_network(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="format must be one of csv, tsv"):
        blood.write(tmp_path / "x", "excel")
    with pytest.raises(ValueError, match="cannot be told by its ending"):
        blood.write(tmp_path / "x.docx")
    with pytest.raises(ValueError, match=r"\.grn is written by network\.save"):
        blood.write(tmp_path / "x.grn")
    with pytest.raises(ValueError, match="is a folder; name a file"):
        read_network(tmp_path, "csv")
    ad.AnnData(np.ones((1, 1))).write_h5ad(tmp_path / "no.h5ad")
    with pytest.raises(ValueError, match=r"neither uns\['prediction'\]"):
        read_network(tmp_path / "no.h5ad")
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize("format", ["sif", "gmt"])
def test_names_with_tabs_are_refused_where_they_do_not_fit(build, tmp_path, format):
    with pytest.raises(ValueError, match="holds a tab or line end"):
        build([("A\tB", "C", 1)]).write(tmp_path / "x", format)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8)), max_size=8))
def test_tables_hold_any_name(tmp_path_factory, pairs):
    pairs = [(s, t) for s, t in dict.fromkeys(pairs) if s != t]
    try:
        net = GeneNetwork.from_edges(
            pd.DataFrame([(s, t, 1.0) for s, t in pairs], columns=["source", "target", "weight"]), name="x"
        )
    except ValueError:  # names a network refuses: NUL, lone surrogates
        return
    path = tmp_path_factory.mktemp("any") / "net.cx2"
    assert ends(read_network(net.write(path))) == set(pairs)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "gmt"])
def test_empty_networks(empty, tmp_path, format):
    back = read_network(empty.write(tmp_path / "x", format), format)
    assert len(back.edges) == 0
