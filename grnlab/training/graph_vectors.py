"""Start gene embeddings from an interaction graph, by a masked graph autoencoder as CellLM does.

GraphMAE (Hou et al. 2022, https://arxiv.org/abs/2205.10803): hide the features of half the genes, encode the graph,
hide the codes of these genes again, and decode their features from their neighbours. The graph is a table the user
gives. It enters the model: whatever overlaps with it is no test of that model any more. RegNetwork and OmniPath share
edges with each other, with TRRUST, CollecTRI and DoRothEA; a human STRING network with every STRING case of BEELINE.

Shape suffixes: G genes, M vector dimension.
"""

import logging

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grnlab.evaluate import GoldStandard
from grnlab.genes import GeneVocab

logger = logging.getLogger(__name__)

_SHARPNESS = 2  # exponent γ of the scaled cosine error


class GraphAutoencoder(nn.Module):
    """Two graph convolutions that encode, one that decodes; features of hidden nodes are a learned token.

    Parameters
    ----------
    adjacency_GG
        Normalised adjacency, sparse; constant.
    d_model
        Length of features and codes.
    """

    def __init__(self, adjacency_GG: Tensor, d_model: int) -> None:
        super().__init__()
        self.adjacency_GG = adjacency_GG
        self.hidden = nn.Parameter(torch.zeros(d_model))
        self.first, self.second = nn.Linear(d_model, 2 * d_model), nn.Linear(2 * d_model, d_model)
        self.between = nn.Linear(d_model, d_model, bias=False)
        self.decoder = nn.Linear(d_model, d_model)
        self.activation = nn.PReLU()

    def encode(self, features_GM: Tensor) -> Tensor:
        """Codes of the nodes, (G, M)."""
        x = self.activation(self.adjacency_GG @ self.first(features_GM))
        return self.adjacency_GG @ self.second(x)

    def loss(self, features_GM: Tensor, hidden_G: Tensor) -> Tensor:
        """Scaled cosine error of the hidden features."""
        shown_GM = torch.where(hidden_G.unsqueeze(-1), self.hidden, features_GM)
        code_GM = self.between(self.encode(shown_GM)).masked_fill(hidden_G.unsqueeze(-1), 0.0)
        decoded_GM = self.adjacency_GG @ self.decoder(code_GM)
        cosine_N = F.cosine_similarity(decoded_GM[hidden_G], features_GM[hidden_G], dim=-1)
        return ((1 - cosine_N) ** _SHARPNESS).mean()


def graph_vectors(
    graph: GoldStandard,
    vocab: GeneVocab,
    d_model: int,
    *,
    features: np.ndarray | None = None,
    n_epochs: int = 100,
    rate: float = 0.5,
    lr: float = 5e-3,
    seed: int = 0,
) -> np.ndarray:
    """Gene vectors from a masked graph autoencoder.

    Parameters
    ----------
    graph
        Interactions, taken as undirected; from any table with :func:`grnlab.evaluate.read_gold`.
    vocab
        Genes.
    d_model
        Length of the vectors.
    features
        What the autoencoder hides and predicts, shape (n_genes, d_model), for example
        :func:`~grnlab.training.gene_vectors.coexpression_vectors`; by default a truncated SVD of the graph itself.
    n_epochs
        Steps, each over the whole graph.
    rate
        Share of the connected genes that is hidden in a step.
    lr
        Learning rate.
    seed
        Of weights and masks.

    Returns
    -------
    float32 of shape (n_genes, d_model); the mean of every coordinate is 0 and the mean square of an entry 1. A gene
    without an interaction gets what the encoder makes of its own features.

    Raises
    ------
    ValueError
        When fewer than `d_model` genes of the vocabulary have an interaction, or features have another shape.

    Examples
    --------
    >>> import pandas as pd
    >>> names = [f"G{n}" for n in range(12)]
    >>> vocab = GeneVocab(pd.DataFrame({"symbol": names, "ensembl_id": "", "aliases": "", "position": range(12),
    ...     "species": "none", "is_tf": False}))
    >>> graph = GoldStandard.from_frame(pd.DataFrame({"source": names, "target": names[1:] + names[:1]}), name="ring")
    >>> graph_vectors(graph, vocab, 4, n_epochs=2).shape
    (12, 4)
    """
    matrix = _adjacency(graph.align(vocab), vocab)
    connected = np.asarray(matrix.sum(axis=1)).ravel() > 0
    if connected.sum() <= d_model:
        msg = (
            f"{int(connected.sum())} genes of the vocabulary have an interaction in {graph.name!r}; vectors of length "
            f"{d_model} need more. Give a larger graph, or one with the names of the vocabulary."
        )
        raise ValueError(msg)
    if features is None:
        features = _svd_features(matrix, d_model, seed=seed)
    if features.shape != (len(vocab), d_model):
        msg = f"features has shape {features.shape}; expected ({len(vocab)}, {d_model}), genes by d_model."
        raise ValueError(msg)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        vectors, losses = _train(matrix, features, np.flatnonzero(connected), n_epochs=n_epochs, rate=rate, lr=lr)
    logger.info("graph vectors of %r: error %.3f → %.3f", graph.name, losses[0], losses[-1])
    vectors = vectors - vectors.mean(axis=0)
    return (vectors / np.sqrt((vectors**2).mean()).clip(min=1e-6)).astype(np.float32)


def _train(
    matrix: sp.csr_matrix, features: np.ndarray, connected: np.ndarray, *, n_epochs: int, rate: float, lr: float
) -> tuple[np.ndarray, list[float]]:
    features_GM = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
    model = GraphAutoencoder(_normalised(matrix), features.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    nodes, losses = torch.from_numpy(connected), []
    for _ in range(n_epochs):
        hidden_G = torch.zeros(len(features_GM), dtype=torch.bool)
        hidden_G[nodes[torch.randperm(len(nodes))[: max(1, round(rate * len(nodes)))]]] = True
        loss = model.loss(features_GM, hidden_G)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        return model.encode(features_GM).numpy(), losses


def _adjacency(graph: GoldStandard, vocab: GeneVocab) -> sp.csr_matrix:
    """Undirected adjacency over the vocabulary, ones."""
    place = {symbol: number for number, symbol in enumerate(vocab.symbols)}
    edges = graph.edges
    row, column = (edges[end].map(place).to_numpy(dtype=np.float64) for end in ("source", "target"))
    known = np.isfinite(row) & np.isfinite(column)
    row, column = row[known].astype(np.int64), column[known].astype(np.int64)
    shape = (len(vocab), len(vocab))
    matrix = sp.coo_matrix((np.ones(2 * len(row), np.float32), (np.r_[row, column], np.r_[column, row])), shape).tocsr()
    matrix.data[:] = 1  # an edge that is listed in both directions is one
    return matrix


def _normalised(matrix: sp.csr_matrix) -> Tensor:
    """``D^-½ (A + I) D^-½``, as a sparse tensor."""
    whole = matrix + sp.identity(matrix.shape[0], dtype=np.float32, format="csr")
    scale = sp.diags(1 / np.sqrt(np.asarray(whole.sum(axis=1)).ravel()))
    coo = sp.coo_matrix(scale @ whole @ scale)
    place = torch.from_numpy(np.vstack([coo.row, coo.col]).astype(np.int64))
    values = torch.from_numpy(coo.data.astype(np.float32))
    return torch.sparse_coo_tensor(place, values, coo.shape, check_invariants=False).coalesce()


def _svd_features(matrix: sp.csr_matrix, d_model: int, *, seed: int) -> np.ndarray:
    """Loadings of the normalised adjacency, of length 1 for connected genes and random for others."""
    from sklearn.utils.extmath import randomized_svd

    degree = np.asarray(matrix.sum(axis=1)).ravel()
    scale = sp.diags(1 / np.sqrt(degree.clip(min=1)))
    left, singular, _ = randomized_svd(scale @ matrix @ scale, n_components=d_model, random_state=seed)
    vectors = left * singular
    vectors[degree == 0] = np.random.default_rng(seed).normal(size=(int((degree == 0).sum()), d_model))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
