"""Networks from and for other programs, as methods."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import pandas as pd

from grnlab.network import export, graph_files
from grnlab.network.filters import Filters
from grnlab.network.formats import write_network
from grnlab.network.tidy import genes_of, tidy_edges


class Interchange(Filters):
    """Edge tables, graph objects and files of other programs."""

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
    ) -> Self:
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
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["A", "A"], "target": ["B", "A"], "weight": [1.0, 0.5]})
        >>> GeneNetwork.from_edges(edges, name="loop", on_bad="drop")
        GeneNetwork('loop': 2 genes, 1 edges)
        """
        edges = tidy_edges(edges, on_bad=on_bad)
        return cls(edges, genes_of(edges, genes), name=name, provenance=provenance)

    def to_networkx(self) -> Any:
        """Make a ``networkx.DiGraph``; see `grnlab.network.export.to_networkx`.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [0.5]})
        >>> network = GeneNetwork.from_edges(edges, name="one")
        >>> list(network.to_networkx().edges)
        [('SPI1', 'LYZ')]
        """
        return export.to_networkx(self)

    def to_igraph(self) -> Any:
        """Make a directed ``igraph.Graph``; see `grnlab.network.export.to_igraph`.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [0.5]})
        >>> network = GeneNetwork.from_edges(edges, name="one")
        >>> network.to_igraph().vs["name"]
        ['LYZ', 'SPI1']
        """
        return export.to_igraph(self)

    def to_decoupler(self) -> pd.DataFrame:
        """Make the table decoupler takes as ``net``; see `grnlab.network.export.to_decoupler`.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [0.5]})
        >>> network = GeneNetwork.from_edges(edges, name="one")
        >>> network.to_decoupler().values.tolist()
        [['SPI1', 'LYZ', 0.5]]
        """
        return export.to_decoupler(self)

    def to_regulons(self, *, min_targets: int = 1, regulators_only: bool = False) -> dict[str, dict[str, float]]:
        """Make SCENIC-style regulons; see `grnlab.network.export.to_regulons`.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [0.5]})
        >>> network = GeneNetwork.from_edges(edges, name="one")
        >>> network.to_regulons()
        {'SPI1': {'LYZ': 0.5}}
        """
        return export.to_regulons(self, min_targets=min_targets, regulators_only=regulators_only)

    @classmethod
    def from_networkx(cls, graph: Any, *, name: str, on_bad: str = "raise") -> Self:
        """Make a network of a networkx graph: nodes are genes, an undirected edge becomes one each way.

        Edges without the attribute ``weight`` get 1; `on_bad` as in `from_edges`.

        Examples
        --------
        >>> import networkx as nx
        >>> from grnlab.network import GeneNetwork
        >>> GeneNetwork.from_networkx(nx.DiGraph([("SPI1", "LYZ")]), name="one").edges["weight"].tolist()
        [1.0]
        """
        edges, genes = graph_files.from_networkx(graph)
        return cls.from_edges(edges, genes, name=name, on_bad=on_bad)

    @classmethod
    def from_igraph(cls, graph: Any, *, name: str, on_bad: str = "raise") -> Self:
        """Make a network of an igraph graph whose vertices have the attribute ``name``; else as `from_networkx`.

        Examples
        --------
        >>> import igraph as ig
        >>> from grnlab.network import GeneNetwork
        >>> graph = ig.Graph.TupleList([("SPI1", "LYZ")], directed=True)
        >>> GeneNetwork.from_igraph(graph, name="one").targets("SPI1")["target"].tolist()
        ['LYZ']
        """
        edges, genes = graph_files.from_igraph(graph)
        return cls.from_edges(edges, genes, name=name, on_bad=on_bad)

    def write(self, path: str | Path, format: str | None = None, *, overwrite: bool = False) -> Path:
        """Write a file for another program; see `grnlab.network.formats.write_network` for the formats."""
        return write_network(self, path, format, overwrite=overwrite)
