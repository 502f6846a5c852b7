"""More on communities: how stable they are, how they nest, how those of two networks match."""

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from grnlab.network.communities import ISOLATED, Communities, Search, check_resolution, communities, describe
from grnlab.network.hubs import check_count, undirected
from grnlab.network.partition import multiplex

if TYPE_CHECKING:
    from grnlab.network.network import GeneNetwork

RESOLUTIONS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)


def resolution_sweep(
    network: "GeneNetwork",
    resolutions: Sequence[float] = RESOLUTIONS,
    *,
    n_seeds: int = 10,
    method: str = "leiden",
    seed: int = 0,
) -> pd.DataFrame:
    """Search communities at several resolutions from several seeds: where different seeds agree, they are stable.

    Parameters
    ----------
    network
        The network.
    resolutions
        Resolutions to try, as in `grnlab.network.communities.communities`.
    n_seeds
        Searches per resolution, at least 2; seeds count up from `seed`.
    method, seed
        As in `communities`.

    Returns
    -------
    Per resolution: ``n_communities`` (median over seeds), ``modularity`` (best over seeds, weighted, resolution 1),
    ``ari`` and ``nmi`` (mean agreement of pairs of seeds over the genes with an edge: adjusted Rand index, normalised
    mutual information; 1 is the same every time; NaN without edges). One community for all genes agrees by itself.

    Raises
    ------
    ValueError
        When a number is out of range.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> edges = pd.DataFrame({"source": ["A", "C"], "target": ["B", "D"], "weight": [1.0, 1.0]})
    >>> resolution_sweep(GeneNetwork.from_edges(edges, name="two pairs"), [1.0])["ari"].tolist()
    [1.0]
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    check_count(n_seeds, argument="n_seeds")
    if n_seeds < 2:
        msg = f"n_seeds must be at least 2, got {n_seeds}; agreement needs two searches."
        raise ValueError(msg)
    rows, search = [], Search(network, method=method)
    for resolution in resolutions:
        found = [search.run(resolution=resolution, seed=seed + i) for i in range(n_seeds)]
        members = [one.membership[one.membership != ISOLATED].to_numpy() for one in found]
        pairs = list(combinations(members, 2)) if len(members[0]) else []
        rows.append(
            {
                "resolution": float(resolution),
                "n_communities": float(np.median([len(one) for one in found])),
                "modularity": max(one.quality for one in found),
                "ari": _mean([adjusted_rand_score(a, b) for a, b in pairs]),
                "nmi": _mean([normalized_mutual_info_score(a, b) for a, b in pairs]),
            }
        )
    return pd.DataFrame(rows, columns=["resolution", "n_communities", "modularity", "ari", "nmi"])


def nested_communities(
    network: "GeneNetwork", *, levels: int = 3, min_genes: int = 10, resolution: float = 1.0, seed: int = 0
) -> pd.DataFrame:
    """Split communities again and again: a hierarchy, every level a refinement of the one above.

    A community is split by Leiden on the edges inside it; it stays whole when it has fewer than `min_genes` genes, or
    the split has no more modularity than none at all.

    Parameters
    ----------
    network
        The network.
    levels
        Depth of the hierarchy, at least 1.
    min_genes
        Communities of fewer genes are not split.
    resolution, seed
        As in `grnlab.network.communities.communities`, at every level.

    Returns
    -------
    Indexed by gene: ``level_1``, ``level_2``, …, each the path of a community, such as ``"0"`` and ``"0.2"``; missing
    for genes without an edge.

    Raises
    ------
    ValueError
        When a number is out of range.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> edges = pd.DataFrame({"source": ["A", "C"], "target": ["B", "D"], "weight": [1.0, 1.0]})
    >>> nested_communities(GeneNetwork.from_edges(edges, name="two pairs"), levels=1)["level_1"].tolist()
    ['0', '0', '1', '1']
    """
    check_count(levels, argument="levels")
    check_count(min_genes, argument="min_genes")
    if levels < 1:
        msg = f"levels must be at least 1, got {levels}."
        raise ValueError(msg)
    first = communities(network, resolution=resolution, seed=seed)
    paths = first.membership.astype(object).map(str).where(first.membership != ISOLATED, None)
    table = {"level_1": paths}
    for level in range(2, levels + 1):
        finer = paths.copy()
        for path, genes in paths.groupby(paths, sort=True).groups.items():
            if len(genes) < max(min_genes, 3):
                continue
            inner = communities(network.subset(genes), resolution=resolution, seed=seed)
            if len(inner) > 1 and inner.quality > 1e-9:
                split = inner.membership[genes]
                # a gene whose edges all lie outside stays with the community above
                finer[genes] = [f"{path}.{part}" if part != ISOLATED else path for part in split]
        table[f"level_{level}"] = paths = finer
    return pd.DataFrame(table)


def match_communities(a: Communities, b: Communities) -> pd.DataFrame:
    """Find which community of `a` became which of `b`: the pairing with the largest sum of Jaccard indices.

    Only genes that both know and that have an edge in both are compared.

    Returns
    -------
    ``a``, ``b`` (community numbers, missing where one has no partner), ``jaccard``, ``overlap`` (genes in both),
    ``n_a``, ``n_b`` (genes compared); matched pairs first, by Jaccard index. Pairs without a common gene are no match.

    References
    ----------
    Kuhn (1955), the Hungarian method.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> edges = pd.DataFrame({"source": ["A", "C"], "target": ["B", "D"], "weight": [1.0, 1.0]})
    >>> found = GeneNetwork.from_edges(edges, name="two pairs").communities()
    >>> match_communities(found, found)[["a", "b", "jaccard"]].values.tolist()
    [[0, 0, 1.0], [1, 1, 1.0]]
    """
    from scipy.optimize import linear_sum_assignment

    common = a.membership.index.intersection(b.membership.index)
    first, second = a.membership[common].to_numpy(), b.membership[common].to_numpy()
    both = (first != ISOLATED) & (second != ISOLATED)
    counts = np.zeros((len(a), len(b)), dtype=np.int64)
    np.add.at(counts, (first[both], second[both]), 1)
    n_a, n_b = counts.sum(axis=1), counts.sum(axis=0)
    union = n_a[:, None] + n_b[None, :] - counts
    jaccard = np.divide(counts, union, out=np.zeros(counts.shape), where=union > 0)
    rows, columns = linear_sum_assignment(-jaccard)
    matched = [(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if counts[i, j] > 0]
    matched.sort(key=lambda pair: (-jaccard[pair], pair))
    records: list[tuple] = [(i, j, jaccard[i, j], counts[i, j], n_a[i], n_b[j]) for i, j in matched]
    records += [(i, pd.NA, 0.0, 0, n_a[i], 0) for i in range(len(a)) if i not in {i for i, _ in matched}]
    records += [(pd.NA, j, 0.0, 0, 0, n_b[j]) for j in range(len(b)) if j not in {j for _, j in matched}]
    table = pd.DataFrame(records, columns=["a", "b", "jaccard", "overlap", "n_a", "n_b"])
    whole = {"a": "Int64", "b": "Int64", "overlap": "int64", "n_a": "int64", "n_b": "int64", "jaccard": "float64"}
    return table.astype(whole)


def joint_communities(networks: Sequence["GeneNetwork"], *, resolution: float = 1.0, seed: int = 0) -> Communities:
    """Find communities that hold in several networks at once: multiplex Leiden, every network counting alike.

    Genes are those of any network; strengths, measures and quality (the weighted modularity) are those of the networks
    laid over each other, each scaled to the same total weight.

    Parameters
    ----------
    networks
        At least one.
    resolution, seed
        As in `grnlab.network.communities.communities`.

    Raises
    ------
    ValueError
        When there is no network or `resolution` is not positive.

    References
    ----------
    Mucha et al. (2010), doi:10.1126/science.1184819.

    Examples
    --------
    >>> from grnlab.network import GeneNetwork
    >>> one = GeneNetwork.from_edges(pd.DataFrame({"source": ["A"], "target": ["B"], "weight": [1.0]}), name="one")
    >>> two = GeneNetwork.from_edges(pd.DataFrame({"source": ["C"], "target": ["D"], "weight": [9.0]}), name="two")
    >>> joint_communities([one, two]).membership.tolist()
    [0, 0, 1, 1]
    """
    import igraph as ig

    check_resolution(resolution)
    if not networks:
        msg = "networks is empty; give at least one."
        raise ValueError(msg)
    names = pd.Index(list(dict.fromkeys(name for network in networks for name in network.genes.index)), name="gene")
    layers = []
    for network in networks:
        source, target = (names.get_indexer(network.edges[end]) for end in ("source", "target"))
        weight = np.maximum(network.edges["weight"].to_numpy(), 0.0)
        if weight.sum() > 0:
            layers.append(undirected(source, target, weight / weight.sum(), len(names)))
    member = np.full(len(names), ISOLATED, dtype=np.int64)
    low = high = np.zeros(0, dtype=np.int64)
    total = np.zeros(0)
    quality = float("nan")
    if layers:
        ones, others, weights = (np.concatenate(part) for part in zip(*layers, strict=True))
        low, high, total = undirected(ones, others, weights, len(names))
        linked = np.unique(np.concatenate([low, high]))
        place = [(np.searchsorted(linked, np.column_stack([one, two])), weight) for one, two, weight in layers]
        member[linked] = multiplex(place, len(linked), resolution=resolution, seed=seed)
        graph = ig.Graph(n=len(linked), edges=np.searchsorted(linked, np.column_stack([low, high])))
        quality = float(graph.modularity(member[linked].tolist(), weights=total.tolist()))
    return describe(
        member, (low, high, total), names, quality, method="multiplex leiden", resolution=resolution, seed=seed
    )


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
