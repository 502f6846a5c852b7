"""The graph network of perturbation prediction, in plain sparse products.

Shape suffixes: P perturbations, G genes whose change is predicted, N genes of the graph, M embedding, K hidden.
"""

from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from grnlab.tasks.perturbation_tests import parts_of

_SHRINK = 10.0  # edges that stand for the effect of an edge being none


class GeneGraph(nn.Module):
    """States of genes after messages from the genes they regulate, and from those that regulate them."""

    x_NM: Tensor

    def __init__(self, x_NM: Tensor, adjacency: sp.csr_matrix, *, hidden: int, n_hops: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("x_NM", x_NM)
        # row n of the first: mean over the targets of n; of the second: over its regulators
        self.neighbours = [as_sparse(row_mean(adjacency)), as_sparse(row_mean(sp.csr_matrix(adjacency.T)))]
        self.first = nn.Linear(x_NM.shape[1], hidden)
        self.messages = nn.ModuleList(
            nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in self.neighbours) for _ in range(n_hops)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self) -> Tensor:
        """States, shape (N, K)."""
        h_NK = self.first(self.dropout(self.x_NM))
        for hop in self.messages:
            of_targets, of_regulators = cast("nn.ModuleList", hop)
            incoming = torch.sparse.mm(self.neighbours[0], of_targets(h_NK))
            h_NK = h_NK + incoming + torch.sparse.mm(self.neighbours[1], of_regulators(h_NK))
        return h_NK


class EffectDecoder(nn.Module):
    """Change of genes: bilinear in the states of what was perturbed and of the gene, and along single edges."""

    outputs: Tensor

    def __init__(self, graph: GeneGraph, outputs: Tensor, mean_G: Tensor, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.graph = graph
        self.register_buffer("outputs", outputs)
        self.linear = nn.Linear(hidden, hidden)  # with few perturbations hardly more than this can be learned
        self.bent = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden))
        self.of_gene = nn.Linear(hidden, hidden)
        self.own_GK = nn.Parameter(torch.zeros(len(outputs), hidden))
        self.mean_G = nn.Parameter(mean_G.clone())
        self.edges = nn.Parameter(torch.zeros(3))
        self.scale = hidden**-0.5
        for last in (self.linear, cast("nn.Linear", self.bent[-1])):  # the mean is hard to beat: start there
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def start_from(self, perturbed: "Perturbed", y_PG: Tensor) -> None:
        """Set what single edges do to its mean in training data: few genes show it, so steps would not reach it."""
        left_PG = y_PG - self.mean_G.detach()
        edges_3PG = perturbed.edges_3PG
        with torch.no_grad():
            self.edges.copy_((edges_3PG * left_PG).sum((1, 2)) / ((edges_3PG**2).sum((1, 2)) + _SHRINK))

    def forward(self, perturbed: "Perturbed") -> Tensor:
        """Changes, shape (P, G)."""
        h_NK = self.graph()
        p_PK = torch.sparse.mm(perturbed.parts_PN, h_NK)
        z_PK = self.linear(p_PK) + self.bent(p_PK)
        g_GK = self.of_gene(h_NK[self.outputs]) + self.own_GK
        along_PG = torch.tensordot(self.edges, perturbed.edges_3PG, dims=1)
        return self.mean_G + along_PG + self.scale * z_PK @ g_GK.T


class Perturbed(NamedTuple):
    """Perturbations as a network reads them.

    Attributes
    ----------
    parts_PN
        Which genes are perturbed, sparse.
    edges_3PG
        Whether a gene is itself perturbed, is a target of one that is, or a regulator of one.
    """

    parts_PN: Tensor
    edges_3PG: Tensor

    def take(self, rows: np.ndarray) -> "Perturbed":
        """Some of the perturbations."""
        some = torch.from_numpy(rows)
        return Perturbed(self.parts_PN.index_select(0, some).coalesce(), self.edges_3PG[:, some])


def perturbed_of(names: pd.Index, nodes: pd.Index, outputs: np.ndarray, adjacency: sp.csr_matrix) -> Perturbed:
    """Perturbations by name.

    Raises
    ------
    ValueError
        When a gene is none of the nodes.
    """
    parts = perturbed_matrix(names, nodes)
    edges = [
        (parts @ step)[:, outputs].toarray() for step in (sp.eye(len(nodes), format="csr"), adjacency, adjacency.T)
    ]
    return Perturbed(as_sparse(parts), torch.from_numpy(np.stack(edges).astype(np.float32)))


def adjacency_of(graph: pd.DataFrame | None, nodes: pd.Index) -> sp.csr_matrix:
    """Edges between nodes, 1 from source (row) to target (column).

    Raises
    ------
    ValueError
        When the graph lacks a column, or has no edge between two nodes.
    """
    if graph is None:
        return sp.csr_matrix((len(nodes), len(nodes)), dtype=np.float32)
    if lacking := [column for column in ("source", "target") if column not in graph]:
        msg = f"graph lacks the columns {lacking}; it needs source and target."
        raise ValueError(msg)
    source, target = nodes.get_indexer(graph["source"]), nodes.get_indexer(graph["target"])
    both = (source >= 0) & (target >= 0)
    if not both.any():
        msg = "graph has no edge between two genes with an embedding; its names must be those of gene_embeddings."
        raise ValueError(msg)
    ones = np.ones(int(both.sum()), dtype=np.float32)
    adjacency = sp.csr_matrix((ones, (source[both], target[both])), shape=(len(nodes), len(nodes)))
    adjacency.data[:] = 1  # an edge given twice is one edge
    return adjacency


def row_mean(adjacency: sp.csr_matrix) -> sp.csr_matrix:
    """Every row divided by its sum."""
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags(1 / np.maximum(degree, 1)) @ adjacency)


def as_sparse(matrix: sp.csr_matrix) -> Tensor:
    """The matrix as a sparse tensor."""
    coo = matrix.tocoo()
    places = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    values = torch.from_numpy(coo.data.astype(np.float32))
    return torch.sparse_coo_tensor(places, values, coo.shape, check_invariants=False).coalesce()


def perturbed_matrix(perturbed: pd.Index, nodes: pd.Index) -> sp.csr_matrix:
    """Which genes each perturbation perturbs, shape (P, N).

    Raises
    ------
    ValueError
        When a gene is none of the nodes.
    """
    parts = [(row, part) for row, name in enumerate(perturbed) for part in parts_of(name)]
    columns = nodes.get_indexer([part for _, part in parts])
    if (columns < 0).any():
        unknown = sorted({part for (_, part), column in zip(parts, columns, strict=True) if column < 0})
        msg = f"perturbed names {len(unknown)} genes without an embedding: {unknown[:5]}."
        raise ValueError(msg)
    ones = np.ones(len(parts), dtype=np.float32)
    return sp.csr_matrix((ones, ([row for row, _ in parts], columns)), shape=(len(perturbed), len(nodes)))
