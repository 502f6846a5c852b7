"""Ridge selection of heads: which attention heads, together, tell the edges of a gold standard from other pairs.

The classifier of Kalfon et al. 2025 (scPRINT, doi:10.1038/s41467-025-58699-1): least squares to the targets −1 and +1
over all pairs of a candidate universe, features x the attention of each head, an L2 penalty α, coefficients of at least
0, no intercept; heads with a coefficient above 0 are selected. With weights w₊ and w₋ of the two classes,

    coef = argmin_{c ≥ 0} Σ_pairs w · (x · c − y)² + α |c|²   solves   (w₋ G + (w₊ − w₋) P + α) c = (w₊ + w₋) p − w₋ g,

G = Σ x xᵀ and g = Σ x over all pairs, P and p the same over the positive ones: one pass over the pairs serves every α,
class weight and choice of folds. Without class weights and few positives the right-hand side is negative for every
head, and no head is selected.

Shape suffixes: H heads, N genes, D head dimension, E positive pairs, F folds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
import torch
from grnlab_kernels.checks import check_queries_keys
from grnlab_kernels.pairs import Gram, gather_pairs, head_gram
from torch import Tensor

_CHUNK_PAIRS = 65_536  # positive pairs whose features are in memory at once


class EmptySelectionError(ValueError):
    """No head can have a positive coefficient; the message says why and what would change it."""


@dataclass(frozen=True)
class RidgeProblem:
    """Normal equations of the ridge classifier, fold by fold; any union of folds can be solved.

    Attributes
    ----------
    gram_FHH, sum_FH, n_pairs_F
        ``Σ x xᵀ``, ``Σ x`` and number of all pairs of each fold, float64, float64 and int64.
    positive_gram_FHH, positive_sum_FH, n_positives_F
        The same over the positive pairs.

    Examples
    --------
    Head 0 attends to the edges, head 1 to nothing in particular.

    >>> q = torch.zeros(2, 4, 8)
    >>> k = q.clone()
    >>> q[0, :2, 0] = k[0, 2:, 0] = 1.0
    >>> query, key = torch.tensor([[0, 0, 1, 1], [2, 3, 2, 3]])
    >>> problem = ridge_problem(q, k, query, key, scale=1.0)
    >>> (problem.solve() > 0).tolist()
    [True, False]
    """

    gram_FHH: Tensor
    sum_FH: Tensor
    n_pairs_F: Tensor
    positive_gram_FHH: Tensor
    positive_sum_FH: Tensor
    n_positives_F: Tensor

    def solve(
        self,
        alpha: float = 1.0,
        class_weight: str | float | None = "balanced",
        *,
        positive: bool = True,
        folds: Iterable[int] | None = None,
        penalty: str = "l2",
    ) -> Tensor:
        """Coefficients as ``sklearn.linear_model.RidgeClassifier(fit_intercept=False, ...)`` finds them on all pairs.

        Parameters
        ----------
        alpha
            L2 penalty. Attention shares are about 1/N: with an α near 1 it dominates, and shrinks every coefficient.
        class_weight
            ``"balanced"``, scikit-learn's: a pair weighs n / (2 · pairs of its class) of the n pairs, so with few
            positives the others weigh 1/2, and an `alpha` counts twice as much as against weights of 1. None: every
            pair weighs 1. A number: a positive pair weighs so much, any other 1 (``{-1: 1, 1: number}``).
        positive
            Coefficients of at least 0, found by the active set method of Lawson and Hanson, exact where scikit-learn's
            L-BFGS stops at its tolerance. Otherwise of any sign.
        folds
            Folds to fit on; all by default.
        penalty
            ``"l2"``, or ``"l1"``: scikit-learn's Lasso with `alpha` as a share of the smallest penalty that selects no
            head, between 0 and 1; coefficients of at least 0.

        Returns
        -------
        float64, shape (heads,).

        Raises
        ------
        EmptySelectionError
            When `positive` leaves no head.
        ValueError
            When an argument does not fit, the folds hold pairs of one class only, or, with ``alpha=0``, heads depend
            on one another.
        """
        if penalty not in ("l1", "l2"):
            msg = f"penalty={penalty!r} is unknown; choose 'l2' or 'l1'."
            raise ValueError(msg)
        if not (np.isfinite(alpha) and alpha >= 0) or (penalty == "l1" and not (0 < alpha < 1 and positive)):
            msg = (
                f"alpha={alpha} must be a finite number of at least 0; for 'l1' a share between 0 and 1, and positive."
            )
            raise ValueError(msg)
        chosen = self._chosen(folds)
        n_pairs, n_positives = int(self.n_pairs_F[chosen].sum()), int(self.n_positives_F[chosen].sum())
        if not 0 < n_positives < n_pairs:
            msg = (
                f"folds {chosen} hold {n_positives} positive of {n_pairs} pairs; a classifier needs positive and other "
                "pairs. Choose more folds."
            )
            raise ValueError(msg)
        other, true = _class_weights(class_weight, n_pairs, n_positives)
        sums_H, positive_sums_H = (x[chosen].sum(0).numpy() for x in (self.sum_FH, self.positive_sum_FH))
        target_H = (true + other) * positive_sums_H - other * sums_H
        if positive and not (target_H > 0).any():
            raise EmptySelectionError(_why_empty(class_weight, n_pairs, n_positives, sums_H, positive_sums_H))
        gram_HH, positive_gram_HH = (x[chosen].sum(0).numpy() for x in (self.gram_FHH, self.positive_gram_FHH))
        normal_HH = other * gram_HH + (true - other) * positive_gram_HH
        if penalty == "l1":
            return torch.from_numpy(_lasso(normal_HH, target_H, alpha))
        return torch.from_numpy(_solve(normal_HH + alpha * np.eye(len(target_H)), target_H, positive=positive))

    def scaled(self, factor: float) -> "RidgeProblem":
        """Problem of features times `factor`: with the number of genes, 1 is what an indifferent gene gives."""
        grams = (self.gram_FHH * factor**2, self.sum_FH * factor, self.n_pairs_F)
        return RidgeProblem(
            *grams, self.positive_gram_FHH * factor**2, self.positive_sum_FH * factor, self.n_positives_F
        )

    @staticmethod
    def join(problems: Iterable["RidgeProblem"]) -> "RidgeProblem":
        """One problem with the folds of all, in order."""
        names = ("gram_FHH", "sum_FH", "n_pairs_F", "positive_gram_FHH", "positive_sum_FH", "n_positives_F")
        problems = list(problems)
        return RidgeProblem(*(torch.cat([getattr(problem, name) for problem in problems]) for name in names))

    def _chosen(self, folds: Iterable[int] | None) -> list[int]:
        n_folds = len(self.n_pairs_F)
        if folds is None:
            return list(range(n_folds))
        chosen = [int(fold) for fold in folds]
        if not chosen or len(set(chosen)) < len(chosen) or not 0 <= min(chosen) <= max(chosen) < n_folds:
            msg = f"folds={chosen} must be different numbers from 0 to {n_folds - 1}."
            raise ValueError(msg)
        return chosen


def ridge_problem(
    q_HND: Tensor,
    k_HND: Tensor,
    query_E: Tensor,
    key_E: Tensor,
    *,
    scale: float,
    query: Tensor | None = None,
    key: Tensor | None = None,
    fold: Tensor | None = None,
    query_fold: Tensor | None = None,
    lse_HN: Tensor | None = None,
    kind: str = "softmax",
    backend: str = "auto",
) -> RidgeProblem:
    """Set up head selection from pooled queries and keys, in one pass over all pairs of the universe.

    Parameters
    ----------
    q_HND, k_HND
        Pooled queries and keys of every head, shape (heads, genes, d_head).
    query_E, key_E
        The positive pairs: query gene (target) and key gene (regulator) of each, int64, each pair once.
    scale, lse_HN, kind, backend
        As in :func:`grnlab_kernels.head_gram`.
    query, key
        Genes whose pairs, but for a gene with itself, are the candidates, each once; all by default.
    fold
        Fold of each gene of `key`, int64 from 0, so that a regulator's pairs are fitted or held out together.
    query_fold
        Fold of each gene of `query`, so that a target's are. The pairs of query fold a and key fold b make fold
        ``a · K + b`` of the problem, K the number of key folds.

    Raises
    ------
    ValueError, TypeError
        When there is no positive pair, one is no candidate or is listed twice, or as :func:`grnlab_kernels.head_gram`.
    """
    check_queries_keys(q_HND, k_HND, n_dims=3, backend="torch")
    n_genes, device = q_HND.shape[1], q_HND.device
    query_E, key_E = query_E.to(device), key_E.to(device)
    _check_positives(query_E, key_E, n_genes, query, key)
    every = torch.arange(n_genes, device=device)
    query, key = (every if genes is None else genes.to(device) for genes in (query, key))
    fold = torch.zeros_like(key) if fold is None else fold.to(device)
    query_fold = torch.zeros_like(query) if query_fold is None else query_fold.to(device)
    options: dict[str, Any] = {"scale": scale, "kind": kind, "backend": backend}
    rows = []
    for number in range(int(query_fold.max()) + 1):
        chosen = query[query_fold == number]
        gram = head_gram(q_HND, k_HND, query=chosen, key=key, fold=fold, lse_HN=lse_HN, **options)
        inside = torch.isin(query_E, chosen)
        rows.append(_add_positives(q_HND, k_HND, query_E[inside], key_E[inside], key, fold, gram, options))
    return RidgeProblem.join(rows)


def _add_positives(  # noqa: PLR0917
    q_HND: Tensor,
    k_HND: Tensor,
    query_E: Tensor,
    key_E: Tensor,
    key: Tensor,
    fold: Tensor,
    gram: Gram,
    options: dict[str, Any],
) -> RidgeProblem:
    """Problem of the query genes of a Gram, fold by fold of the key genes."""
    fold_N = torch.zeros(q_HND.shape[1], dtype=torch.int64, device=key.device)
    fold_N[key] = fold
    fold_E = fold_N[key_E]
    positive_gram_FHH, positive_sum_FH = torch.zeros_like(gram.gram_FHH), torch.zeros_like(gram.sum_FH)
    for number in fold_E.unique().tolist():
        for places in (fold_E == number).nonzero().ravel().split(_CHUNK_PAIRS):
            x_EH = gather_pairs(q_HND, k_HND, query_E[places], key_E[places], lse_HN=gram.lse_HN, **options).double()
            positive_gram_FHH[number] += x_EH.T @ x_EH
            positive_sum_FH[number] += x_EH.sum(0)
    n_positives_F = torch.bincount(fold_E, minlength=len(gram.sum_FH))
    sums = (gram.gram_FHH, gram.sum_FH, gram.n_pairs_F, positive_gram_FHH, positive_sum_FH, n_positives_F)
    return RidgeProblem(*(x.cpu() for x in sums))


def _class_weights(class_weight: str | float | None, n_pairs: int, n_positives: int) -> tuple[float, float]:
    """Weight of a pair that is not positive, and of one that is."""
    if class_weight is None:
        return 1.0, 1.0
    if class_weight == "balanced":
        return n_pairs / (2 * (n_pairs - n_positives)), n_pairs / (2 * n_positives)
    if isinstance(class_weight, str) or not (np.isfinite(class_weight) and class_weight > 0):
        msg = f"class_weight={class_weight!r} must be 'balanced', None or a weight above 0 for the positive pairs."
        raise ValueError(msg)
    return 1.0, float(class_weight)


def _solve(normal_HH: np.ndarray, target_H: np.ndarray, *, positive: bool) -> np.ndarray:
    try:
        upper_HH = scipy.linalg.cholesky(normal_HH)
    except np.linalg.LinAlgError:
        msg = "the heads' attentions depend linearly on one another; give an alpha above 0."
        raise ValueError(msg) from None
    half_H = scipy.linalg.solve_triangular(upper_HH, target_H, trans="T")
    if not positive:
        return scipy.linalg.solve_triangular(upper_HH, half_H)
    return scipy.optimize.nnls(upper_HH, half_H, maxiter=30 * len(target_H))[0]


def _lasso(normal_HH: np.ndarray, target_H: np.ndarray, share: float) -> np.ndarray:
    """Non-negative coefficients that minimise ``cᵀ A c − 2 bᵀ c + share · 2 max(b) · Σ c``."""
    from sklearn.linear_model import Lasso

    # any X and y with XᵀX = A and Xᵀy = b have the same minimum; heads that depend on one another are let be
    values, vectors = np.linalg.eigh(normal_HH)
    known = values > values[-1] * 1e-12
    root = np.sqrt(values[known])
    x_KH, y_K = root[:, None] * vectors[:, known].T, (vectors[:, known].T @ target_H) / root
    unit = float(target_H.max())  # in these units the smallest penalty that selects nothing is 2
    model = Lasso(alpha=share * unit / len(x_KH), positive=True, fit_intercept=False, tol=1e-10, max_iter=100_000)
    return model.fit(x_KH, y_K).coef_


def _why_empty(
    class_weight: str | float | None, n_pairs: int, n_positives: int, sums_H: np.ndarray, positive_sums_H: np.ndarray
) -> str:
    prevalence = n_positives / n_pairs
    reason = f"class_weight={class_weight!r} selects no head: {n_positives:,} of {n_pairs:,} pairs are positive"
    if not (positive_sums_H > 0).any():
        return f"{reason}, and no head attends to any of them."
    other, true = _class_weights(class_weight, n_pairs, n_positives)
    needed = other / ((true + other) * prevalence)
    enough_H = np.divide(sums_H, positive_sums_H, out=np.full_like(sums_H, np.inf), where=positive_sums_H > 0) - 1
    best = int(enough_H.argmin())
    lift = 1 / ((enough_H[best] + 1) * prevalence)
    return (
        f"{reason} ({prevalence:.3%}), so a head enters only if it attends to them {needed:.4g} times as much as to "
        f"the average pair; the best, head {best}, does {lift:.4g} times. "
        f"A class_weight above {enough_H[best]:.4g} admits it"
        + (", and so does 'balanced'." if lift > 1 else ", but no head prefers the positive pairs.")
    )


def _check_positives(query_E: Tensor, key_E: Tensor, n_genes: int, query: Tensor | None, key: Tensor | None) -> None:
    """Every positive pair is a candidate, and listed once."""
    if query_E.ndim != 1 or query_E.shape != key_E.shape or not len(query_E):
        msg = (
            f"query_E and key_E have shapes {tuple(query_E.shape)} and {tuple(key_E.shape)}; expected one gene of each "
            "for every positive pair, and at least one pair."
        )
        raise ValueError(msg)
    if (query_E.dtype, key_E.dtype) != (torch.int64, torch.int64):
        msg = f"query_E and key_E have dtypes {query_E.dtype} and {key_E.dtype}; expected gene numbers as int64."
        raise TypeError(msg)
    reasons = [(query_E == key_E, "is a gene with itself")]
    for name, genes_E, genes in (("query", query_E, query), ("key", key_E, key)):
        reasons.append(((genes_E < 0) | (genes_E >= n_genes), f"has a {name} gene beyond the {n_genes} genes"))
        if genes is not None:
            reasons.append((~torch.isin(genes_E, genes.to(genes_E.device)), f"has a {name} gene that `{name}` lacks"))
    first_E = torch.ones(len(query_E), dtype=torch.bool, device=query_E.device)
    pair_E = query_E * n_genes + key_E
    order = pair_E.argsort(stable=True)
    first_E[order[1:]] = pair_E[order[1:]] != pair_E[order[:-1]]
    reasons.append((~first_E, "is listed before"))
    for wrong_E, reason in reasons:
        if wrong_E.any():
            place = int(wrong_E.nonzero()[0])
            msg = (
                f"positive pair {place} (query gene {int(query_E[place])}, key gene {int(key_E[place])}) {reason}; "
                f"{int(wrong_E.sum())} such pairs. Leave them out of query_E and key_E."
            )
            raise ValueError(msg)
