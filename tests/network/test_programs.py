"""What `GeneNetwork.write` writes, read by the programs it is meant for.

They are no dependency of the tests: each test is skipped where its program is not installed, and all of them run after
``pip install decoupler ndex2 ctxcore "setuptools<81" grnndata``. Last
run 2026-11-21: decoupler 2.2.0, ctxcore 0.2.0 (the regulons of pySCENIC), ndex2 3.12.0, grnndata 1.3.2; all passed.
"""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from grnlab.network import read_network

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def signed(build):
    edges = [("SPI1", f"M{i}", 1.0 - i / 20) for i in range(6)] + [("PAX5", f"B{i}", 0.9 - i / 20) for i in range(6)]
    net = build(edges, name="blood")
    sign = np.where(net.edges["target"].isin(["M5", "B5"]), -1, 1)
    return type(net)(net.edges.assign(sign=sign), net.genes, name=net.name)


def test_decoupler_finds_the_active_regulator(signed, tmp_path):
    decoupler = pytest.importorskip("decoupler")
    table = pd.read_csv(signed.write(tmp_path / "net.csv", "decoupler"))
    genes = list(signed.genes.index)
    rng = np.random.default_rng(0)
    cells = pd.DataFrame(rng.normal(size=(4, len(genes))), columns=genes, index=list("abcd"))
    cells.loc[["a", "b"], [f"M{i}" for i in range(5)]] += 5
    cells.loc[["a", "b"], "M5"] -= 5  # repressed
    activity, _ = decoupler.mt.ulm(cells, table, tmin=3)
    assert set(activity.columns) == {"SPI1", "PAX5"}
    assert (activity.loc[["a", "b"], "SPI1"] > 2).all()
    assert (activity.loc[["a", "b"], "SPI1"] > activity.loc[["a", "b"], "PAX5"]).all()


def test_scenic_reads_the_regulons(signed, tmp_path):
    genesig = pytest.importorskip("ctxcore.genesig")
    path = signed.write(tmp_path / "regulons.gmt")
    read = genesig.GeneSignature.from_gmt(str(path), field_separator="\t", gene_separator="\t")
    assert {r.name: set(r.genes) for r in read} == {name: set(genes) for name, genes in signed.to_regulons().items()}


def test_ndex2_reads_cx2(signed, tmp_path):
    pytest.importorskip("ndex2")
    from ndex2.cx2 import RawCX2NetworkFactory

    path = signed.write(tmp_path / "net.cx2")
    network = RawCX2NetworkFactory().get_cx2network(json.loads(path.read_text()))
    nodes = {key: node["v"]["name"] for key, node in network.get_nodes().items()}
    edges = {(nodes[e["s"]], nodes[e["t"]]): e["v"]["weight"] for e in network.get_edges().values()}
    expected = {(s, t): w for s, t, w in signed.edges[["source", "target", "weight"]].itertuples(index=False)}
    assert edges == pytest.approx(expected)
    again = tmp_path / "again.cx2"
    network.write_as_raw_cx2(str(again))  # what ndex2 writes comes back
    back = read_network(again, "cx2")
    assert {(s, t): w for s, t, w in back.edges[["source", "target", "weight"]].itertuples(index=False)} == (
        pytest.approx(expected)
    )


def test_grnndata_reads_the_network(signed, tmp_path):
    grnndata = pytest.importorskip("grnndata")
    path = signed.write(tmp_path / "net.h5ad", "grnndata")
    theirs = grnndata.GRNAnnData(ad.read_h5ad(path), grn=ad.read_h5ad(path).varp["GRN"])
    row, column = theirs.var_names.get_loc("SPI1"), theirs.var_names.get_loc("M0")
    assert theirs.varp["GRN"][row, column] == pytest.approx(1.0)
    assert theirs.varp["GRN"][column, row] == 0
