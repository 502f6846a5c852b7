"""One network from several: union, intersection, consensus."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork

WEIGHTS = ("mean", "max", "rank")


def combine(
    networks: Sequence["GeneNetwork"], *, min_support: float = 0.5, weight: str = "mean", name: str = "consensus"
) -> "GeneNetwork":
    """Keep the edges that a share of the networks have.

    Parameters
    ----------
    networks
        At least one; gene names must be of the same kind.
    min_support
        Smallest share of the networks that must have an edge. 0 gives the union, 1 the intersection.
    weight
        ``"mean"`` or ``"max"`` over the networks that have the edge. ``"rank"``: mean over *all* networks of
        ``1 - (rank - 1) / n_edges`` with 0 where the edge is absent (Borda count), for networks whose weights are not
        on one scale; equal weights share their mean rank.
    name
        Name of the result.

    Returns
    -------
    A network of all genes of the networks (of the genes they share when `min_support` is 1). Edges have the columns
    ``n_networks`` and ``support`` (share of the networks), and ``sign`` when every network has it: the sign on which
    all that have the edge agree, else 0. Text and truth columns of the gene tables that all networks have are kept,
    from the first network that has the gene.

    Raises
    ------
    ValueError
        When there is no network, `min_support` is not a share, or `weight` is unknown.

    References
    ----------
    Marbach et al. (2012), doi:10.1038/nmeth.2016: consensus by mean ranks.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> both = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"], "weight": [3.0, 1.0]})
    >>> one, two = GeneNetwork.from_edges(both, name="one"), GeneNetwork.from_edges(both.head(1), name="two")
    >>> combine([one, two], min_support=1.0).edges["target"].tolist()
    ['B']
    """
    from grnlab.network.network import GeneNetwork

    networks = list(networks)
    if not networks:
        msg = "networks is empty; give at least one."
        raise ValueError(msg)
    if not 0 <= min_support <= 1:
        msg = f"min_support must be a share from 0 (union) to 1 (intersection), got {min_support!r}."
        raise ValueError(msg)
    if weight not in WEIGHTS:
        msg = f"weight must be one of {', '.join(WEIGHTS)}, got {weight!r}."
        raise ValueError(msg)
    genes = _gene_table(networks, shared=min_support == 1)
    edges = _edge_table(networks, weight)
    edges["support"] = edges["n_networks"] / len(networks)
    edges = edges[edges["support"] >= min_support - 1e-12]
    provenance = {"networks": [network.name for network in networks], "min_support": min_support, "weight": weight}
    return GeneNetwork(edges, genes, name=name, provenance=provenance)


def _edge_table(networks: list["GeneNetwork"], weight: str) -> pd.DataFrame:
    signed = all("sign" in network.edges.columns for network in networks)
    tables = []
    for network in networks:
        table = network.edges[["source", "target", "weight", *(["sign"] if signed else [])]]
        if weight == "rank":
            rank = table["weight"].rank(ascending=False)
            table = table.assign(weight=1 - (rank - 1) / max(len(table), 1))
        tables.append(table)
    every = pd.concat(tables, ignore_index=True)
    how = {"n_networks": ("weight", "size"), "weight": ("weight", "sum" if weight == "rank" else weight)}
    if signed:
        how |= {"lowest": ("sign", "min"), "sign": ("sign", "max")}
    edges = every.groupby(["source", "target"], sort=False).agg(**how).reset_index()
    if weight == "rank":
        edges["weight"] /= len(networks)
    if signed:
        edges["sign"] = np.where(edges["lowest"] == edges["sign"], edges["sign"], 0)
        edges = edges.drop(columns="lowest")
    return edges


def _gene_table(networks: list["GeneNetwork"], *, shared: bool) -> pd.DataFrame:
    columns = [
        column
        for column in networks[0].genes.columns
        if all(column in network.genes and network.genes[column].dtype in (object, bool) for network in networks)
    ]
    table = pd.concat([network.genes[columns] for network in networks])
    table = table[~table.index.duplicated()]
    if shared:
        kept = np.logical_and.reduce([table.index.isin(network.genes.index) for network in networks])
        table = table[kept]
    return table
