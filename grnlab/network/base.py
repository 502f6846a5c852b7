"""What a network is: two checked tables, a name and a provenance."""

import json
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd

from grnlab.network.tables import check_edges, check_genes, check_known, edge_positions

DIRECTION = "source=regulator=key, target=query"


class NetworkTables:
    """The edge table and the gene table, checked once; `GeneNetwork` adds the questions one asks of them."""

    __slots__ = ("_edges", "_genes", "_name", "_provenance")

    def __init__(
        self, edges: pd.DataFrame, genes: pd.DataFrame, *, name: str, provenance: Mapping[str, Any] | None = None
    ) -> None:
        self._genes = check_genes(genes)
        self._edges = check_edges(edges, self._genes)
        self._name = check_name(name)
        given = check_provenance(provenance)
        if given.setdefault("direction", DIRECTION) != DIRECTION:
            msg = (
                f"provenance['direction'] is {given['direction']!r}, but a network is always {DIRECTION!r}; swap "
                "source and target, or drop the entry."
            )
            raise ValueError(msg)
        self._provenance = given

    @property
    def edges(self) -> pd.DataFrame:
        """The edge table."""
        return self._edges

    @property
    def genes(self) -> pd.DataFrame:
        """The gene table: the universe."""
        return self._genes

    @property
    def name(self) -> str:
        """Cell type or group."""
        return self._name

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the network comes from."""
        return self._provenance

    def edge_positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Find the positions of the edges' sources and targets in `genes`, two int64 arrays of shape (n_edges,)."""
        return edge_positions(self._edges, self._genes)

    def equals(self, other: object) -> bool:
        """Tell whether name, provenance and both tables (values, order and types) are the same."""
        return (
            isinstance(other, NetworkTables)
            and (self._name, self._provenance) == (other._name, other._provenance)
            and self._edges.equals(other._edges)
            and self._genes.equals(other._genes)
        )

    def renamed(self, name: str) -> Self:
        """Give the same network another name.

        Examples
        --------
        >>> from grnlab.network import GeneNetwork
        >>> edges = pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [1.0]})
        >>> GeneNetwork.from_edges(edges, name="one").renamed("other").name
        'other'
        """
        network = self._like(self._edges, self._genes)
        network._name = check_name(name)
        return network

    def _check_gene(self, gene: str) -> None:
        check_known([gene], self._genes.index, argument="gene", where=f"network {self._name!r}")

    def _like(self, edges: pd.DataFrame, genes: pd.DataFrame) -> Self:
        """Make a network of rows of these tables, which are checked and ordered already."""
        network = object.__new__(type(self))
        network._edges, network._genes = edges.reset_index(drop=True), genes.copy()
        network._name, network._provenance = self._name, check_provenance(self._provenance)
        return network

    def _with_edge_columns(self, columns: Mapping[str, Any]) -> Self:
        """Make a network whose edges have these columns besides their own; a column of the same name is replaced."""
        edges = self._edges.assign(**columns)
        return type(self)(edges, self._genes, name=self._name, provenance=self._provenance)


def check_name(name: str) -> str:
    """Refuse names that are not non-empty text."""
    if not isinstance(name, str) or not name.strip():
        msg = f"name must be the cell type or group as non-empty text, got {name!r}."
        raise ValueError(msg)
    return name


def check_provenance(provenance: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a deep copy as JSON would give it back, so that a saved network equals the one in memory."""
    try:
        return dict(json.loads(json.dumps(dict(provenance or {}), allow_nan=False)))
    except (TypeError, ValueError) as error:
        msg = f"provenance must hold only what JSON can hold (text, numbers, lists, dictionaries, None): {error}."
        raise ValueError(msg) from error
