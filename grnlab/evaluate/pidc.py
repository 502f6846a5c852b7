"""PIDC: how much of the information between two genes no third gene explains (Chan et al. 2017).

Shape suffixes: G genes, B levels of expression.
"""

import numpy as np

from grnlab.evaluate.baselines import expression_levels


def pidc(
    expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray, *, n_bins: int = 5, max_genes: int = 4_000
) -> np.ndarray:
    """Proportional unique contribution of two genes to each other, as a confidence within both genes' contexts.

    As PIDC (doi:10.1016/j.cels.2017.08.014): the unique part of the mutual information, summed over every third gene,
    is referred to the gamma distributions of the two genes' sums. The sum over third genes is a sum of minima, which
    sorting makes exact in O(genes² · log genes) instead of O(genes³).

    Parameters
    ----------
    expression
        Shape (n_cells, n_genes); cut into zero and `n_bins` - 1 quantiles of what is above zero.
    regulators, targets
        Gene numbers of the pairs. The third genes are those of either.
    n_bins
        Levels of expression.
    max_genes
        More genes are refused: memory is 4 · genes² · `n_bins` bytes.

    Raises
    ------
    ValueError
        When there are more genes than `max_genes`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> cause = rng.poisson(3.0, 500)
    >>> cells = np.column_stack([cause, rng.poisson(cause), rng.poisson(3.0, (500, 3)).T[0]])
    >>> score = pidc(cells, np.array([0]), np.array([1, 2]))
    >>> bool(score[0, 0] > score[0, 1])
    True
    """
    genes = np.union1d(regulators, targets)
    if len(genes) > max_genes:
        msg = f"PIDC of {len(genes):,} genes needs more than max_genes={max_genes:,}; choose fewer genes."
        raise ValueError(msg)
    levels = np.stack([expression_levels(expression[:, gene], n_bins) for gene in genes], axis=1)
    specific_GGB, share_GB = _specific_information(levels, n_bins)
    information_GG = np.einsum("gkb,gb->gk", specific_GGB, share_GB, optimize=True)
    unique_GG = _unique(specific_GGB, share_GB, information_GG)
    contribution_GG = unique_GG + unique_GG.T
    np.fill_diagonal(contribution_GG, 0.0)
    context_GG = _gamma_cdf(contribution_GG)
    confidence_GG = context_GG + context_GG.T
    np.fill_diagonal(confidence_GG, 0.0)
    return confidence_GG[np.ix_(np.searchsorted(genes, regulators), np.searchsorted(genes, targets))]


def _specific_information(levels: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """What each gene (second axis) says about each level of each gene (first), in nats; shares of the levels."""
    n_cells, n_genes = levels.shape
    one_hot = (levels[:, :, None] == np.arange(n_bins)).astype(np.float32)
    share_GB = one_hot.mean(axis=0, dtype=np.float64)
    flat = one_hot.reshape(n_cells, -1)
    specific_GGB = np.empty((n_genes, n_genes, n_bins), dtype=np.float32)
    for gene in range(n_genes):
        joint = (one_hot[:, gene].T @ flat).reshape(n_bins, n_genes, n_bins) / n_cells  # own level, gene, its level
        own = share_GB[gene][:, None, None]
        expected = own * share_GB[None]
        ratio = np.divide(joint, expected, out=np.ones_like(expected), where=joint > 0)
        given = np.divide(joint, own, out=np.zeros_like(expected), where=own > 0)
        specific_GGB[gene] = np.maximum((given * np.log(ratio)).sum(axis=2), 0.0).T
    return specific_GGB, share_GB


def _unique(specific_GGB: np.ndarray, share_GB: np.ndarray, information_GG: np.ndarray) -> np.ndarray:
    """Sum over third genes of the share of the information about the first gene that only the second has."""
    n_genes, _, n_bins = specific_GGB.shape
    unique_GG = np.empty((n_genes, n_genes))
    for gene in range(n_genes):
        others = np.delete(np.arange(n_genes), gene)
        redundant = np.zeros(n_genes - 1)
        for level in range(n_bins):
            value = specific_GGB[gene, others, level].astype(np.float64)
            order = np.argsort(value, kind="stable")
            ordered = value[order]
            below = np.concatenate([[0.0], np.cumsum(ordered)[:-1]])  # Σ of the smaller ones, then itself for the rest
            minima = below + ordered * np.arange(len(others) - 1, -1, -1)
            redundant[order] += share_GB[gene, level] * minima
        mutual = information_GG[gene, others]
        known = mutual > 1e-12
        row = np.zeros(n_genes - 1)
        row[known] = (len(others) - 1) - redundant[known] / mutual[known]
        unique_GG[gene, others] = row
        unique_GG[gene, gene] = 0.0
    return np.maximum(unique_GG, 0.0)


def _gamma_cdf(contribution_GG: np.ndarray) -> np.ndarray:
    """Value of each row's entries under the gamma distribution fitted to that row, the diagonal left out."""
    from scipy.special import digamma, gammainc, polygamma

    n_genes = len(contribution_GG)
    inside = ~np.eye(n_genes, dtype=bool)
    positive = np.maximum(contribution_GG, 1e-10)
    mean = np.where(inside, positive, 0.0).sum(axis=1) / max(n_genes - 1, 1)
    mean_log = np.where(inside, np.log(positive), 0.0).sum(axis=1) / max(n_genes - 1, 1)
    gap = np.maximum(np.log(mean) - mean_log, 1e-9)
    shape = (3 - gap + np.sqrt((gap - 3) ** 2 + 24 * gap)) / (12 * gap)
    for _ in range(5):  # Newton's method for the maximum of the likelihood (Minka 2002)
        slope = 1 / shape - polygamma(1, shape)
        step = (np.log(shape) - digamma(shape) - gap) / slope
        shape = np.clip(shape - step, shape / 5, shape * 5)
    found: np.ndarray = gammainc(shape[:, None], positive * (shape / mean)[:, None])
    return found
