"""Attention maps as pooled queries and keys: any block on demand, never a (heads, genes, genes) array.

Of a model with kernel attention or two hops (``spec.kind``) queries and keys are features, and a map is that of mean
features: the mean, over all pairs of a cell that shows the query gene and a cell that shows the key gene, of the kernel
between them, each cell scaled so that its own rows sum to 1; then the rows are normalised over the genes of the map.

Shape suffixes: L layers, H heads, G genes, D head dimension.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from grnlab_kernels import MapOptions, combine_map, map_panels, resolve_backend, topk_edges
from torch import Tensor

from grnlab.backbones.base import AttentionSpec

MIN_CELLS_PER_GENE = 5  # fewer say little of a mean


@dataclass(frozen=True)
class GroupMaps:
    """Summed queries and keys of the cells of one group.

    Attributes
    ----------
    name
        Name of the group.
    q_sum_LHGD, k_sum_LHGD
        Sums over cells, float32, shape (n_layers, n_heads, n_genes, d_head); of features for a kernel and for two hops.
    count_G
        Cells summed for each gene, int64.
    n_cells
        Cells of the group.
    """

    name: str
    q_sum_LHGD: Tensor
    k_sum_LHGD: Tensor
    count_G: Tensor
    n_cells: int

    @property
    def q_LHGD(self) -> Tensor:
        """Mean queries; 0 for genes never seen."""
        return self.q_sum_LHGD / self.count_G.clamp(min=1).unsqueeze(-1)

    @property
    def k_LHGD(self) -> Tensor:
        """Mean keys; 0 for genes never seen."""
        return self.k_sum_LHGD / self.count_G.clamp(min=1).unsqueeze(-1)

    @property
    def seen_G(self) -> np.ndarray:
        """True for genes seen in five cells (or in all): others leave a map before its rows are normalised."""
        return self.count_G.numpy() >= min(MIN_CELLS_PER_GENE, self.n_cells)

    def __add__(self, other: "GroupMaps") -> "GroupMaps":
        """Pool two sets of cells of the same group."""
        if self.q_sum_LHGD.shape != other.q_sum_LHGD.shape:
            msg = f"shapes differ: {tuple(self.q_sum_LHGD.shape)} and {tuple(other.q_sum_LHGD.shape)}."
            raise ValueError(msg)
        return GroupMaps(
            self.name,
            self.q_sum_LHGD + other.q_sum_LHGD,
            self.k_sum_LHGD + other.k_sum_LHGD,
            self.count_G + other.count_G,
            self.n_cells + other.n_cells,
        )


@dataclass(frozen=True)
class AttentionMaps:
    """Pooled attention of a model on groups of cells.

    Attributes
    ----------
    genes
        One row per gene, index ``gene`` (the symbol of the vocabulary), columns ``token, ensembl_id, is_tf,
        name_in_data``.
    groups
        Group name → sums of queries and keys.
    spec
        Sizes and scale of the attention.
    expression
        Group name → table with ``mean_counts`` (per 10,000 counts of a cell) and ``fraction_expressed`` by gene.
    provenance
        Model, weights, data and settings.
    """

    genes: pd.DataFrame
    groups: Mapping[str, GroupMaps]
    spec: AttentionSpec
    expression: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        heads = f"{self.spec.n_layers} layers × {self.spec.n_heads} heads"
        groups = ", ".join(f"{name} ({group.n_cells} cells)" for name, group in self.groups.items())
        return f"AttentionMaps({len(self.genes):,} genes, {heads}; {groups})"

    @property
    def kernel_path(self) -> str:
        """Which implementation of the map operations `backend="auto"` runs here, for provenance."""
        return "torch" if self.spec.arithmetic == "kernel" else resolve_backend("auto")

    def group(self, name: str) -> GroupMaps:
        """One group.

        Raises
        ------
        KeyError
            When there is no group of this name; the message lists them.
        """
        if name not in self.groups:
            msg = f"group {name!r} is unknown; there are {list(self.groups)}."
            raise KeyError(msg)
        return self.groups[name]

    def tiles(
        self,
        group: str,
        weights_LH: Tensor | None = None,
        *,
        rows: np.ndarray | None = None,
        symmetrize: bool = False,
        apc: bool = False,
        backend: str = "auto",
    ) -> Iterator[tuple[int, Tensor]]:
        """Stream the map of a group as panels (first row, panel of shape (R, genes)).

        Parameters
        ----------
        group
            Name of the group.
        weights_LH
            Weight of each head; the mean over all by default.
        rows
            Gene numbers the map is made of: rows are normalised over these only. All by default.
        symmetrize, apc, backend
            See :class:`grnlab_kernels.MapOptions`.
        """
        q_HGD, k_HGD, weights_H = self._heads(group, weights_LH, rows)
        options = MapOptions(self.spec.scale, symmetrize, apc, self.spec.arithmetic)
        return map_panels(q_HGD, k_HGD, weights_H, options, backend=backend)

    def topk(
        self,
        group: str,
        n_edges: int,
        weights_LH: Tensor | None = None,
        *,
        rows: np.ndarray | None = None,
        candidates: np.ndarray | None = None,
        per: str = "query",
        symmetrize: bool = False,
        apc: bool = False,
        backend: str = "auto",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Strongest partners of each gene and the values of the map, both of shape (len(rows), n_edges).

        Parameters
        ----------
        group, weights_LH, rows, symmetrize, apc, backend
            As in :meth:`tiles`.
        n_edges
            Partners kept per gene.
        candidates
            Gene numbers that may be partners, a subset of `rows`, increasing.
        per
            ``"query"`` or ``"key"``, see :func:`grnlab_kernels.topk_edges`.

        Returns
        -------
        Partners as gene numbers of the maps, -1 for none, and values, NaN for none.
        """
        q_HGD, k_HGD, weights_H = self._heads(group, weights_LH, rows)
        rows = np.arange(len(self.genes)) if rows is None else np.asarray(rows)
        inside = None
        if candidates is not None:
            inside = torch.from_numpy(np.flatnonzero(np.isin(rows, candidates)))
        options = MapOptions(self.spec.scale, symmetrize, apc, self.spec.arithmetic)
        partner, value = topk_edges(
            q_HGD, k_HGD, weights_H, n_edges, options, per=per, candidates=inside, backend=backend
        )
        partners = partner.numpy()
        return np.where(partners >= 0, rows[partners], -1), value.numpy()

    def dense(
        self,
        group: str,
        weights_LH: Tensor | None = None,
        *,
        rows: np.ndarray | None = None,
        symmetrize: bool = False,
        apc: bool = False,
    ) -> np.ndarray:
        """Whole map of a group, float32, shape (genes, genes), row = query = target: for notebooks and small sets."""
        options = MapOptions(self.spec.scale, symmetrize, apc, self.spec.arithmetic)
        return combine_map(*self._heads(group, weights_LH, rows), options)[0].numpy()

    def _heads(self, group: str, weights_LH: Tensor | None, rows: np.ndarray | None) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.group(group)
        if weights_LH is None:
            weights_LH = torch.ones(self.spec.n_layers, self.spec.n_heads)
        if weights_LH.shape != (self.spec.n_layers, self.spec.n_heads):
            msg = (
                f"weights_LH has shape {tuple(weights_LH.shape)}; expected (n_layers, n_heads) = "
                f"({self.spec.n_layers}, {self.spec.n_heads})."
            )
            raise ValueError(msg)
        chosen = torch.nonzero(weights_LH.flatten()).ravel()
        if len(chosen) == 0:
            msg = "weights_LH must have a positive sum; every head has weight 0."
            raise ValueError(msg)
        weights_H = weights_LH.flatten()[chosen]
        q_HGD, k_HGD = maps.q_LHGD.flatten(0, 1)[chosen], maps.k_LHGD.flatten(0, 1)[chosen]
        if rows is not None:
            index = torch.as_tensor(np.asarray(rows))
            q_HGD, k_HGD = q_HGD.index_select(1, index), k_HGD.index_select(1, index)
        return q_HGD.float(), k_HGD.float(), weights_H
