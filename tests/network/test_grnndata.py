"""What GRnnData 1.3.2 offers, also where a call of it fails, has an answer here."""

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import grnlab as gl
from grnlab.network import GeneNetwork
from grnlab.network.varp import network_from_varp, network_to_anndata

mpl.use("Agg")


@pytest.fixture
def nets(blood, build_random):
    return gl.NetworkSet([blood, build_random(name="random")])


@pytest.fixture
def stored(blood):
    adata = ad.AnnData(np.ones((4, len(blood.genes)), dtype=np.float32), var=pd.DataFrame(index=blood.genes.index))
    gl.tl.store_networks(adata, gl.NetworkSet([blood]))
    return adata


def test_a_slice_keeps_its_part_of_the_network(stored, blood):
    part = ["LYZ", "SPI1", "CD14"]
    found = gl.tl.stored_networks(stored[:2, part])["blood"]
    assert found.edges.equals(blood.subset(part).edges)
    assert gl.tl.stored_networks(stored[:, part].copy())["blood"].genes.index.tolist() == part


def test_edges_that_cannot_be_stored_are_told(stored, blood, caplog):
    part = stored[:, ["LYZ", "SPI1", "KIT"]].copy()
    gl.tl.store_networks(part, gl.NetworkSet([blood]))
    assert "6 edges of blood are not stored" in caplog.text
    with pytest.raises(ValueError, match="adata has none of the 8 genes of 'blood'"):
        gl.tl.store_networks(ad.AnnData(np.ones((1, 1))), gl.NetworkSet([blood]))


def test_concatenated_cells_keep_the_network(stored, blood):
    both = ad.concat({"one": stored, "two": stored}, index_unique="-", merge="same")
    gl.tl.store_networks(both, gl.tl.stored_networks(stored))
    assert gl.tl.stored_networks(both)["blood"].edges.equals(blood.edges)


def test_links_are_the_edges_not_all_pairs(nets, blood):
    assert len(nets.edge_table()) == sum(len(net.edges) for net in nets.values())
    dense = blood.edges.pivot_table(index="source", columns="target", values="weight", fill_value=0.0)
    assert dense.loc["SPI1", "LYZ"] == 0.8


def test_networks_of_a_long_table_over_the_genes_of_cells(stored, blood):
    made = GeneNetwork.from_edges(blood.edges, stored.var_names, name="blood")
    assert made.genes.index.equals(blood.genes.index)
    assert made.edges.equals(blood.edges)


def test_drawings_with_default_settings(blood):
    assert {"SPI1", "LYZ"} <= {text.get_text() for text in gl.pl.neighbourhood(blood, "SPI1").texts}
    assert gl.pl.adjacency(blood).images
    assert gl.pl.to_pyvis(blood.neighbourhood("SPI1")).nodes


def test_stored_networks_come_back(make_cells, human_model):
    cells = make_cells(n_each=30)
    nets = gl.tl.infer_networks(gl.tl.attention(cells, human_model, groupby="cell_type", genes=30), regulators="all")
    adata = cells.copy()
    gl.tl.store_networks(adata, nets)
    back = gl.tl.stored_networks(adata)
    assert list(back) == list(nets)
    for name, net in nets.items():
        assert back[name].edges.equals(net.edges)
        assert len(back[name].genes) == adata.n_vars
    with pytest.raises(ValueError, match=r"no 'GRN' and no 'grn_<group>'"):
        gl.tl.stored_networks(cells)


def test_grnndata_layout(blood, tmp_path):
    adata = network_to_anndata(blood)
    adata.write_h5ad(tmp_path / "net.h5ad")
    adata = ad.read_h5ad(tmp_path / "net.h5ad")
    assert sp.issparse(adata.varp["GRN"])
    back = network_from_varp(adata, name="blood")
    assert back.edges.equals(blood.edges)
    assert back.genes.index.equals(blood.genes.index)
    assert adata.var["is_tf"].tolist() == blood.genes["is_tf"].tolist()
    with pytest.raises(ValueError, match=r"adata.varp has no 'grn'"):
        network_from_varp(adata, "grn")
    bad = ad.AnnData(np.ones((1, 2)), varp={"GRN": np.array([[0, np.nan], [0, 0]])})
    with pytest.raises(ValueError, match="not finite"):
        network_from_varp(bad)
