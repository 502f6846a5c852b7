"""Measurements that are no counts (microarrays, simulated concentrations, proteins) as counts a model can read."""

import anndata as ad
import numpy as np
import scipy.sparse as sp

from grnlab.data.counts import matrix_of

_MIDDLE = 5  # log2: the mean of a gene becomes 32, so rounding to whole numbers moves it by less than 0.03
_WIDEST = 3.0  # standard deviations; beyond lie a quarter of a percent of normal values


def pseudo_counts(adata: ad.AnnData, *, layer: str | None = None) -> ad.AnnData:
    """Turn continuous measurements into counts: round(2 ** (5 + z)), z the z-score of the gene, cut at ±3.

    Backbones read log2(1 + count), so they see each gene's z-scores, all genes on one scale; which gene is measured
    higher than another is lost. For tables of many samples per gene on a scale of their own. Real counts need none of
    this, and what has been log-normalised from counts is better turned back, see :func:`recover_counts`.

    Parameters
    ----------
    adata
        Samples × genes, any finite values.
    layer
        Layer that holds them; ``X`` by default.

    Returns
    -------
    A new AnnData with whole numbers from 4 to 256 in ``X`` (float32 CSR) and the same names and ``obs``.

    Raises
    ------
    ValueError
        When `layer` does not exist, a value is not finite, there are fewer than three samples, or no gene varies.

    Examples
    --------
    >>> levels = ad.AnnData(np.array([[0.1, 5.0], [0.2, 5.0], [0.3, 5.0]]))
    >>> pseudo_counts(levels).X.toarray().tolist()
    [[14.0, 32.0], [32.0, 32.0], [75.0, 32.0]]
    """
    values = matrix_of(adata, layer)
    values = np.asarray(values.toarray() if sp.issparse(values) else values, dtype=np.float64)
    if len(values) < 3:
        msg = f"adata has {len(values)} samples; a z-score needs at least three. Is it transposed (adata.T)?"
        raise ValueError(msg)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        msg = f"adata holds NaN or infinite values, the first in sample {row}, gene {column}; fill or remove them."
        raise ValueError(msg)
    centred = values - values.mean(axis=0)
    spread = centred.std(axis=0)
    varies = spread > 1e-12 * np.abs(values).max(axis=0)
    if not varies.any():
        msg = "no gene of adata varies between samples; there is nothing to learn from."
        raise ValueError(msg)
    z = np.divide(centred, spread, out=np.zeros_like(centred), where=varies).clip(-_WIDEST, _WIDEST)
    counts = np.rint(np.exp2(_MIDDLE + z)).astype(np.float32)
    return ad.AnnData(sp.csr_matrix(counts), obs=adata.obs.copy(), var=adata.var.copy())
