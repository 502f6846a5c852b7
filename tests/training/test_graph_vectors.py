import numpy as np
import pandas as pd
import pytest

from grnlab.evaluate import GoldStandard, read_gold
from grnlab.genes import GeneVocab
from grnlab.training import PretrainConfig, pretrain
from grnlab.training.gene_vectors import coexpression_vectors
from grnlab.training.graph_vectors import _adjacency, _normalised, graph_vectors

N_GENES, N_BLOCKS = 90, 3
BLOCK = np.arange(N_GENES) % N_BLOCKS


@pytest.fixture(scope="module")
def vocab():
    names = [f"G{number}" for number in range(N_GENES + 5)]  # five without an interaction
    table = {"symbol": names, "ensembl_id": "", "aliases": "", "position": np.arange(N_GENES + 5), "species": "test"}
    return GeneVocab(pd.DataFrame(table).assign(is_tf=False))


@pytest.fixture(scope="module")
def graph():
    """Three blocks of 30 genes: an edge inside with probability .3, between with .02."""
    rng = np.random.default_rng(0)
    row, column = np.triu_indices(N_GENES, 1)
    chance = np.where(BLOCK[row] == BLOCK[column], 0.3, 0.02)
    there = rng.random(len(row)) < chance
    names = [f"G{number}" for number in range(N_GENES)]
    edges = pd.DataFrame({"source": np.take(names, row[there]), "target": np.take(names, column[there])})
    return GoldStandard.from_frame(edges, name="blocks")


def within_less_between(vectors):
    unit = vectors[:N_GENES] / np.linalg.norm(vectors[:N_GENES], axis=1, keepdims=True)
    cosine, same = unit @ unit.T, BLOCK[:, None] == BLOCK
    np.fill_diagonal(same, False)
    return cosine[same].mean() - cosine[BLOCK[:, None] != BLOCK].mean()


def test_genes_of_a_block_are_neighbours(vocab, graph):
    vectors = graph_vectors(graph, vocab, 8, seed=0)
    assert vectors.shape == (N_GENES + 5, 8)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=1e-5)
    assert (vectors**2).mean() == pytest.approx(1, abs=1e-4)
    assert within_less_between(vectors) > 0.5


def test_features_are_smoothed_over_the_graph(vocab, graph):
    """Weak features: what they say of a block becomes plain through the neighbours."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(N_GENES + 5, 6))
    features[:N_GENES] += 0.7 * rng.normal(size=(N_BLOCKS, 6))[BLOCK]
    vectors = graph_vectors(graph, vocab, 6, features=features.astype(np.float32))
    assert within_less_between(vectors) > within_less_between(features) + 0.3


def test_seed(vocab, graph):
    first, again, other = (graph_vectors(graph, vocab, 4, n_epochs=3, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_normalised_adjacency(vocab, graph):
    matrix = _adjacency(graph, vocab)
    assert matrix.max() == 1
    assert (matrix != matrix.T).nnz == 0
    dense = matrix.toarray() + np.eye(N_GENES + 5)
    degree = dense.sum(axis=1)
    expected = dense / np.sqrt(degree[:, None] * degree)
    np.testing.assert_allclose(_normalised(matrix).to_dense().numpy(), expected, rtol=1e-5)


def test_too_small_a_graph(vocab, graph):
    few = GoldStandard.from_frame(pd.DataFrame({"source": ["G0", "G1"], "target": ["G1", "G2"]}), name="few")
    with pytest.raises(ValueError, match="3 genes of the vocabulary have an interaction in 'few'; vectors of length 8"):
        graph_vectors(few, vocab, 8)
    with pytest.raises(ValueError, match=r"features has shape \(3, 4\); expected \(95, 4\)"):
        graph_vectors(graph, vocab, 4, features=np.zeros((3, 4)))


def test_a_run_starts_from_a_file_of_interactions(tmp_path, planted_cells, tiny):
    """Before the first step the gene embeddings are the vectors of the graph; unknown names are refused at once."""
    vocab, cells = planted_cells
    names, path = list(vocab.symbols), tmp_path / "ring.csv"
    pd.DataFrame({"source": names, "target": names[1:] + names[:1]}).to_csv(path, index=False)
    settings = tiny[1] | {"max_steps": 1, "lr": 0.0, "gene_vectors": str(path)}
    split = (np.arange(100), np.arange(100, 150))
    model = pretrain(vocab, cells, model=tiny[0], config=PretrainConfig(**settings), split=split, progress=False)
    features = coexpression_vectors(cells.counts[split[0]], 16)
    expected = graph_vectors(read_gold(path), vocab, 16, features=features)
    np.testing.assert_allclose(model.gene_embedding.weight.detach(), expected, atol=1e-5)
    assert not np.allclose(expected, features, atol=0.1)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        pretrain(vocab, cells, model=tiny[0], config=PretrainConfig(gene_vectors="nowhere.csv"), progress=False)
    with pytest.raises(ValueError, match="gene_vectors='coexpresion' is unknown; choose among 'random'"):
        PretrainConfig(gene_vectors="coexpresion")
