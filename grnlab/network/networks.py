"""NetworkSet: the networks of several groups of cells, side by side."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from grnlab._files import atomic_directory
from grnlab.network import files
from grnlab.network.base import check_provenance
from grnlab.network.combine import combine as _combine
from grnlab.network.compare import NetworkComparison
from grnlab.network.compare import compare as _compare
from grnlab.network.edge_files import from_celloracle, to_celloracle
from grnlab.network.modules import match_communities
from grnlab.network.network import GeneNetwork


class NetworkSet(Mapping[str, GeneNetwork]):
    """Networks by name, in the order given.

    Parameters
    ----------
    networks
        The networks; their names must differ.
    provenance
        What holds for the set as a whole, anything JSON can hold.

    Raises
    ------
    ValueError
        When something is not a network, or two have the same name.

    Examples
    --------
    >>> genes = pd.DataFrame(index=["A", "B", "C"])
    >>> edges = pd.DataFrame({"source": ["A", "A"], "target": ["B", "C"], "weight": [0.5, 0.25]})
    >>> network = GeneNetwork(edges, genes, name="T cell")
    >>> nets = NetworkSet([network])
    >>> nets
    NetworkSet(1 network: 'T cell')
    >>> nets["T cell"] is network
    True
    """

    __slots__ = ("_networks", "_provenance")

    def __init__(self, networks: Iterable[GeneNetwork], provenance: Mapping[str, Any] | None = None) -> None:
        if isinstance(networks, GeneNetwork):
            msg = "networks must be several GeneNetwork objects, got one; write NetworkSet([network])."
            raise ValueError(msg)
        self._networks: dict[str, GeneNetwork] = {}
        for network in networks:
            if not isinstance(network, GeneNetwork):
                hint = "; pass a mapping's values()" if isinstance(network, str) else ""
                msg = f"networks must hold GeneNetwork objects, got {type(network).__name__}{hint}."
                raise ValueError(msg)
            if network.name in self._networks:
                msg = f"networks holds two networks named {network.name!r}; names must differ."
                raise ValueError(msg)
            self._networks[network.name] = network
        self._provenance = check_provenance(provenance)

    @property
    def provenance(self) -> dict[str, Any]:
        """What holds for the set as a whole."""
        return self._provenance

    def __getitem__(self, name: str) -> GeneNetwork:
        try:
            return self._networks[name]
        except KeyError:
            msg = f"no network named {name!r}; the set has {', '.join(map(repr, self._networks)) or 'none'}"
            raise KeyError(msg) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._networks)

    def __len__(self) -> int:
        return len(self._networks)

    def compare(self, a: str, b: str) -> NetworkComparison:
        """Differential hubs and edges of two groups; see `grnlab.network.compare.compare`.

        Raises
        ------
        KeyError
            When a name is not in the set.
        ValueError
            When the two networks share no gene.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["A", "A"], "target": ["B", "C"], "weight": [2.0, 1.0]})
        >>> nets = NetworkSet(GeneNetwork.from_edges(edges.head(n), name=f"top {n}") for n in (1, 2))
        >>> nets.compare("top 1", "top 2").jaccard
        1.0
        """
        return _compare(self[a], self[b])

    def combine(self, *, min_support: float = 0.5, weight: str = "mean", name: str = "consensus") -> GeneNetwork:
        """Keep the edges that a share of the networks have: 0 is the union, 1 the intersection.

        Parameters
        ----------
        min_support, weight, name
            See `grnlab.network.combine.combine`.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"], "weight": [3.0, 1.0]})
        >>> one = GeneNetwork.from_edges(edges, name="one")
        >>> two = GeneNetwork.from_edges(edges.head(1), name="two")
        >>> NetworkSet([one, two]).combine(min_support=1).edges["n_networks"].tolist()
        [2]
        """
        return _combine(list(self.values()), min_support=min_support, weight=weight, name=name)

    def hubs(self, by: str = "pagerank", *, n: int | None = None, regulators_only: bool = False) -> pd.DataFrame:
        """List the hubs of every group in one long table: ``group``, ``gene`` and the columns of `GeneNetwork.hubs`.

        Parameters
        ----------
        by, n, regulators_only
            As in `GeneNetwork.hubs`; `n` is per group.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["A", "A"], "target": ["B", "C"], "weight": [2.0, 1.0]})
        >>> nets = NetworkSet(GeneNetwork.from_edges(edges.head(n), name=f"top {n}") for n in (1, 2))
        >>> nets.hubs(n=1)[["group", "gene"]].values.tolist()
        [['top 1', 'A'], ['top 2', 'A']]
        """

        def table(network: GeneNetwork) -> pd.DataFrame:
            hubs = network.hubs(by, n=n, regulators_only=regulators_only)
            return hubs.astype({"is_tf": "boolean"}).reset_index()

        return self._long(table)

    def community_table(self, *, resolution: float = 1.0, seed: int = 0) -> pd.DataFrame:
        """List the communities of every group in one long table: ``group``, ``gene``, ``community`` (-1: no edge)."""
        return self._long(
            lambda network: network.communities(resolution=resolution, seed=seed).membership.reset_index()
        )

    def match_communities(self, a: str, b: str, *, resolution: float = 1.0, seed: int = 0) -> pd.DataFrame:
        """Tell which community of group `a` became which of group `b`; see `grnlab.network.match_communities`.

        Parameters
        ----------
        a, b
            Names of two groups.
        resolution, seed
            As in `GeneNetwork.communities`.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["A", "A"], "target": ["B", "C"], "weight": [2.0, 1.0]})
        >>> nets = NetworkSet(GeneNetwork.from_edges(edges.head(n), name=f"top {n}") for n in (1, 2))
        >>> nets.match_communities("top 1", "top 2")[["a", "b", "jaccard"]].values.tolist()
        [[0, 0, 1.0]]
        """
        found = (self[name].communities(resolution=resolution, seed=seed) for name in (a, b))
        return match_communities(*found)

    def edge_table(self) -> pd.DataFrame:
        """List the edges of every group in one long table: ``group`` and the columns of `GeneNetwork.edges`.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["A", "A"], "target": ["B", "C"], "weight": [2.0, 1.0]})
        >>> nets = NetworkSet(GeneNetwork.from_edges(edges.head(n), name=f"top {n}") for n in (1, 2))
        >>> len(nets.edge_table())
        3
        """
        return self._long(lambda network: network.edges)

    def gene_table(self) -> pd.DataFrame:
        """List the genes of every group in one long table: ``group``, ``gene`` and those of `GeneNetwork.genes`."""
        return self._long(lambda network: network.genes.reset_index())

    def to_celloracle(self) -> dict[str, pd.DataFrame]:
        """Make a dictionary of tables as CellOracle's ``links.links_dict``: group → its edges.

        Columns ``source, target, coef_mean`` (weight times sign), ``coef_abs, p`` (``pvalue`` or missing), ``-logp``.
        """
        return {name: to_celloracle(network) for name, network in self.items()}

    @classmethod
    def from_celloracle(cls, tables: Mapping[str, pd.DataFrame], *, on_bad: str = "raise") -> "NetworkSet":
        """Make networks of ``links.links_dict`` or ``links.filtered_links``; weight is ``coef_abs``.

        Parameters
        ----------
        tables
            Group → table.
        on_bad
            As in `GeneNetwork.from_edges`.

        Examples
        --------
        >>> table = pd.DataFrame({"source": ["A"], "target": ["B"], "coef_mean": [-0.5], "p": [0.01]})
        >>> NetworkSet.from_celloracle({"T cell": table})["T cell"].edges.values.tolist()
        [['A', 'B', 0.5, -1, 0.01]]
        """
        return cls(
            GeneNetwork.from_edges(from_celloracle(table), name=name, on_bad=on_bad) for name, table in tables.items()
        )

    def summary(self) -> pd.DataFrame:
        """Describe each group in one row; the columns are those of `GeneNetwork.summary`.

        Examples
        --------
        >>> edges = pd.DataFrame({"source": ["A", "A"], "target": ["B", "C"], "weight": [2.0, 1.0]})
        >>> nets = NetworkSet(GeneNetwork.from_edges(edges.head(n), name=f"top {n}") for n in (1, 2))
        >>> nets.summary()["n_edges"].tolist()
        [1, 2]
        """
        return pd.DataFrame([network.summary() for network in self.values()])

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write all networks to one ``.grns`` file, whole or not at all; see `grnlab.network.files` for the format.

        Raises
        ------
        FileExistsError
            When `path` exists and `overwrite` is False.
        ValueError
            When `path` does not end in ``.grns``.
        """
        stored = [network.stored() for network in self.values()]
        return files.write_set(path, stored, self._provenance, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> "NetworkSet":
        """Read what `save` wrote; errors as in `GeneNetwork.load`."""
        stored, provenance = files.read_set(path)
        return cls((GeneNetwork.from_stored(parts, path=path) for parts in stored), provenance)

    def write_tables(self, directory: str | Path, *, overwrite: bool = False) -> Path:
        """Write plain tables for people and other programs: tab-separated, one header line, fields quoted if need be.

        ``summary.tsv``, ``edges.tsv``, ``genes.tsv``, ``hubs.tsv`` (sorted by PageRank within a group) and
        ``communities.tsv``; all but the first start with the column ``group``. `save` is the exact, reloadable form.

        Raises
        ------
        FileExistsError
            When `directory` exists and `overwrite` is False.
        """
        tables = {
            "summary": self.summary(),
            "edges": self.edge_table(),
            "genes": self.gene_table(),
            "hubs": self.hubs(),
            "communities": self.community_table(),
        }
        with atomic_directory(directory, overwrite=overwrite) as temporary:
            for name, table in tables.items():
                table.to_csv(temporary / f"{name}.tsv", sep="\t", index=False)
        return Path(directory)

    def equals(self, other: object) -> bool:
        """Tell whether both sets hold equal networks in the same order, and the same provenance."""
        return (
            isinstance(other, NetworkSet)
            and self._provenance == other._provenance
            and list(self) == list(other)
            and all(network.equals(other[name]) for name, network in self.items())
        )

    def __repr__(self) -> str:
        names = ", ".join(map(repr, list(self)[:5])) + (", ..." if len(self) > 5 else "")
        return f"NetworkSet({len(self)} network{'' if len(self) == 1 else 's'}{': ' if len(self) else ''}{names})"

    def _repr_html_(self) -> str:
        return f"<div><b>NetworkSet</b>{self.summary().to_html(border=0, index=False)}</div>"

    def _long(self, table_of: Callable[[GeneNetwork], pd.DataFrame]) -> pd.DataFrame:
        tables = []
        for name, network in self.items():
            table = table_of(network)
            group = pd.Series(name, index=table.index, dtype=object, name="group")
            tables.append(pd.concat([group, table], axis=1))
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"group": pd.Series(dtype=object)})
