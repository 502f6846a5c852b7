"""GeneNetwork: one long table of weighted, directed edges and the table of the genes that could have had one."""

import html
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from grnlab.network import enrichment, files
from grnlab.network import hubs as _hubs
from grnlab.network.communities import Communities
from grnlab.network.communities import communities as _communities
from grnlab.network.gene_sets import GeneSets
from grnlab.network.interchange import Interchange
from grnlab.network.ranked import prerank


class GeneNetwork(Interchange):
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

    # --- the questions one asks a network

    def hubs(self, by: str = "pagerank", *, n: int | None = None, regulators_only: bool = False) -> pd.DataFrame:
        """Rank the genes by how central they are; see `grnlab.network.hubs.hubs` for `by` and the columns.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["SPI1", "SPI1"], "target": ["CD14", "LYZ"], "weight": [0.3, 0.6]})
        >>> network = GeneNetwork.from_edges(edges, name="monocyte")
        >>> network.hubs(n=1).index.tolist()
        ['SPI1']
        """
        return _hubs.hubs(self, by=by, n=n, regulators_only=regulators_only)

    def communities(
        self, *, method: str = "leiden", resolution: float = 1.0, directed: bool = False, seed: int = 0
    ) -> Communities:
        """Find communities; see `grnlab.network.communities.communities`.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["SPI1", "SPI1"], "target": ["CD14", "LYZ"], "weight": [0.3, 0.6]})
        >>> network = GeneNetwork.from_edges(edges, name="monocyte")
        >>> network.communities()
        Communities(1 of 3 genes, modularity 0.000)
        """
        return _communities(self, method=method, resolution=resolution, directed=directed, seed=seed)

    def enrich(
        self,
        genes: Iterable[str] | Mapping[str | int, Iterable[str]] | None = None,
        gene_sets: GeneSets | None = None,
        *,
        background: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Test lists of genes, or the communities, for gene sets; see `grnlab.network.enrichment.enrich`.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["SPI1", "SPI1"], "target": ["CD14", "LYZ"], "weight": [0.3, 0.6]})
        >>> network = GeneNetwork.from_edges(edges, name="monocyte")
        >>> network.enrich(["LYZ", "CD14"], {"monocyte": ["LYZ", "CD14"]})["overlap"].tolist()
        [2]
        """
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
        """Test whether gene sets sit among the hubs; see `grnlab.network.ranked.prerank`.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["SPI1", "SPI1"], "target": ["CD14", "LYZ"], "weight": [0.3, 0.6]})
        >>> network = GeneNetwork.from_edges(edges, name="monocyte")
        >>> network.prerank({"monocyte": ["LYZ", "CD14"]}, min_size=2)["set_size"].tolist()
        [2]
        """
        return prerank(self, gene_sets, by=by, min_size=min_size, max_size=max_size, seed=seed)

    def regulators(self, gene: str, *, n: int | None = None) -> pd.DataFrame:
        """List the edges into `gene`, strongest first; empty when it has none.

        Raises
        ------
        ValueError
            When the gene is not in the universe; the message gives the nearest names.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["SPI1", "SPI1"], "target": ["CD14", "LYZ"], "weight": [0.3, 0.6]})
        >>> network = GeneNetwork.from_edges(edges, name="monocyte")
        >>> network.regulators("LYZ")["weight"].tolist()
        [0.6]
        """
        return self._edges_at("target", gene, n)

    def targets(self, gene: str, *, n: int | None = None) -> pd.DataFrame:
        """List the edges out of `gene`, strongest first; empty when it has none. Errors as in `regulators`.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["SPI1", "SPI1"], "target": ["CD14", "LYZ"], "weight": [0.3, 0.6]})
        >>> network = GeneNetwork.from_edges(edges, name="monocyte")
        >>> network.targets("SPI1", n=1)["target"].tolist()
        ['LYZ']
        """
        return self._edges_at("source", gene, n)

    # --- files

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

        Examples
        --------
        >>> import tempfile
        >>> edges = pd.DataFrame({"source": ["SPI1", "SPI1"], "target": ["CD14", "LYZ"], "weight": [0.3, 0.6]})
        >>> network = GeneNetwork.from_edges(edges, name="monocyte")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     GeneNetwork.load(network.save(Path(folder, "monocyte.grn"))).equals(network)
        True
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
