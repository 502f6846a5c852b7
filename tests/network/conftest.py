import numpy as np
import pandas as pd
import pytest

from grnlab.network import GeneNetwork


def make_network(edges, genes=None, *, name="group", **gene_columns):
    """A network from (source, target, weight) rows; genes default to the edge ends in alphabetic order."""
    table = pd.DataFrame(edges, columns=["source", "target", "weight"]).astype({"weight": float})
    names = sorted({*table["source"], *table["target"]}) if genes is None else list(genes)
    return GeneNetwork(table, pd.DataFrame(gene_columns, index=names), name=name)


def make_random(n_genes=40, n_edges=200, *, seed=0, name="random", **gene_columns):
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(n_genes * n_genes)
    source, target = np.divmod(pairs, n_genes)
    kept = np.flatnonzero(source != target)[:n_edges]
    names = np.array([f"G{i:03d}" for i in range(n_genes)], dtype=object)
    edges = {"source": names[source[kept]], "target": names[target[kept]], "weight": rng.random(n_edges)}
    return GeneNetwork(pd.DataFrame(edges), pd.DataFrame(gene_columns, index=names), name=name)


@pytest.fixture
def build():
    return make_network


@pytest.fixture
def build_random():
    return make_random


@pytest.fixture
def empty():
    return make_network([], genes=["A", "B", "C"], name="empty", is_tf=[True, False, False])


@pytest.fixture
def blood():
    """SPI1 and CEBPB regulate monocyte genes, PAX5 B-cell genes; KIT has no edge."""
    edges = [
        ("SPI1", "CD14", 0.9),
        ("SPI1", "LYZ", 0.8),
        ("CEBPB", "LYZ", 0.7),
        ("SPI1", "CEBPB", 0.6),
        ("PAX5", "CD79A", 0.5),
        ("PAX5", "MS4A1", 0.4),
        ("CD79A", "MS4A1", 0.3),
    ]
    genes = ["CD14", "CD79A", "CEBPB", "KIT", "LYZ", "MS4A1", "PAX5", "SPI1"]
    return make_network(edges, genes, name="blood", is_tf=[gene in {"SPI1", "CEBPB", "PAX5"} for gene in genes])
