"""From attention maps to one network per group of cells."""

import logging
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd

from grnlab._progress import progress
from grnlab._provenance import versions
from grnlab.attention import AttentionMaps, PairScores
from grnlab.attention.prepare import MIN_CELLS_PER_GENE, expressed_enough
from grnlab.heads import HeadSet
from grnlab.network.infer_scores import networks_from_scores
from grnlab.network.network import GeneNetwork
from grnlab.network.networks import NetworkSet
from grnlab.network.rules import EdgeRules

logger = logging.getLogger(__name__)
_NORMALISATION = {
    "softmax": "softmax over the network's genes; special tokens excluded before it",
    "kernel": "shares of a kernel (no softmax) over the network's genes; special tokens excluded before it",
    "two_hop": "shares of two hops (no softmax) over the network's genes; special tokens excluded before it",
}


def infer_networks(
    maps: AttentionMaps | PairScores,
    heads: HeadSet | None = None,
    *,
    top_k: int = 10,
    per: str = "target",
    regulators: str | Collection[str] = "tf",
    symmetrize: bool | None = None,
    apc: bool = False,
    min_fraction: float = 0.02,
) -> NetworkSet:
    """Build a network of each group from the strongest attention among its genes, or the scores of a read-out.

    An edge runs from the regulator (key gene) to the target (query gene): a target's row of attention is what it
    listens to. Rows are normalised over the genes of the network only; special tokens have no part in it. The weight of
    an edge is the mean attention of the chosen heads times the number of genes, so 1 is what an indifferent gene
    would give to each.

    Scores of a read-out (:func:`grnlab.tl.read_out`) are taken as they are: the weight is their strength, and those
    that have a sign give the edges a column ``sign``.

    Parameters
    ----------
    maps
        Pooled attention, or scores of a read-out.
    heads
        Which heads, see :class:`grnlab.heads.HeadSet`; the mean over all by default. Not for scores.
    top_k
        Edges kept per gene.
    per
        ``"target"``: each gene's strongest regulators; ``"regulator"``: each regulator's strongest targets.
    regulators
        ``"tf"``, the transcription factors of the vocabulary; ``"all"``; or gene names.
    symmetrize
        Average a map with its transpose first, the default for attention. On simulated networks this finds more true
        edges than the directed map; the direction of an edge then comes from the list of regulators. Scores are
        symmetrised when it is True, for which they need the same genes as regulators and targets.
    apc
        Average product correction. Weights may then be negative; only positive ones become edges. Scores lose their
        sign by it.
    min_fraction
        Genes expressed in a smaller share of the group's cells, or in fewer than five of them, are left out of its
        network before rows are normalised: the mean over one or two cells is noise that can look like a hub.

    Returns
    -------
    One :class:`GeneNetwork` per group, in the order of the maps.

    Raises
    ------
    ValueError
        When `maps` are neither, `per` or `regulators` is unknown, `top_k` is no whole number of at least 1, a group
        keeps fewer than two genes, or `heads` are given for scores.

    References
    ----------
    Averaged queries and keys: Kalfon et al. 2025, doi:10.1038/s41467-025-58699-1. Symmetrising and APC of attention:
    Rao et al. 2020, doi:10.1101/2020.12.15.422761.
    """
    if not isinstance(maps, AttentionMaps | PairScores):
        msg = (
            f"maps is a {type(maps).__name__}; expected attention maps (grnlab.tl.attention) or scores of a read-out "
            "(grnlab.tl.read_out)."
        )
        raise ValueError(msg)
    rules = EdgeRules(top_k, per, regulators, symmetrize, apc, min_fraction)
    if isinstance(maps, PairScores):
        if heads is not None:
            msg = "heads choose among attention maps; scores of a read-out have none left. Leave heads out."
            raise ValueError(msg)
        return networks_from_scores(maps, rules)
    plan = Plan(maps, heads, rules)
    networks = [plan.network(maps, group) for group in progress(maps.groups, desc="networks", unit="group")]
    return NetworkSet(networks, provenance={**maps.provenance, **plan.settings})


class Plan:
    """Rules and heads made ready once, for one group of maps after another."""

    def __init__(self, maps: AttentionMaps, heads: HeadSet | None, rules: EdgeRules) -> None:
        if not isinstance(heads, HeadSet | None):
            msg = (
                f"heads is {heads!r:.80}; expected a HeadSet, for example grnlab.HeadSet.of(maps.spec, [(layer, head), "
                "...]) or the heads that grnlab.tl.select_heads chose (.heads)."
            )
            raise ValueError(msg)
        self._rules = replace(rules, symmetrize=rules.symmetrize is not False)
        self._heads = heads or HeadSet.mean(maps.spec)
        self._allowed = rules.allowed(maps.genes)
        self.settings = {
            "heads": self._heads.to_dict(),
            **self._rules.to_dict(),
            "normalisation": _NORMALISATION[maps.spec.kind],
            "weight": "mean attention × number of genes",
            "kernel_path": maps.kernel_path,
            "versions": versions(),
        }

    def network(self, maps: AttentionMaps, group: str) -> GeneNetwork:
        """Infer the network of one group of maps, which have the genes and heads of those of the plan."""
        rules = self._rules
        rows = _expressed(maps, group, rules.min_fraction)
        partner, value = maps.topk(
            group,
            # per regulator, a gene that may not regulate is dropped afterwards
            rules.top_k,
            self._heads.weights_LH,
            rows=rows,
            candidates=np.intersect1d(rows, self._allowed) if rules.per == "target" else None,
            per="query" if rules.per == "target" else "key",
            symmetrize=bool(rules.symmetrize),
            apc=rules.apc,
        )
        edges = _edge_table(maps.genes.index, rows, partner, value, per=rules.per, allowed=self._allowed)
        genes = maps.genes.iloc[rows].drop(columns="token")
        if group in maps.expression:
            genes = genes.join(maps.expression[group])
        provenance = {**maps.provenance, **self.settings, "n_cells": maps.group(group).n_cells, "n_genes": len(rows)}
        if len(edges) == 0:
            logger.warning("the network of %s has no edge: none of its genes may regulate", group)
        return GeneNetwork(edges, genes, name=group, provenance=provenance)


def _expressed(maps: AttentionMaps, group: str, min_fraction: float) -> np.ndarray:
    seen = maps.group(group).count_G.numpy() > 0
    if group in maps.expression:
        seen &= expressed_enough(maps.expression[group], maps.group(group).n_cells, min_fraction)
    rows = np.flatnonzero(seen)
    if len(rows) < 2:
        msg = (
            f"group {group!r} keeps {len(rows)} genes expressed in {min_fraction:.0%} and in {MIN_CELLS_PER_GENE} of "
            "its cells; lower min_fraction, show more genes, or leave the group out."
        )
        raise ValueError(msg)
    return rows


def _edge_table(
    names: pd.Index, rows: np.ndarray, partner: np.ndarray, value: np.ndarray, *, per: str, allowed: np.ndarray
) -> pd.DataFrame:
    gene = np.repeat(rows, partner.shape[1])
    other, weight = partner.ravel(), value.ravel().astype(np.float64) * len(rows)
    regulator, target = (other, gene) if per == "target" else (gene, other)
    keep = (other >= 0) & (weight > 0) & np.isin(regulator, allowed)
    return pd.DataFrame({"source": names[regulator[keep]], "target": names[target[keep]], "weight": weight[keep]})
