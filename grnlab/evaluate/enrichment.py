"""Are the genes a network ranks high those of a set: hubs against transcription factors and cell-type markers.

The benchmark of scPRINT (doi:10.1038/s41467-025-58699-1) asks whether the central genes of a network are enriched in
transcription factors and in markers of its cell type, and whether the targets given to a factor are enriched in those
ENCODE saw bound. Here with the rank test of Mann and Whitney, so that no number hangs on permutations.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from grnlab.evaluate.universe import Universe

_COLUMNS = ("set", "size", "auroc", "pvalue", "padj")


def rank_enrichment(strength: pd.Series, sets: Mapping[str, Collection[str]], *, min_size: int = 5) -> pd.DataFrame:
    """Test whether the genes of a set have higher values than the other genes.

    Parameters
    ----------
    strength
        Value per gene (index): a centrality, an out-strength.
    sets
        Name → genes; genes without a value are left out.
    min_size
        Sets with fewer genes left, or fewer genes outside, are not tested.

    Returns
    -------
    A row per tested set, lowest p first: ``set, size, auroc`` (chance that a member is above another gene), ``pvalue``
    (one-sided Mann-Whitney), ``padj`` (Benjamini-Hochberg).

    Raises
    ------
    ValueError
        When a gene has two values or one is NaN.

    Examples
    --------
    >>> hubs = pd.Series({"SPI1": 9.0, "IRF8": 8.0, "LYZ": 2.0, "CD14": 1.0})
    >>> rank_enrichment(hubs, {"factors": ["SPI1", "IRF8", "GATA1"]}, min_size=2)["auroc"].tolist()
    [1.0]
    """
    from scipy.stats import mannwhitneyu

    if strength.index.has_duplicates or strength.isna().any():
        msg = "strength must hold one number per gene; it names a gene twice, or holds NaN."
        raise ValueError(msg)
    rows = []
    for name, genes in sets.items():
        inside = strength.index.isin(set(genes))
        if min(inside.sum(), (~inside).sum()) < min_size:
            continue
        test = mannwhitneyu(strength[inside], strength[~inside], alternative="greater")
        auroc = float(test.statistic) / (inside.sum() * (~inside).sum())
        rows.append((name, int(inside.sum()), auroc, float(test.pvalue)))
    table = pd.DataFrame(rows, columns=list(_COLUMNS[:-1]))
    table["padj"] = _benjamini_hochberg(table["pvalue"].to_numpy(float))
    return table.sort_values("pvalue", kind="stable", ignore_index=True)


def target_enrichment(universe: Universe, score_RT: np.ndarray, *, min_true: int = 5) -> pd.DataFrame:
    """Test each regulator's ranking of targets for its true ones.

    Parameters
    ----------
    universe
        Candidates and truth, for example of ENCODE.
    score_RT
        Strength of each regulator on each target.
    min_true
        Regulators with fewer true targets are not tested.

    Returns
    -------
    As :func:`rank_enrichment`, a row per regulator; the share of rows with ``padj < 0.05`` is the number scPRINT
    reports.
    """
    tables = []
    for row, regulator in enumerate(universe.regulators):
        inside = universe.candidate_RT[row]
        names = universe.targets[inside]
        strength = pd.Series(np.asarray(score_RT)[row, inside], index=names)
        true = names[universe.truth_RT[row, inside]]
        tables.append(rank_enrichment(strength, {universe.genes[regulator]: true}, min_size=min_true))
    found = [table for table in tables if len(table)]
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(_COLUMNS))
    table["padj"] = _benjamini_hochberg(table["pvalue"].to_numpy(float))
    return table.sort_values("pvalue", kind="stable", ignore_index=True)


def _benjamini_hochberg(pvalues: np.ndarray) -> np.ndarray:
    from scipy.stats import false_discovery_control

    return false_discovery_control(pvalues) if len(pvalues) else pvalues
