"""GeneNetwork: one long table of weighted, directed edges and the table of the genes that could have had one."""

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from grnlab.network import enrichment, export, files, graph_files
from grnlab.network import hubs as _hubs
from grnlab.network.communities import Communities
from grnlab.network.communities import communities as _communities
from grnlab.network.filters import Filters
from grnlab.network.formats import write_network
from grnlab.network.gene_sets import GeneSets
from grnlab.network.ranked import prerank
from grnlab.network.tidy import genes_of, tidy_edges


class GeneNetwork(Filters):
    """A gene network of one group of cells.

    **Source is the regulator (the key gene of the attention), target is the query gene**: the row of attention of a
    gene is what that gene listens to. Networks are values: every method returns something new, and `edges` and `genes`
    are to be read, not edited.

    Parameters
    ----------
    edges
        Columns ``source``, ``target`` (gene names), ``weight`` (evidence for the edge, finite), optionally ``sign``
        (-1 represses, 1 activates, 0 unknown), ``z``, ``padj`` and columns of your own. No self loops, no repeats.
    genes
        Indexed by gene name: every gene of the universe, also those without an edge. Optional columns ``ensembl_id``,
        ``is_tf`` (bool), ``mean_counts`` (mean of counts per 10,000 over the cells of the group),
        ``fraction_expressed`` (0 to 1) and columns of your own (text, bool, whole numbers, floats).
    name
        Cell type or group.
    provenance
        Where the network comes from, anything JSON can hold; ``direction`` is added.

    Attributes
    ----------
    edges
        Strongest edge first (ties by source, then target), numbered from 0.
    genes
        As given, in its order; the index is called ``gene``.
    name, provenance
        As given.

    Raises
    ------
    ValueError
        When a table breaks these rules; the message names the first offending row.

    Examples
    --------
    >>> edges = pd.DataFrame({"source": ["SPI1", "SPI1"], "target": ["CD14", "LYZ"], "weight": [0.3, 0.6]})
    >>> genes = pd.DataFrame({"is_tf": [False, False, True]}, index=["CD14", "LYZ", "SPI1"])
    >>> network = GeneNetwork(edges, genes, name="CD14 monocyte")
    >>> network
    GeneNetwork('CD14 monocyte': 3 genes, 2 edges)
    >>> network.targets("SPI1")["target"].tolist()
    ['LYZ', 'CD14']
    """

    __slots__ = ()

    @classmethod
    def from_edges(
        cls,
        edges: pd.DataFrame,
        genes: pd.DataFrame | Iterable[str] | None = None,
        *,
        name: str,
        on_bad: str = "raise",
        provenance: Mapping[str, Any] | None = None,
    ) -> "GeneNetwork":
        """Make a network of an edge table alone, as other programs write it.

        Parameters
        ----------
        edges
            ``source, target, weight`` and others.
        genes
            The universe: a gene table, or names. The ends of the edges by default, in alphabetic order.
        name, provenance
            As for the class.
        on_bad
            ``"raise"``: self loops, repeated pairs and weights that are not finite are errors. ``"drop"``: they go,
            with their number in the log; of a repeated pair the strongest stays.

        Raises
        ------
        ValueError
            When a table breaks the rules, or an end of an edge is not in `genes`.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["A", "A"], "target": ["B", "A"], "weight": [1.0, 0.5]})
        >>> GeneNetwork.from_edges(edges, name="loop", on_bad="drop")
        GeneNetwork('loop': 2 genes, 1 edges)
        """
        edges = tidy_edges(edges, on_bad=on_bad)
        return cls(edges, genes_of(edges, genes), name=name, provenance=provenance)

    # --- the questions one asks a network

    def hubs(self, by: str = "pagerank", *, n: int | None = None, regulators_only: bool = False) -> pd.DataFrame:
        """Rank the genes by how central they are; see `grnlab.network.hubs.hubs` for the columns."""
        return _hubs.hubs(self, by=by, n=n, regulators_only=regulators_only)

    def communities(
        self, *, method: str = "leiden", resolution: float = 1.0, directed: bool = False, seed: int = 0
    ) -> Communities:
        """Find communities; see `grnlab.network.communities.communities`."""
        return _communities(self, method=method, resolution=resolution, directed=directed, seed=seed)

    def enrich(
        self,
        genes: Iterable[str] | Mapping[str | int, Iterable[str]] | None = None,
        gene_sets: GeneSets | None = None,
        *,
        background: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Test lists of genes, or the communities, for gene sets; see `grnlab.network.enrichment.enrich`."""
        return enrichment.enrich(self, genes, gene_sets, background=background)

    def prerank(
        self,
        gene_sets: GeneSets | None = None,
        *,
        by: str = "pagerank",
        min_size: int = 5,
        max_size: int = 500,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Test whether gene sets sit among the hubs; see `grnlab.network.ranked.prerank`."""
        return prerank(self, gene_sets, by=by, min_size=min_size, max_size=max_size, seed=seed)

    def regulators(self, gene: str, *, n: int | None = None) -> pd.DataFrame:
        """List the edges into `gene`, strongest first; empty when it has none.

        Raises
        ------
        ValueError
            When the gene is not in the universe; the message gives the nearest names.
        """
        return self._edges_at("target", gene, n)

    def targets(self, gene: str, *, n: int | None = None) -> pd.DataFrame:
        """List the edges out of `gene`, strongest first; empty when it has none. Errors as in `regulators`."""
        return self._edges_at("source", gene, n)

    # --- for other programs

    def to_networkx(self) -> Any:
        """Make a ``networkx.DiGraph``; see `grnlab.network.export.to_networkx`."""
        return export.to_networkx(self)

    def to_igraph(self) -> Any:
        """Make a directed ``igraph.Graph``; see `grnlab.network.export.to_igraph`."""
        return export.to_igraph(self)

    def to_decoupler(self) -> pd.DataFrame:
        """Make the table decoupler takes as ``net``; see `grnlab.network.export.to_decoupler`."""
        return export.to_decoupler(self)

    def to_regulons(self, *, min_targets: int = 1, regulators_only: bool = False) -> dict[str, dict[str, float]]:
        """Make SCENIC-style regulons; see `grnlab.network.export.to_regulons`."""
        return export.to_regulons(self, min_targets=min_targets, regulators_only=regulators_only)

    @classmethod
    def from_networkx(cls, graph: Any, *, name: str, on_bad: str = "raise") -> "GeneNetwork":
        """Make a network of a networkx graph: nodes are genes, an undirected edge becomes one each way.

        Edges without the attribute ``weight`` get 1; `on_bad` as in `from_edges`.

        Examples
        --------
        >>> import networkx as nx
        >>> GeneNetwork.from_networkx(nx.DiGraph([("SPI1", "LYZ")]), name="one").edges["weight"].tolist()
        [1.0]
        """
        edges, genes = graph_files.from_networkx(graph)
        return cls.from_edges(edges, genes, name=name, on_bad=on_bad)

    @classmethod
    def from_igraph(cls, graph: Any, *, name: str, on_bad: str = "raise") -> "GeneNetwork":
        """Make a network of an igraph graph whose vertices have the attribute ``name``; else as `from_networkx`.

        Examples
        --------
        >>> import igraph as ig
        >>> graph = ig.Graph.TupleList([("SPI1", "LYZ")], directed=True)
        >>> GeneNetwork.from_igraph(graph, name="one").targets("SPI1")["target"].tolist()
        ['LYZ']
        """
        edges, genes = graph_files.from_igraph(graph)
        return cls.from_edges(edges, genes, name=name, on_bad=on_bad)

    # --- files

    def write(self, path: str | Path, format: str | None = None, *, overwrite: bool = False) -> Path:
        """Write a file for another program; see `grnlab.network.formats.write_network` for the formats."""
        return write_network(self, path, format, overwrite=overwrite)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the network to one ``.grn`` file, whole or not at all; the format is told in `grnlab.network.files`.

        Raises
        ------
        FileExistsError
            When `path` exists and `overwrite` is False.
        ValueError
            When `path` does not end in ``.grn``.
        """
        return files.write_network(path, self.stored(), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> "GeneNetwork":
        """Read what `save` wrote. Nothing in the file is executed.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file is truncated, damaged or of another kind; the message names it.
        """
        return cls.from_stored(files.read_network(path), path=path)

    def stored(self) -> files.StoredNetwork:
        """Give the four parts that a file holds."""
        return files.StoredNetwork(self._edges, self._genes, self._name, self._provenance)

    @classmethod
    def from_stored(cls, stored: files.StoredNetwork, *, path: str | Path) -> "GeneNetwork":
        """Rebuild a network from the parts read from `path`, checking them again."""
        try:
            return cls(stored.edges, stored.genes, name=stored.name, provenance=stored.provenance)
        except ValueError as error:
            msg = f"{path} holds a network that breaks the rules: {error}"
            raise ValueError(msg) from error

    # --- at a glance

    def summary(self) -> dict[str, str | int | float | None]:
        """Give counts and the weight range: plain values, ready for JSON (None where there are no edges)."""
        source, target = self.edge_positions()
        n_genes, weight = len(self._genes), self._edges["weight"]
        some = len(weight) > 0
        return {
            "name": self._name,
            "n_genes": n_genes,
            "n_genes_with_edges": len(np.union1d(source, target)),
            "n_edges": len(weight),
            "n_regulators": len(np.unique(source)),
            "n_targets": len(np.unique(target)),
            "density": len(weight) / (n_genes * (n_genes - 1)) if n_genes > 1 else None,
            "weight_min": float(weight.min()) if some else None,
            "weight_median": float(weight.median()) if some else None,
            "weight_max": float(weight.max()) if some else None,
        }

    def __repr__(self) -> str:
        return f"GeneNetwork({self._name!r}: {len(self._genes):,} genes, {len(self._edges):,} edges)"

    def _repr_html_(self) -> str:
        shown = html.escape(f"{self._name}: {len(self._genes):,} genes, {len(self._edges):,} edges; strongest edges")
        return f"<div><b>{shown}</b>{self._edges.head(5).to_html(border=0)}</div>"

    def _edges_at(self, end: str, gene: str, n: int | None) -> pd.DataFrame:
        self._check_gene(gene)
        _hubs.check_count(n, argument="n")
        found = self._edges[self._edges[end] == gene].reset_index(drop=True)
        return found if n is None else found.head(n)
