"""z and p of the strength of a pair of genes among pairs of like expression.

**Classes.** Regulators, and likewise targets, are cut into `n_bins` bins of equal size by mean expression, and each bin
into two halves by the share of cells that express the gene. A pair is of the class (bin of its regulator, bin of its
target).

**Without a null of its own** the class is the null. Strengths s, over their median absolute value, go through one power
transform f per group (Box-Cox; Yeo-Johnson where some are 0 or below), its power between 0 and 3 such that in the
middle class the 10th and 90th percentiles lie evenly about the median, and

    z = (f(s) - median of the class) / (half the distance from its 15.87th to its 84.13th percentile),

p = P(Z > z), Z standard normal; a class of n pairs lends its spread the weight n / (n + 200), the usual spread of a
class the rest. The class's own ranks could not serve: they are uniform whatever the data, so nothing would ever be
found. p-values are as good as the transform makes a class normal: far out they are an extrapolation, best read as an
order. Where a tenth of a class are true edges they are conservative.

**With a null**, n null scores of the class: p = (1 + #{null ≥ s}) / (1 + n), z = (s - mean) / sd of the null. No
distribution is assumed. The smallest p is 1 / (1 + n).

Shape suffixes: R regulators, T targets.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.special import boxcox
from scipy.stats import norm, yeojohnson

_HALVES = 2  # of a bin, by detection
_SMALLEST_BIN = 4  # genes; a bin of one gene would be the gene itself
_SMALLEST_CLASS = 30  # observed pairs; smaller classes are compared with the whole group
_PAIRS_PER_CLASS = 200  # bins are made large enough for so many: quantiles of fewer say little
_SHRINK = 200.0
_POWERS = (0.0, 3.0)  # a power below 0 has a largest value, so nothing would stand out

Expression = tuple[np.ndarray, np.ndarray]
"""Mean counts of genes, and the share of cells that express each."""


def pair_bins(regulators: Expression, targets: Expression, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Bin of each regulator and of each target; fewer bins than asked for where classes would hold too few pairs."""
    bin_R = gene_bins(*regulators, n_bins, smallest=_SMALLEST_BIN)
    smallest = max(_SMALLEST_BIN, -(-_PAIRS_PER_CLASS // int(np.bincount(bin_R).min())))
    return bin_R, gene_bins(*targets, n_bins, smallest=smallest)


def gene_bins(mean: np.ndarray, detection: np.ndarray, n_bins: int, *, smallest: int) -> np.ndarray:
    """Bins of equal size by mean, each in two halves by detection; fewer than asked for where genes are few."""
    n_genes = len(mean)
    n_bins = max(1, min(n_bins, n_genes // (_HALVES * smallest)))
    place = np.empty(n_genes, dtype=np.int64)
    place[np.lexsort((detection, mean))] = np.arange(n_genes)
    of_mean = place * n_bins // n_genes
    if n_genes < _HALVES * smallest:
        return np.zeros(n_genes, dtype=np.int64)
    order = np.lexsort((mean, detection, of_mean))
    within = np.empty(n_genes, dtype=np.int64)
    sizes = np.bincount(of_mean, minlength=n_bins)
    starts = np.cumsum(sizes) - sizes
    within[order] = np.arange(n_genes) - starts[of_mean[order]]
    return _HALVES * of_mean + within * _HALVES // sizes[of_mean]


def _classes(bin_R: np.ndarray, bin_T: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """Index of the pairs of each class."""
    rows = [np.flatnonzero(bin_R == number) for number in np.unique(bin_R)]
    columns = [np.flatnonzero(bin_T == number) for number in np.unique(bin_T)]
    return [np.ix_(row, column) for row in rows for column in columns]


def against_own(strength: np.ndarray, bin_R: np.ndarray, bin_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Z and p by the spread of a class itself."""
    classes = _classes(bin_R, bin_T)
    seen = strength[~np.isnan(strength)].astype(np.float64)
    scale = np.median(np.abs(seen)) if len(seen) else 0.0
    if not len(seen) or seen.min() == seen.max():
        flat = np.where(np.isnan(strength), np.nan, 0.0).astype(np.float32)
        return flat, flat + np.float32(0.5)
    scaled = strength.astype(np.float64) / (scale or seen.std())
    transform = boxcox if seen.min() > 0 else _yeojohnson
    changed = transform(scaled, _power([scaled[place] for place in classes], transform))
    whole = _location(changed[~np.isnan(changed)])
    z = np.full(strength.shape, np.nan, dtype=np.float32)
    found, within = [], []
    for place in classes:
        values = changed[place]
        inside = values[~np.isnan(values)]
        middle, spread = _location(inside) if len(inside) >= _SMALLEST_CLASS else whole
        within.append(spread)
        found.append((place, middle, spread, len(inside)))
    usual = float(np.median(within)) or whole[1] or 1.0
    for place, middle, spread, n_pairs in found:
        share = n_pairs / (n_pairs + _SHRINK)
        z[place] = (changed[place] - middle) / (share * spread + (1 - share) * usual)
    return z, norm.sf(z).astype(np.float32)


def _location(values: np.ndarray) -> tuple[float, float]:
    """Median, and half the distance between the percentiles one standard deviation off in a normal distribution."""
    lower, middle, upper = np.quantile(values, [norm.cdf(-1), 0.5, norm.cdf(1)])
    return float(middle), float(upper - lower) / 2


def _power(parts: list[np.ndarray], transform: Callable[[np.ndarray, float], np.ndarray]) -> float:
    """Power of the transform that makes the body of the middle class symmetric."""
    levels = [0.1, 0.5, 0.9]
    quantiles = np.array(
        [np.nanquantile(x, levels) for x in parts if (~np.isnan(x)).sum() >= _SMALLEST_CLASS]
        or [np.nanquantile(np.concatenate([x.ravel() for x in parts]), levels)]
    )

    def skew(power: float) -> float:
        low, middle, high = transform(quantiles, power).T
        width = high - low
        return float(np.median(((high - middle) - (middle - low))[width > 0] / width[width > 0])) if width.any() else 0

    if skew(_POWERS[0]) >= 0:
        return _POWERS[0]
    if skew(_POWERS[1]) <= 0:
        return _POWERS[1]
    return float(brentq(skew, *_POWERS, xtol=1e-3))


def _yeojohnson(values: np.ndarray, power: float) -> np.ndarray:
    return np.asarray(yeojohnson(values, lmbda=power))


def against_null(
    strength: np.ndarray, null: np.ndarray, bin_R: np.ndarray, bin_T: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Z and p by scores of shuffled cells."""
    z, p = (np.full(strength.shape, np.nan, dtype=np.float32) for _ in range(2))
    everything = np.sort(null[~np.isnan(null)])
    if not len(everything):
        msg = "null holds no observed pair."
        raise ValueError(msg)
    for place in _classes(bin_R, bin_T):
        inside = null[place]
        inside = np.sort(inside[~np.isnan(inside)])
        if len(inside) < _SMALLEST_CLASS:
            inside = everything
        values = strength[place]
        at_least = len(inside) - np.searchsorted(inside, values, side="left")
        p[place] = np.where(np.isnan(values), np.nan, (1 + at_least) / (1 + len(inside)))
        spread = float(inside.std(dtype=np.float64))
        z[place] = (values - inside.mean(dtype=np.float64)) / (spread or 1.0)
    return z, p
