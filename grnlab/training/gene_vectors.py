"""Start gene embeddings from co-expression, so that a short run need not learn which genes belong together."""

import numpy as np
import scipy.sparse as sp


def coexpression_vectors(counts: sp.csr_matrix, d_model: int, *, seed: int = 0, target: float = 1e4) -> np.ndarray:
    """Gene vectors from a truncated SVD of log-normalised counts.

    Parameters
    ----------
    counts
        Shape (n_cells, n_genes).
    d_model
        Length of the vectors.
    seed
        Of the randomised SVD and of the vectors of genes never seen.
    target
        Counts per cell after normalisation.

    Returns
    -------
    float32 of shape (n_genes, d_model). Each gene's loadings are scaled to unit length, so that a rare gene has
    neighbours as well; one coordinate holds the standardised logarithm of its mean. Genes never seen are random.
    The mean square of an entry is about 1.

    Raises
    ------
    ValueError
        When there are fewer cells or genes than `d_model`.
    """
    from sklearn.utils.extmath import randomized_svd

    n_cells, n_genes = counts.shape
    if min(n_cells, n_genes) <= d_model:
        msg = f"co-expression vectors of length {d_model} need more cells ({n_cells}) and genes ({n_genes}) than that."
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    total = np.asarray(counts.sum(axis=1)).ravel().clip(min=1)
    logged = sp.diags(target / total) @ counts
    logged.data = np.log1p(logged.data)
    mean = np.asarray(logged.mean(axis=0)).ravel()
    square = np.asarray(logged.multiply(logged).mean(axis=0)).ravel()
    spread = np.sqrt(np.clip(square - mean**2, 1e-8, None))
    seen = mean > 0
    # Genes on one scale; centring would make the matrix dense, so the first component absorbs the mean instead.
    scaled = sp.csr_matrix(logged @ sp.diags(np.where(seen, 1 / (spread + 0.05), 0.0)), dtype=np.float32)
    _, singular, components = randomized_svd(scaled, n_components=d_model - 1, random_state=seed, n_iter=3)
    loadings = components.T * np.sqrt(singular)
    loadings /= np.linalg.norm(loadings, axis=1, keepdims=True).clip(min=1e-12)
    log_mean = np.log(mean + 1e-4)
    level = (log_mean - log_mean[seen].mean()) / max(log_mean[seen].std(), 1e-3)  # all means may be equal
    vectors = np.column_stack([loadings * np.sqrt(d_model - 1), level])
    vectors[~seen] = rng.normal(size=(int((~seen).sum()), d_model))
    return vectors.astype(np.float32)
