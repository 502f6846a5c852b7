"""Markers of a group, before and after denoising, side by side."""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import false_discovery_control, mannwhitneyu

from grnlab.data.counts import counts_of
from grnlab.data.groups import cell_groups

_GENES_PER_BLOCK = 512
_TARGET = 1e4


def differential(
    adata: ad.AnnData,
    groupby: str,
    group: str,
    *,
    reference: str = "rest",
    denoised: str = "denoised",
    layer: str | None = None,
) -> pd.DataFrame:
    """Compare a group of cells, a rare one above all, with others: in the counts and in the denoised layer.

    Both are scaled to 10,000 per cell. Only the counts give p-values (rank sum test, Benjamini-Hochberg):
    denoising lends cells what it knows of each other and of other data, so a test on denoised values would call nearly
    everything significant. Compare the ranks; a gene that rises by denoising is a candidate, not a finding.

    Parameters
    ----------
    adata
        Cells with counts and the layer :func:`denoise` wrote.
    groupby
        Column of ``obs``.
    group
        Its value to look at.
    reference
        Value to compare with; ``"rest"``: all other cells.
    denoised
        Layer of denoised expression.
    layer
        Layer that holds the counts; ``X`` by default.

    Returns
    -------
    One row per gene, the best after denoising first: ``auroc_before``, ``log2fc_before``, ``p_before``,
    ``padj_before``, ``rank_before``, ``auroc_after``, ``log2fc_after`` (of means), ``rank_after``, ``denoised`` (False:
    the model does not know the gene). Also kept in ``adata.uns["differential"][<group>]``, a ``/`` in the name of the
    group being a ``|`` there.

    Raises
    ------
    ValueError
        When a column, group or layer is not there, a group has fewer than two cells, or `adata` holds no counts.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:60].copy()
    >>> gl.tl.denoise(adata, gl.load_model("grnlab-small"))
    >>> gl.tl.differential(adata, "cell_type", "CD19+ B").columns[:2].tolist()
    ['auroc_before', 'log2fc_before']
    """
    if denoised not in adata.layers:
        msg = f"denoised={denoised!r} is not in adata.layers {sorted(adata.layers)}; run gl.tl.denoise first."
        raise ValueError(msg)
    groups = cell_groups(adata, groupby, min_cells=1, skip_small=True)
    for argument, name in (("group", group), ("reference", reference)):
        if name not in groups and not (argument == "reference" and name == "rest"):
            msg = f"{argument}={name!r} is no value of {groupby!r}; there are {list(groups)}."
            raise ValueError(msg)
    if reference == group:
        msg = f"reference={reference!r} is the group itself."
        raise ValueError(msg)
    inside = groups[group]
    others = [cells for name, cells in groups.items() if name != group]
    outside = groups[reference] if reference != "rest" else np.sort(np.concatenate([np.empty(0, dtype=int), *others]))
    if min(len(inside), len(outside)) < 2:
        msg = f"{len(inside)} cells are in {group!r}, {len(outside)} in {reference!r}; two of each are needed."
        raise ValueError(msg)
    before = _compare(counts_of(adata, layer=layer), inside, outside)
    after = _compare(adata.layers[denoised], inside, outside)
    table = pd.DataFrame(
        {
            "auroc_before": before[0],
            "log2fc_before": before[1],
            "p_before": before[2],
            "padj_before": false_discovery_control(before[2]),
            "rank_before": _ranks(before[0]),
            "auroc_after": after[0],
            "log2fc_after": after[1],
            "rank_after": _ranks(after[0]),
            "denoised": adata.var[denoised].to_numpy(dtype=bool) if denoised in adata.var else True,
        },
        index=pd.Index(adata.var_names, name="gene"),
    ).sort_values(["rank_after", "rank_before"], kind="stable")
    adata.uns["differential"] = {**adata.uns.get("differential", {}), group.replace("/", "|"): table}
    return table


def _compare(matrix: object, inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area under the curve, log2 fold change of means and p-value of every gene."""
    scaled = []
    for cells in (inside, outside):
        part = matrix[cells]  # type: ignore[index]
        part = sp.csc_matrix(part, dtype=np.float64) if sp.issparse(part) else np.asarray(part, dtype=np.float64)
        totals = np.asarray(part.sum(axis=1)).ravel()
        scale = _TARGET / np.maximum(totals, 1e-12)
        scaled.append(sp.csc_matrix(sp.diags(scale) @ part) if sp.issparse(part) else part * scale[:, None])
    n_genes = scaled[0].shape[1]
    area, fold, p = np.empty(n_genes), np.empty(n_genes), np.empty(n_genes)
    for start in range(0, n_genes, _GENES_PER_BLOCK):
        genes = slice(start, start + _GENES_PER_BLOCK)
        x, y = (part[:, genes].toarray() if sp.issparse(part) else part[:, genes] for part in scaled)
        with np.errstate(invalid="ignore", divide="ignore"):  # a gene nobody has
            test = mannwhitneyu(x, y, axis=0, method="asymptotic")
        area[genes] = test.statistic / (len(x) * len(y))
        p[genes] = np.nan_to_num(test.pvalue, nan=1.0)
        fold[genes] = np.log2((x.mean(0) + 1e-2) / (y.mean(0) + 1e-2))
    return area, fold, np.clip(p, 0, 1)


def _ranks(area: np.ndarray) -> np.ndarray:
    """1 for the gene highest in the group; genes alike share the first rank."""
    return pd.Series(-area).rank(method="min").to_numpy(dtype=np.int64)
