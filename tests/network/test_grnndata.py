"""What GRnnData 1.3.2 offers, also where a call of it fails, has an answer here."""

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import grnlab as gl
from grnlab.network import GeneNetwork, from_embedding, power_law

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


def test_embedding_nearest_genes_against_a_loop(monkeypatch):
    monkeypatch.setattr("grnlab.network.similarity._BLOCK", 7)
    values = np.random.default_rng(0).normal(size=(23, 4))
    names = [f"G{i}" for i in range(23)]
    net = from_embedding(values, names, name="near", top_k=3, minimum=0.2)
    cosine = values @ values.T
    cosine /= np.linalg.norm(values, axis=1)[:, None] * np.linalg.norm(values, axis=1)
    for row, gene in enumerate(names):
        order = [i for i in np.argsort(-cosine[row]) if i != row][:3]
        expected = [names[i] for i in order if cosine[row, i] > 0.2]
        assert net.regulators(gene)["source"].tolist() == expected


def test_embedding_of_few_or_odd_genes():
    assert len(from_embedding(np.ones((1, 2)), ["A"], name="one").edges) == 0
    assert len(from_embedding(np.ones((0, 2)), [], name="none").genes) == 0
    assert len(from_embedding(np.zeros((3, 2)), ["A", "B", "C"], name="zeros").edges) == 0
    with pytest.raises(ValueError, match="one row for each of the 3 genes"):
        from_embedding(np.ones((2, 3)), ["A", "B", "C"], name="x")
    with pytest.raises(ValueError, match="not finite"):
        from_embedding(np.full((2, 2), np.nan), ["A", "B"], name="x")
    with pytest.raises(ValueError, match="minimum must be a number"):
        from_embedding(np.ones((2, 2)), ["A", "B"], name="x", minimum=np.nan)


def test_power_law_of_planted_degrees(build, empty):
    rng = np.random.default_rng(0)
    degrees = np.minimum(rng.zipf(2.5, size=400), 390)
    rows = [(f"R{i}", f"T{j}", 1.0) for i, degree in enumerate(degrees) for j in range(degree)]
    fit = power_law(build(rows), "out_degree")
    assert fit["alpha"] == pytest.approx(2.5, abs=0.3)
    assert fit["distance"] < 0.1
    assert np.isnan(power_law(empty)["alpha"])
    with pytest.raises(ValueError, match="by must be one of degree"):
        power_law(empty, "pagerank")
