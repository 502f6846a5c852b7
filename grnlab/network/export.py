"""Networks as objects of other programs: networkx, igraph, decoupler tables, regulons."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from grnlab.network.hubs import check_count

if TYPE_CHECKING:
    from grnlab.network.base import NetworkTables


def to_networkx(network: "NetworkTables") -> Any:
    """Make a ``networkx.DiGraph`` of every gene, regulator → target, with all columns as attributes."""
    import networkx as nx

    graph = nx.DiGraph(name=network.name)
    graph.add_nodes_from((gene, attributes) for gene, attributes in network.genes.to_dict(orient="index").items())
    attributes = network.edges.drop(columns=["source", "target"]).to_dict(orient="records")
    graph.add_edges_from(zip(network.edges["source"], network.edges["target"], attributes, strict=True))
    return graph


def to_igraph(network: "NetworkTables") -> Any:
    """Make a directed ``igraph.Graph`` of every gene, regulator → target; all columns become attributes.

    The vertex attribute ``name`` is the gene; a column called ``name`` gives way to it.
    """
    import igraph as ig

    graph = ig.Graph(n=len(network.genes), edges=np.column_stack(network.edge_positions()), directed=True)
    graph["name"] = network.name
    for column in network.genes.columns:
        graph.vs[column] = network.genes[column].tolist()
    graph.vs["name"] = network.genes.index.tolist()
    for column in network.edges.columns.drop(["source", "target"]):
        graph.es[column] = network.edges[column].tolist()
    return graph


def to_decoupler(network: "NetworkTables") -> pd.DataFrame:
    """Make the table decoupler takes as ``net``: ``source, target, weight``, weight times ``sign`` if given."""
    table = network.edges[["source", "target", "weight"]].copy()
    if "sign" in network.edges.columns:
        table["weight"] = table["weight"] * network.edges["sign"]
    return table


def to_regulons(
    network: "NetworkTables", *, min_targets: int = 1, regulators_only: bool = False
) -> dict[str, dict[str, float]]:
    """Make SCENIC-style regulons: regulator → {target: weight}, strongest target first, larger regulons first.

    With a ``sign`` column activated and repressed targets are kept apart as ``"SPI1(+)"`` and ``"SPI1(-)"``, and
    targets of unknown sign stay under the plain name; without one every regulon has the plain name.

    Parameters
    ----------
    network
        The network.
    min_targets
        Leave out smaller regulons.
    regulators_only
        Keep regulators with ``is_tf`` only.

    Raises
    ------
    ValueError
        When `min_targets` is negative, or `regulators_only` is asked without ``is_tf`` in the gene table.
    """
    check_count(min_targets, argument="min_targets")
    edges = network.edges
    if regulators_only:
        if "is_tf" not in network.genes.columns:
            msg = f"regulators_only=True needs the column is_tf in the gene table of {network.name!r}; add it."
            raise ValueError(msg)
        edges = edges[network.genes["is_tf"].loc[edges["source"]].to_numpy()]
    names = edges["source"]
    if "sign" in edges.columns:
        names = names + edges["sign"].map({1: "(+)", -1: "(-)", 0: ""})
    regulons: dict[str, dict[str, float]] = {}
    for regulator, target, weight in zip(names, edges["target"], edges["weight"], strict=True):
        regulons.setdefault(regulator, {})[target] = weight
    kept = ((name, targets) for name, targets in regulons.items() if len(targets) >= min_targets)
    return dict(sorted(kept, key=lambda item: (-len(item[1]), item[0])))
