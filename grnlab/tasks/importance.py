"""Which genes a cell's own token attends to, against genes that are expressed alike.

The attention of a CLS token ranks the most expressed genes first, in a model that learned nothing too. So a gene is
compared with its neighbours by mean expression in the same cells.

Shape suffixes: B cells, T gene tokens, H heads, D head dimension, G genes.
"""

from collections.abc import Collection
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy.stats import false_discovery_control, norm
from torch import Tensor

from grnlab._progress import progress
from grnlab.attention.prepare import expressed_enough, prepare_cells
from grnlab.backbones.base import AttentionSpec, Backbone
from grnlab.tasks._head import length_batches, tokens_of

_NORMAL_SD = norm.ppf(0.8413) - norm.ppf(0.1587)


class TokenRows:
    """Attention of one special token over the genes of each cell, mean over heads and layers; a Recorder.

    Special tokens leave before it is normalised over the genes.

    Parameters
    ----------
    spec
        Sizes and scale of the attention.
    token
        Place of the special token.
    real_BT
        Where there are genes.
    """

    def __init__(self, spec: AttentionSpec, token: int, real_BT: Tensor) -> None:
        self.spec, self.token, self.real_BT = spec, token, real_BT
        self.total_BT = torch.zeros(real_BT.shape, device=real_BT.device)

    def __call__(
        self, layer: int, q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor | None, out_BTHD: Tensor | None
    ) -> None:
        """Add one layer."""
        genes_BTHD = k_BTHD[:, self.spec.n_prefix :].float()
        product_BHT = torch.einsum("bhd,bthd->bht", q_BTHD[:, self.token].float(), genes_BTHD)
        real_B1T = self.real_BT.unsqueeze(1)
        if self.spec.kind == "softmax":
            row_BHT = (self.spec.scale * product_BHT).masked_fill(~real_B1T, -torch.inf).softmax(-1)
        else:  # features: what is recorded is the attention itself
            row_BHT = product_BHT * real_B1T
            row_BHT = row_BHT / row_BHT.sum(-1, keepdim=True)
        self.total_BT += row_BHT.mean(1) / self.spec.n_layers


def gene_importance(
    adata: ad.AnnData,
    model: Backbone,
    *,
    groupby: str | None = None,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    min_fraction: float = 0.05,
    n_matched: int = 100,
    min_cells: int = 5,
    skip_small: bool = False,
) -> pd.DataFrame:
    """Rank the genes of each group of cells by the attention that the token of the cell pays them.

    Parameters
    ----------
    adata
        Counts.
    model
        A backbone with special tokens; that of the cell is ``model.cell_token``, or the first.
    groupby, genes, layer, min_cells, skip_small
        As in :func:`grnlab.tl.attention`.
    min_fraction
        Genes expressed in a smaller share of the cells of a group are left out of its ranking.
    n_matched
        Genes nearest in mean expression that a gene is compared with.

    Returns
    -------
    A row per group and gene, most unusual first: ``group, gene, importance`` (attention times the number of genes of
    the cell, mean over heads, layers and the cells that express the gene: 1 is an even share), ``expected`` (median of
    the matched genes), ``z, p, padj`` (of the logarithm against the matched genes, whose spread is robust and taken as
    normal, so far out p is an extrapolation; Benjamini-Hochberg within the group), ``mean_counts``,
    ``fraction_expressed``. ``attrs`` holds the provenance. Attention is no cause: of two groups compare the ranks with
    those of an untrained model before reading them.

    Raises
    ------
    ValueError
        When the model has no special token, a group has fewer than 10 genes to compare; and as
        :func:`grnlab.tl.attention` for `adata`.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:60]
    >>> table = gl.tl.gene_importance(adata, gl.load_model("grnlab-small"), genes=80)
    >>> list(table.columns[:6])
    ['group', 'gene', 'importance', 'expected', 'z', 'p']
    """
    cells = prepare_cells(
        adata, model, groupby=groupby, genes=genes, layer=layer, min_cells=min_cells, skip_small=skip_small
    )
    spec: AttentionSpec = model.attention
    token = getattr(model, "cell_token", 0)
    if spec.n_prefix <= token:
        msg = (
            f"{model.name!r} has {spec.n_prefix} special tokens, so none of the cell; use grnlab.tl.attention instead."
        )
        raise ValueError(msg)
    if n_matched < 10:
        msg = f"n_matched={n_matched} must be 10 or more: spreads of fewer genes say little."
        raise ValueError(msg)
    tables = []
    expression = cells.expression()
    with progress(total=sum(map(len, cells.groups.values())), desc="importance", unit="cell") as bar:
        for name, rows in cells.groups.items():
            found = _mean_rows(model, cells, rows, token, bar)
            table = expression[name].iloc[cells.chosen].assign(importance=found)
            keep = expressed_enough(table, len(rows), min_fraction) & np.isfinite(found)
            if keep.sum() < 10:
                msg = f"group {name!r} has {int(keep.sum())} genes to compare; show more genes, or lower min_fraction."
                raise ValueError(msg)
            tables.append(against_matched(table[keep], n_matched=n_matched).assign(group=name))
    columns = ["group", "gene", "importance", "expected", "z", "p", "padj", "mean_counts", "fraction_expressed"]
    whole = pd.concat(tables).rename_axis("gene").reset_index()[columns]
    whole.attrs = cells.provenance | {"special_token": token, "n_matched": n_matched, "min_fraction": min_fraction}
    return whole


def against_matched(table: pd.DataFrame, *, n_matched: int = 100) -> pd.DataFrame:
    """Compare the importance of each gene with that of the genes nearest in mean expression.

    A line through their logarithms takes away what is left of the trend among them.

    Parameters
    ----------
    table
        With ``importance`` and ``mean_counts``, both above 0, by gene.
    n_matched
        Genes to compare with, half of them below and half above where there are so many.

    Returns
    -------
    The table with ``expected, z, p, padj``, by falling z.
    """
    table = table.sort_values("mean_counts", kind="stable")
    log = np.log(table["importance"].to_numpy(dtype=np.float64).clip(min=1e-300))
    n_genes, width = len(table), min(n_matched, len(table) - 1) + 1
    first = np.clip(np.arange(n_genes) - width // 2, 0, n_genes - width)
    window = first[:, None] + np.arange(width)
    window = window[window != np.arange(n_genes)[:, None]].reshape(n_genes, width - 1)
    level = np.log(table["mean_counts"].to_numpy(dtype=np.float64))
    x, y = level[window], log[window]
    centred = x - x.mean(axis=1, keepdims=True)
    squares = (centred**2).sum(axis=1).clip(min=1e-12)
    slope = (centred * y).sum(axis=1) / squares
    others = y - slope[:, None] * (x - level[:, None])
    low, middle, high = np.quantile(others, [0.1587, 0.5, 0.8413], axis=1)
    lever = np.sqrt(1 + 1 / width + (level - x.mean(axis=1)) ** 2 / squares)  # a gene beyond its neighbours is unsure
    z = (log - middle) / (lever * (high - low) / _NORMAL_SD).clip(min=1e-9)
    p = norm.sf(z)
    found = table.assign(expected=np.exp(middle), z=z, p=p, padj=false_discovery_control(p))
    return found.sort_values("z", ascending=False, kind="stable")


@torch.inference_mode()
def _mean_rows(model: Any, cells: Any, rows: np.ndarray, token: int, bar: Any) -> np.ndarray:
    """Importance of each gene, mean over the cells that express it; NaN where none does."""
    device = getattr(model, "device", torch.device("cpu"))
    place = np.full(len(model.vocab), len(cells.chosen))  # genes that are shown but were not asked for go last
    place[cells.tokens[cells.chosen]] = np.arange(len(cells.chosen))
    total, count = np.zeros((2, len(cells.chosen) + 1))
    for batch in length_batches(model, cells, rows):
        if not cells.counts[batch].nnz:
            continue
        tokens = tokens_of(model, cells, batch).to(device)
        recorder = TokenRows(model.attention, token, tokens.real_BT)
        model.record_qk(tokens, record=recorder)
        real = tokens.real_BT.cpu().numpy()
        scaled = (recorder.total_BT * tokens.real_BT.sum(1, keepdim=True)).cpu().numpy()
        genes = place[tokens.genes_BT.cpu().numpy()[real]]
        total += np.bincount(genes, weights=scaled[real], minlength=len(total))
        count += np.bincount(genes, minlength=len(count))
        bar.update(len(batch))
    with np.errstate(invalid="ignore"):
        return (total / count)[:-1]
