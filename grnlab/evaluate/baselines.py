"""What a network must beat: scores of gene pairs from expression alone.

Each baseline takes log-normalised expression (n_cells, n_genes) and gives a (regulators, targets) array, strength of
regulator → target, without any sign.
"""

import contextlib
import io
import warnings
from collections.abc import Callable

import numpy as np

from grnlab._optional import require


def log_normalise(counts: np.ndarray, *, target: float = 1e4) -> np.ndarray:
    """Counts per `target` counts of the cell, log(1 + x)."""
    counts = np.asarray(counts, dtype=np.float64)
    return np.log1p(counts / counts.sum(axis=1, keepdims=True).clip(min=1) * target)


def pearson(expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Absolute Pearson correlation; 0 where a gene does not vary."""
    z = _standardise(expression)
    return np.abs(z[:, regulators].T @ z[:, targets]) / len(z)


def spearman(expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Absolute Spearman correlation."""
    from scipy.stats import rankdata

    return pearson(rankdata(expression, axis=0), regulators, targets)


def ridge_partial_correlation(
    expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray, *, ridge: float = 0.1
) -> np.ndarray:
    """Absolute partial correlation given all other genes, from the inverse of the correlation matrix plus a ridge."""
    z = _standardise(expression)
    precision = np.linalg.inv(z.T @ z / len(z) + ridge * np.eye(z.shape[1]))
    scale = np.sqrt(np.diag(precision))
    return np.abs(precision[np.ix_(regulators, targets)] / np.outer(scale[regulators], scale[targets]))


def mean_expression(expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Product of the mean expressions: a trivial score."""
    mean = expression.mean(axis=0)
    return np.outer(mean[regulators], mean[targets])


def variance_expression(expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Product of the variances: a trivial score that few methods beat on sparse counts."""
    variance = expression.var(axis=0)
    return np.outer(variance[regulators], variance[targets])


def mutual_information(
    expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray, *, n_bins: int = 5
) -> np.ndarray:
    """Mutual information in nats of expression cut into zero and `n_bins` - 1 quantiles of what is above zero."""
    levels = np.stack([expression_levels(expression[:, gene], n_bins) for gene in range(expression.shape[1])], axis=1)
    n_cells = len(levels)
    # (regulators · bins) × (targets · bins) counts of cells, a block of targets at a time
    of_regulators = (levels[:, regulators, None] == np.arange(n_bins)).reshape(n_cells, -1).astype(np.float32)
    found = np.empty((len(regulators), len(targets)))
    for start in range(0, len(targets), 256):
        block = targets[start : start + 256]
        of_targets = (levels[:, block, None] == np.arange(n_bins)).reshape(n_cells, -1).astype(np.float32)
        joint = (of_regulators.T @ of_targets).astype(np.float64) / n_cells
        joint = joint.reshape(len(regulators), n_bins, len(block), n_bins)
        of_regulator, of_target = joint.sum(axis=(2, 3)) / len(block), joint.sum(axis=(0, 1)) / len(regulators)
        expected = of_regulator[:, :, None, None] * of_target
        share = np.divide(joint, expected, out=np.ones_like(joint), where=joint > 0)
        found[:, start : start + len(block)] = (joint * np.log(share)).sum(axis=(1, 3))
    return found


def genie3(expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Importance of each regulator in a random forest that predicts the target (Huynh-Thu et al. 2010).

    As GENIE3 (doi:10.1371/journal.pone.0012776), 100 trees: √regulators candidates per split, targets of unit variance.
    Seconds per target; a target is not its own regulator.
    """
    from sklearn.ensemble import RandomForestRegressor

    z = _standardise(expression)
    found = np.zeros((len(regulators), len(targets)))
    for column, target in enumerate(targets):
        others = np.flatnonzero(regulators != target)
        if not z[:, target].any() or not len(others):
            continue
        forest = RandomForestRegressor(100, max_features="sqrt", random_state=seed)
        found[others, column] = forest.fit(z[:, regulators[others]], z[:, target]).feature_importances_
    return found


def grnboost2(expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Importance in gradient-boosted trees: GRNBoost2 (doi:10.1093/bioinformatics/bty916), by the package rustscenic.

    Raises
    ------
    ImportError
        When rustscenic is not installed.
    """
    rustscenic = require("rustscenic.grn", install="rustscenic", purpose="for the baseline GRNBoost2")
    chosen = np.union1d(regulators, targets)
    names = np.array([f"g{gene}" for gene in range(expression.shape[1])])
    matrix = np.ascontiguousarray(expression[:, chosen], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="only .* samples|expression matrix")  # advice on other input
        table = rustscenic.infer((matrix, names[chosen].tolist()), names[regulators].tolist(), seed=seed, verbose=False)
    row, column = ({names[gene]: number for number, gene in enumerate(genes)} for genes in (regulators, targets))
    table = table[table["target"].isin(column)]
    found = np.zeros((len(regulators), len(targets)))
    found[table["TF"].map(row), table["target"].map(column)] = table["importance"]
    return found


def regdiffusion(
    expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray, *, n_steps: int = 1_000, seed: int = 0
) -> np.ndarray:
    """Adjacency learned by a diffusion model of the cells (Zhu & Slonim 2024), by the package regdiffusion.

    doi:10.1089/cmb.2024.0607. Trained on the CPU; all regulators and targets together, minutes for 1,000 genes.

    Raises
    ------
    ImportError
        When regdiffusion is not installed.
    """
    package = require("regdiffusion", install="regdiffusion", purpose="for the baseline RegDiffusion")
    import torch

    varying = expression.std(axis=0) > 0  # it refuses genes that do not vary
    genes = np.union1d(regulators, targets)
    genes = genes[varying[genes]]
    cells = np.ascontiguousarray(expression[:, genes], dtype=np.float32)
    cells = cells[np.ptp(cells, axis=1) > 0]
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        torch.manual_seed(seed)
        trainer = package.RegDiffusionTrainer(cells, n_steps=n_steps, batch_size=min(128, len(cells) - 1), device="cpu")
        trainer.train()
    whole = np.zeros((expression.shape[1], expression.shape[1]))
    whole[np.ix_(genes, genes)] = np.abs(trainer.get_adj())  # [i, j]: gene i on gene j
    return whole[np.ix_(regulators, targets)]


def random_score(expression: np.ndarray, regulators: np.ndarray, targets: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Numbers drawn at random."""
    return np.random.default_rng(seed).random((len(regulators), len(targets)))


Baseline = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
BASELINES: dict[str, Baseline] = {
    "pearson": pearson,
    "spearman": spearman,
    "ridge_partial_correlation": ridge_partial_correlation,
    "mutual_information": mutual_information,
    "mean_expression": mean_expression,
    "variance_expression": variance_expression,
    "random": random_score,
}
# seconds to minutes for a network; grnboost2 needs the package rustscenic, regdiffusion that of its name
SLOW_BASELINES: dict[str, Baseline] = {"genie3": genie3, "grnboost2": grnboost2, "regdiffusion": regdiffusion}


def expression_levels(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Level 0 for zeros, 1 to `n_bins` - 1 for the quantiles of the rest; equal values get one level."""
    above = values > 0
    levels = np.zeros(len(values), dtype=np.int64)
    if above.any():
        cuts = np.quantile(values[above], np.linspace(0, 1, n_bins)[1:-1])
        levels[above] = 1 + np.searchsorted(cuts, values[above], side="left")
    return levels


def _standardise(expression: np.ndarray) -> np.ndarray:
    centred = expression - expression.mean(axis=0)
    spread = centred.std(axis=0)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
