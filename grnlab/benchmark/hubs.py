"""Whether the hubs of a network are transcription factors, and markers of the cell type it was made from.

As the paper of scPRINT asks (doi:10.1038/s41467-025-58699-1), on networks among all genes of a group: a hub is a gene
that many genes have among their strongest partners.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from grnlab._reading import read_separated
from grnlab.benchmark.methods import Method
from grnlab.benchmark.task import Task
from grnlab.evaluate import Universe, rank_enrichment, target_enrichment

MARKERS = "markers/PanglaoDB_markers_27_Mar_2020.tsv.gz"
FACTORS = "transcription factors"
_TYPES = {  # what names of groups of blood cells hold → the cell type of PanglaoDB
    r"Mono": "Monocytes",
    r"\bB\b": "B cells",
    r"\bNK\b": "NK cells",
    r"\bDC\b": "Dendritic cells",
    r"CD4|CD8|\bT\b": "T cells",
}


def read_markers(path: Path) -> dict[str, list[str]]:
    """Human marker genes of each cell type, from PanglaoDB's table.

    Parameters
    ----------
    path
        The table, tab-separated.
    """
    table = read_separated(path, separator="\t")
    if missing := [name for name in ("species", "cell type", "official gene symbol") if name not in table]:
        msg = f"{path} has no column {missing}; PanglaoDB's table is expected."
        raise ValueError(msg)
    human = table[table["species"].astype(str).str.contains("Hs")]
    return {str(name): sorted(set(part)) for name, part in human.groupby("cell type")["official gene symbol"]}


def cell_type_of(group: str) -> str | None:
    """Cell type of PanglaoDB that a group of blood cells is, None where none fits.

    Parameters
    ----------
    group
        Name of the group.

    Examples
    --------
    >>> cell_type_of("CD14+ Mono"), cell_type_of("Naive CD4 T"), cell_type_of("all cells")
    ('Monocytes', 'T cells', None)
    """
    return next((name for pattern, name in _TYPES.items() if re.search(pattern, group)), None)


def hub_strength(score_GG: np.ndarray, *, top_k: int = 10) -> np.ndarray:
    """Number of genes that have a gene among their `top_k` strongest partners, plus its mean rank to break ties.

    Parameters
    ----------
    score_GG
        Strength of each gene (row) on each gene (column); the diagonal is not read.
    top_k
        Partners counted per gene.

    Examples
    --------
    >>> hub_strength(np.array([[0.0, 5, 4], [1, 0, 3], [2, 1, 0]]), top_k=1).astype(int).tolist()
    [2, 0, 1]
    """
    score_GG = np.nan_to_num(np.array(score_GG, dtype=np.float64), nan=-np.inf)
    np.fill_diagonal(score_GG, -np.inf)
    n_genes = len(score_GG)
    top_k = min(top_k, n_genes - 1)
    best = np.argpartition(-score_GG, top_k - 1, axis=0)[:top_k]
    counts = np.bincount(best.ravel(), minlength=n_genes).astype(np.float64)
    level = np.unique(score_GG, return_inverse=True)[1].reshape(score_GG.shape)
    return counts + level.mean(axis=1) / (level.max() + 1)


def hub_rows(
    task: Task,
    methods: Iterable[Method],
    *,
    factors: Collection[str],
    markers: Mapping[str, Collection[str]],
    bound: Universe | None = None,
) -> list[dict[str, Any]]:
    """Enrichment of the hubs of each method's network, one row per method.

    Parameters
    ----------
    task
        Group of cells.
    methods
        Those that can score all pairs of genes.
    factors, markers
        Transcription factors; cell type → marker genes.
    bound
        Universe of ENCODE, whose targets should rank high among those of each factor.

    Returns
    -------
    Columns ``tf_auroc, tf_padj`` and, of the cell type of the group, ``marker_type, marker_auroc, marker_padj`` (among
    all cell types tested) and ``marker_place`` (1: no cell type is more enriched); ``encode_share``, the share of
    factors whose targets in ENCODE rank high (false discovery rate 5 %).
    """
    every = np.arange(len(task.genes))
    square, right, rows = replace(task, regulators=every, targets=every), cell_type_of(task.group), []
    for method in methods:
        scores = method.score(square)
        strength = pd.Series(hub_strength(scores), index=list(task.genes))
        row: dict[str, Any] = {"dataset": task.dataset, "group": task.group, "method": method.name}
        of_factors = rank_enrichment(strength, {FACTORS: factors}).reindex([0]).iloc[0]  # NaN: too few to test
        row |= {"n_genes": len(task.genes), "tf_auroc": of_factors["auroc"], "tf_padj": of_factors["padj"]}
        row["marker_type"] = right
        found = rank_enrichment(strength, markers)
        place = found.index[found["set"] == right]
        if len(place):
            own = found.loc[place[0]]
            row |= {"marker_auroc": own["auroc"], "marker_padj": own["padj"], "marker_place": int(place[0]) + 1}
            row["n_types"] = len(found)
        if bound is not None:
            targets = target_enrichment(bound, np.asarray(scores)[np.ix_(bound.regulators, bound.targets)])
            row["encode_share"] = float((targets["padj"] < 0.05).mean())
        rows.append(row)
    return rows


def hub_table(hubs: pd.DataFrame) -> pd.DataFrame:
    """One row per method: means over groups of cells.

    Parameters
    ----------
    hubs
        Rows of :func:`hub_rows`.
    """
    marked = hubs[hubs["marker_auroc"].notna()] if "marker_auroc" in hubs else hubs.iloc[:0]
    table = pd.DataFrame(
        {
            "groups": hubs.groupby("method").size(),
            "TF AUROC": hubs.groupby("method")["tf_auroc"].mean(),
            "TFs enriched": hubs.assign(hit=hubs["tf_padj"] < 0.05).groupby("method")["hit"].mean(),
            "marker AUROC": marked.groupby("method")["marker_auroc"].mean(),
            "own markers enriched": marked.assign(hit=marked["marker_padj"] < 0.05).groupby("method")["hit"].mean(),
            "own type first": marked.assign(hit=marked["marker_place"] == 1).groupby("method")["hit"].mean(),
            "ENCODE factors": hubs.groupby("method")["encode_share"].mean() if "encode_share" in hubs else np.nan,
        }
    )
    return table.sort_values("marker AUROC", ascending=False).reset_index(names="method")
