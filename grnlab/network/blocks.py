"""Networks of any mixture of blocks of cells, from queries and keys that were pooled once per block."""

from collections.abc import Callable

import numpy as np

from grnlab.attention import AttentionMaps, GroupMaps
from grnlab.heads import HeadSet
from grnlab.network.infer import Plan
from grnlab.network.network import GeneNetwork
from grnlab.network.rules import EdgeRules


def infer_from_blocks(
    maps: AttentionMaps, heads: HeadSet | None, rules: EdgeRules, *, name: str = "cells"
) -> Callable[[np.ndarray], GeneNetwork]:
    """Make the function that `permutation_test` and `bootstrap` call, its rows being the groups of `maps`.

    Sums of queries and keys are additive, so the network of some blocks is **exactly** that of their cells; the model
    never runs again.

    Parameters
    ----------
    maps
        Pooled attention whose groups are blocks of cells (of one donor, or random ones), with their expression.
    heads, rules
        As in :func:`grnlab.tl.infer_networks`.
    name
        Name of the networks.

    Raises
    ------
    ValueError
        As `infer_networks`.
    """
    plan = Plan(maps, heads, rules)
    blocks = list(maps.groups)
    provenance = {key: value for key, value in maps.provenance.items() if key not in ("groupby", "cells_per_group")}

    def infer(rows: np.ndarray) -> GeneNetwork:
        chosen, times = np.unique(rows, return_counts=True)
        names = [blocks[row] for row in chosen]
        total = _add([maps.group(block) for block in names], times, name)
        cells = np.array([maps.group(block).n_cells for block in names]) * times
        share = cells / cells.sum()
        expression = sum(maps.expression[block] * part for block, part in zip(names, share, strict=True))
        one = AttentionMaps(maps.genes, {name: total}, maps.spec, {name: expression}, provenance)
        return plan.network(one, name)

    return infer


def _add(groups: list[GroupMaps], times: np.ndarray, name: str) -> GroupMaps:
    q, k, count = groups[0].q_sum_LHGD * times[0], groups[0].k_sum_LHGD * times[0], groups[0].count_G * times[0]
    for group, factor in zip(groups[1:], times[1:], strict=True):
        q.add_(group.q_sum_LHGD, alpha=int(factor))
        k.add_(group.k_sum_LHGD, alpha=int(factor))
        count += group.count_G * int(factor)
    return GroupMaps(name, q, k, count, int(sum(g.n_cells * t for g, t in zip(groups, times, strict=True))))
