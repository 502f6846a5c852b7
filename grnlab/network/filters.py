"""Smaller networks: parts of the universe, and the edges worth keeping."""

from collections.abc import Iterable
from typing import Self

import numpy as np
import pandas as pd

from grnlab.network import hubs as _hubs
from grnlab.network.base import NetworkTables
from grnlab.network.statistics import benjamini_hochberg
from grnlab.network.tables import check_known

_PER = {"target": "target", "regulator": "source"}


class Filters(NetworkTables):
    """Subsets of genes and thresholds on edges; each gives a new network, and thresholds keep the universe."""

    __slots__ = ()

    def subset(self, genes: Iterable[str]) -> Self:
        """Cut the network to these genes (universe and edges), in the order of the gene table.

        Raises
        ------
        ValueError
            When a gene is not in the universe; the message gives the nearest names.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"], "weight": [2.0, 1.0]})
        >>> GeneNetwork.from_edges(edges, name="chain").subset(["A", "B"])
        GeneNetwork('chain': 2 genes, 1 edges)
        """
        wanted = check_known(genes, self._genes.index, argument="genes", where=f"network {self._name!r}")
        kept = self._genes.index.isin(wanted)
        source, target = self.edge_positions()
        return self._like(self._edges[kept[source] & kept[target]], self._genes[kept])

    def neighbourhood(self, gene: str, *, radius: int = 1, max_genes: int | None = None) -> Self:
        """Cut out the network around a gene: genes up to `radius` steps away, either way, and all edges among them.

        Parameters
        ----------
        gene
            The gene in the middle.
        radius
            Number of steps.
        max_genes
            Keep at most so many genes besides the middle one: near ones first, then those with the most weight to the
            genes already taken (ties by name).

        Raises
        ------
        ValueError
            When the gene is not in the universe, or a number is negative.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"], "weight": [2.0, 1.0]})
        >>> GeneNetwork.from_edges(edges, name="chain").neighbourhood("A").genes.index.tolist()
        ['A', 'B']
        """
        self._check_gene(gene)
        _hubs.check_count(radius, argument="radius")
        _hubs.check_count(max_genes, argument="max_genes")
        names = self._genes.index
        low, high, total = _hubs.undirected(
            *self.edge_positions(), np.maximum(self._edges["weight"].to_numpy(), np.finfo(float).tiny), len(names)
        )
        taken = np.zeros(len(names), dtype=bool)
        taken[names.get_loc(gene)] = True
        room = len(names) if max_genes is None else max_genes
        for _ in range(radius):
            pull = np.bincount(high, total * taken[low], minlength=len(names))
            pull += np.bincount(low, total * taken[high], minlength=len(names))
            near = pd.Series(np.where(taken, 0.0, pull), index=names)
            order = _hubs.order_by(near)
            new = order[near.to_numpy()[order] > 0][:room]
            taken[new] = True
            room -= len(new)
        return self.subset(names[taken])

    def top(self, n_edges: int, *, per: str | None = None) -> Self:
        """Keep the `n_edges` strongest edges of the network, of each target, or of each regulator.

        Parameters
        ----------
        n_edges
            How many; ties go by the order of the edge table (source, then target).
        per
            None, ``"target"`` or ``"regulator"``.

        Raises
        ------
        ValueError
            When `n_edges` is negative or `per` unknown.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["A", "B", "A"], "target": ["C", "C", "B"], "weight": [3.0, 2.0, 1.0]})
        >>> GeneNetwork.from_edges(edges, name="three").top(1, per="target").edges["weight"].tolist()
        [3.0, 1.0]
        """
        _hubs.check_count(n_edges, argument="n_edges")
        if per is None:
            return self._like(self._edges.head(n_edges), self._genes)
        if per not in _PER:
            msg = f"per must be None, 'target' or 'regulator', got {per!r}."
            raise ValueError(msg)
        # edges are sorted by weight, so the first rows of a gene are its strongest
        rank = self._edges.groupby(_PER[per], sort=False).cumcount()
        return self._like(self._edges[rank < n_edges], self._genes)

    def threshold(self, minimum: float | None = None, *, quantile: float | None = None, column: str = "weight") -> Self:
        """Keep the edges whose `column` reaches a value, or a quantile of that column.

        Parameters
        ----------
        minimum
            Smallest value kept.
        quantile
            Instead of `minimum`: from 0 (keep all) to 1 (keep the largest only).
        column
            Any numeric column of the edges, such as ``"confidence"`` from a bootstrap. Edges without a value go.

        Raises
        ------
        ValueError
            When not exactly one of `minimum` and `quantile` is given, or the column is missing.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["A", "B", "A"], "target": ["C", "C", "B"], "weight": [3.0, 2.0, 1.0]})
        >>> GeneNetwork.from_edges(edges, name="three").threshold(quantile=0.5).edges["weight"].tolist()
        [3.0, 2.0]
        """
        if (minimum is None) == (quantile is None):
            msg = f"give either minimum or quantile, got minimum={minimum!r} and quantile={quantile!r}."
            raise ValueError(msg)
        values = self._numbers(column)
        if quantile is not None:
            if not 0 <= quantile <= 1:
                msg = f"quantile must be from 0 to 1, got {quantile!r}."
                raise ValueError(msg)
            minimum = np.nanquantile(values, quantile) if np.isfinite(values).any() else 0.0
        elif minimum is None or not np.isfinite(minimum):
            msg = f"minimum must be a number, got {minimum!r}."
            raise ValueError(msg)
        return self._like(self._edges[values >= minimum], self._genes)

    def significant(self, alpha: float = 0.05) -> Self:
        """Keep the edges of a false discovery rate of at most `alpha`.

        Uses the column ``padj``; without one it is computed from ``pvalue`` by Benjamini-Hochberg **over the edges of
        this table**, which is right only while the table holds every edge that was tested: cut by weight afterwards.
        Edges without a p-value go.

        Raises
        ------
        ValueError
            When the edges have neither column, or `alpha` is not between 0 and 1.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["A", "B"], "target": ["C", "C"], "weight": [3.0, 2.0]})
        >>> network = GeneNetwork.from_edges(edges.assign(pvalue=[0.01, 0.6]), name="two")
        >>> network.significant().edges["padj"].tolist()
        [0.02]
        """
        _check_alpha(alpha)
        if "padj" in self._edges.columns:
            return self._like(self._edges[self._edges["padj"] <= alpha], self._genes)
        if "pvalue" not in self._edges.columns:
            msg = (
                f"the edges of {self._name!r} have neither padj nor pvalue, so no false discovery rate is known. "
                "Use top, threshold or backbone, or a test that gives p-values."
            )
            raise ValueError(msg)
        padj = benjamini_hochberg(self._edges["pvalue"].to_numpy())
        network = self._with_edge_columns({"padj": padj})
        return network._like(network._edges[network._edges["padj"] <= alpha], network._genes)

    def backbone(self, alpha: float = 0.05) -> Self:
        """Keep the edges that carry more of a gene's weight than chance: the disparity filter.

        A gene of k edges one way would share its strength uniformly at random among them; the p-value of an edge is
        (1 - its share)^(k - 1), from its regulator's and from its target's side. The smaller one is kept as the
        column ``disparity``; an edge stays when it is below `alpha`. A gene's only edge can never stand out at that
        gene (p = 1). Negative weights count as zero. These are p-values of one edge each, not corrected for their
        number: a filter, not a test.

        Raises
        ------
        ValueError
            When `alpha` is not between 0 and 1.

        References
        ----------
        Serrano, Boguñá, Vespignani (2009), doi:10.1073/pnas.0808904106.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["A"] * 3, "target": ["B", "C", "D"], "weight": [98.0, 1.0, 1.0]})
        >>> GeneNetwork.from_edges(edges, name="star").backbone().edges["target"].tolist()
        ['B']
        """
        _check_alpha(alpha)
        weight = np.maximum(self._edges["weight"].to_numpy(), 0.0)
        disparity = np.ones(len(weight))
        for end in self.edge_positions():
            degree = np.bincount(end, weight > 0, minlength=len(self._genes))[end]
            strength = np.bincount(end, weight, minlength=len(self._genes))[end]
            share = np.divide(weight, strength, out=np.zeros_like(weight), where=strength > 0)
            pvalue = np.where(degree > 1, (1 - np.minimum(share, 1.0)) ** np.maximum(degree - 1, 0), 1.0)
            disparity = np.minimum(disparity, np.where(weight > 0, pvalue, 1.0))
        network = self._with_edge_columns({"disparity": disparity})
        return network._like(network._edges[network._edges["disparity"] < alpha], network._genes)

    def _numbers(self, column: str) -> np.ndarray:
        if column not in self._edges.columns or self._edges[column].dtype == object:
            numeric = [name for name in self._edges.columns if self._edges[name].dtype != object]
            msg = f"column must be a numeric column of the edges ({', '.join(numeric)}), got {column!r}."
            raise ValueError(msg)
        return self._edges[column].to_numpy(dtype=float)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha <= 1:
        msg = f"alpha must lie between 0 and 1, got {alpha!r}; 0.05 is the usual choice."
        raise ValueError(msg)
