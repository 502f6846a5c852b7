"""How unusual is a score among pairs of genes that are expressed alike? z, p and false discovery rate of each edge.

Read-outs give much to genes that are expressed much and often, whoever they are paired with. So a score is compared
with those of pairs whose regulator and target have like expression; how, :mod:`grnlab.attention.null_statistics` says.

Without a null of its own, a class of such pairs is the null: most of them are no edges. With one, the same read-out of
cells whose genes were shuffled (:func:`shuffle_genes`), the test asks what the cells add to the genes: on the monocytes
of pbmc3k the built-in model's attention ranks pairs as it does on shuffled cells (Spearman 0.98) and no edge passes,
while against its own class 0.2 % do, with ten times as many p below 0.001 as chance would give. The first says that a
pretrained model mostly recalls; the second holds true edges and whatever the transform leaves of the tail, which only a
gold standard can tell apart.

False discovery rates are those of Benjamini and Hochberg over all pairs of a group.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import false_discovery_control

from grnlab.attention.null_statistics import against_null, against_own, pair_bins
from grnlab.attention.pair_scores import PairScores
from grnlab.data.counts import matrix_of
from grnlab.data.groups import cell_groups


@dataclass(frozen=True, eq=False)
class EdgeSignificance:
    """Scores with their z, p and false discovery rate, each of shape (R, T) per group; NaN where not observed.

    Attributes
    ----------
    scores
        What was tested.
    z, p, fdr
        Group name → float32 array.
    provenance
        How the null was made.
    """

    scores: PairScores
    z: Mapping[str, np.ndarray]
    p: Mapping[str, np.ndarray]
    fdr: Mapping[str, np.ndarray]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {int((q <= 0.05).sum()):,}" for name, q in self.fdr.items())
        return f"EdgeSignificance({self.scores.method!r}; edges of FDR 0.05: {found})"

    def table(self, group: str, *, max_fdr: float = 0.05) -> pd.DataFrame:
        """Edges of a group by increasing p: ``source, target, score, z, p, padj``.

        Parameters
        ----------
        group
            Name of the group.
        max_fdr
            Largest false discovery rate; 1 gives every observed pair.
        """
        scores = self.scores.group(group)
        row, column = np.nonzero(self.fdr[group] <= max_fdr)  # NaN is not
        names = self.scores.genes.index.to_numpy(dtype=object)
        table = pd.DataFrame(
            {
                "source": names[self.scores.regulators[row]],
                "target": names[self.scores.targets[column]],
                "score": scores[row, column],
                "z": self.z[group][row, column],
                "p": self.p[group][row, column],
                "padj": self.fdr[group][row, column],
            }
        )
        return table.sort_values(["p", "z"], ascending=[True, False], kind="stable", ignore_index=True)


def matched_null(
    scores: PairScores,
    expression: Mapping[str, pd.DataFrame] | None = None,
    *,
    null: PairScores | None = None,
    n_bins: int = 5,
) -> EdgeSignificance:
    """Test each pair against pairs of like expression; the formulas stand in :mod:`grnlab.attention.null_statistics`.

    Parameters
    ----------
    scores
        A read-out; of signed ones the strength is tested.
    expression
        Group → table by gene with ``mean_counts`` and ``fraction_expressed``, as in
        :class:`grnlab.attention.AttentionMaps`; by default that of `scores`.
    null
        The same read-out, genes and groups from shuffled cells.
    n_bins
        Bins by mean expression, each cut in two by detection; fewer where a bin would hold fewer than 4 genes, or a
        class fewer than 200 pairs.

    Returns
    -------
    z, p and false discovery rate of every observed pair. Memory: three float32 arrays as large as the scores.

    Raises
    ------
    ValueError
        When there is no expression of a group, genes are missing from it, or `null` is of other pairs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> genes = pd.DataFrame({"is_tf": True}, index=[f"G{number}" for number in range(60)])
    >>> level = np.sort(rng.random(60))
    >>> expression = pd.DataFrame({"mean_counts": level, "fraction_expressed": level}, index=genes.index)
    >>> values = np.exp(level + rng.normal(size=(60, 60)))
    >>> values[3, 40] = 900
    >>> scores = PairScores(genes, np.arange(60), np.arange(60), {"all": values}, {"all": 9}, method="attention")
    >>> found = matched_null(scores, {"all": expression}, n_bins=2)
    >>> found.table("all")[["source", "target"]].values.tolist()
    [['G3', 'G40']]
    """
    if n_bins < 1:
        msg = f"n_bins={n_bins} must be at least 1."
        raise ValueError(msg)
    if null is not None:
        _check_null(scores, null)
    tables = scores.expression if expression is None else expression
    z, p, fdr = {}, {}, {}
    for name in scores.groups:
        bins = _bins(scores, tables, name, n_bins)
        strength = scores.strength(name)
        if null is None:
            z[name], p[name] = against_own(strength, *bins)
        else:
            z[name], p[name] = against_null(strength, null.strength(name), *bins)
        seen = ~np.isnan(strength)
        fdr[name] = np.full(strength.shape, np.nan, dtype=np.float32)
        if seen.any():
            fdr[name][seen] = false_discovery_control(p[name][seen].astype(np.float64).clip(0, 1))
    made = {
        "n_bins": n_bins,
        "null": "pairs of like expression" if null is None else "pairs of like expression of shuffled cells",
        "scores": {"method": scores.method, **dict(scores.provenance)},
    }
    return EdgeSignificance(scores, z, p, fdr, made)


def shuffle_genes(
    adata: ad.AnnData, *, groupby: str | None = None, layer: str | None = None, seed: int = 0
) -> ad.AnnData:
    """Permute each gene among the cells of its group: means and detection stay, all that genes have in common goes.

    The read-out of such cells shows what a model gives to pairs by their genes and their expression alone, and is a
    `null` for :func:`matched_null`.

    Parameters
    ----------
    adata
        Counts; not changed.
    groupby
        Column of ``adata.obs``; genes move among cells of one value only. All cells by default.
    layer
        Layer that holds the counts; ``X`` by default.
    seed
        Of the permutations.

    Returns
    -------
    A new AnnData with the shuffled counts in ``X``, same names and ``obs``.

    Raises
    ------
    ValueError
        When there is no such column or layer.

    Examples
    --------
    >>> cells = ad.AnnData(np.array([[1.0, 0], [2, 0], [3, 5]]))
    >>> sorted(shuffle_genes(cells).X.toarray()[:, 0].tolist())
    [1.0, 2.0, 3.0]
    """
    counts = sp.csc_matrix(matrix_of(adata, layer), copy=True)
    rng = np.random.default_rng(seed)
    for rows in cell_groups(adata, groupby, min_cells=1, skip_small=False).values():
        inside = np.zeros(adata.n_obs, dtype=bool)
        inside[rows] = True
        for gene in range(adata.n_vars):
            span = slice(counts.indptr[gene], counts.indptr[gene + 1])
            mine = inside[counts.indices[span]]
            counts.indices[span][mine] = rng.choice(rows, int(mine.sum()), replace=False)
    counts.has_sorted_indices = False
    counts.sort_indices()
    return ad.AnnData(sp.csr_matrix(counts), obs=adata.obs.copy(), var=adata.var.copy())


def _check_null(scores: PairScores, null: PairScores) -> None:
    for role in ("regulators", "targets"):
        mine, theirs = (one.genes.index[getattr(one, role)] for one in (scores, null))
        if not mine.equals(theirs):
            msg = f"null has other {role} than scores ({len(theirs)}, not {len(mine)}); read out the same genes."
            raise ValueError(msg)
    if missing := [name for name in scores.groups if name not in null.groups]:
        msg = f"null lacks the groups {missing}; it has {list(null.groups)}."
        raise ValueError(msg)


def _bins(
    scores: PairScores, tables: Mapping[str, pd.DataFrame], group: str, n_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bin of each regulator and of each target."""
    if group not in tables:
        msg = f"there is no expression of group {group!r}; give expression, such as AttentionMaps.expression."
        raise ValueError(msg)
    table = tables[group]
    if missing := [name for name in ("mean_counts", "fraction_expressed") if name not in table]:
        msg = f"expression of group {group!r} lacks the columns {missing}; it has {list(table.columns)}."
        raise ValueError(msg)
    if not table.index.is_unique:
        msg = f"expression of group {group!r} names {table.index[table.index.duplicated()][0]!r} more than once."
        raise ValueError(msg)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for rows in (scores.regulators, scores.targets):
        names = scores.genes.index[rows]
        place = table.index.get_indexer(names)
        if (place < 0).any():
            lacking = names[place < 0]
            msg = f"expression of group {group!r} lacks {len(lacking)} genes, the first {lacking[0]!r}."
            raise ValueError(msg)
        part = table.iloc[place]
        found.append((part["mean_counts"].to_numpy(), part["fraction_expressed"].to_numpy()))
    return pair_bins(found[0], found[1], n_bins)
