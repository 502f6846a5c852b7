"""How well each head alone ranks candidate edges, from one histogram of its attention over the whole universe.

An attention share x is a float32 in [0, 1], and the order of such numbers is that of their bit patterns. Bin b holds
the shares with ``bits(x) >> 15 == b``: 256 bins an octave, 0.2 to 0.4 % wide, no logarithm. Statistics take the
pairs of a bin as in random order.

Shape suffixes: H heads, N genes, D head dimension, E listed pairs, R query genes of a panel, C key genes, B bins.
"""

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from grnlab_kernels import kernel_maps
from grnlab_kernels.operation import fake, operation
from grnlab_kernels.pair_panels import PairPanels, check_lse, fill_lse, universe

_SHIFT = 15
_N_BINS = (0x3F800000 >> _SHIFT) + 1  # the bits of 1.0


@dataclass(frozen=True)
class Histogram:
    """Number of pairs of each head by the size of its attention.

    Attributes
    ----------
    counts_HB
        int64, shape (heads, 32,513); bin ``bits(x) >> 15``, so rising attention.
    """

    counts_HB: Tensor


def head_hist(
    q_HND: Tensor,
    k_HND: Tensor,
    *,
    scale: float,
    query: Tensor | None = None,
    key: Tensor | None = None,
    lse_HN: Tensor | None = None,
    kind: str = "softmax",
    backend: str = "auto",
) -> Histogram:
    """Count the attention of every head over every pair of query and key genes but a gene with itself.

    For R query genes and P pairs 2 H D N R flops and H N R exponentials (H P of each with `lse_HN`), and H P integer
    additions. Memory: 260 KB a head and the panel of :func:`grnlab_kernels.head_gram` for each worker; 260 KB a head
    on CUDA with Triton.

    Parameters
    ----------
    q_HND, k_HND, scale, query, key, lse_HN, kind, backend
        As in :func:`grnlab_kernels.head_gram`.

    Raises
    ------
    ValueError, TypeError
        When shapes, dtypes or gene numbers do not fit, a gene is listed twice, or a logit is not finite.

    Examples
    --------
    >>> q = k = torch.zeros(1, 4, 16)
    >>> histogram = head_hist(q, k, scale=0.25)
    >>> histogram.counts_HB.sum().item(), histogram.counts_HB.count_nonzero().item()  # 12 pairs, all at 1/4
    (12, 1)
    """
    q_HND, k_HND, backend = kernel_maps.prepare(q_HND, k_HND, scale=scale, kind=kind, backend=backend)
    query, key = universe(q_HND.shape[1], q_HND.device, query, key)
    check_lse(lse_HN, q_HND, query)
    return Histogram(_head_hist(q_HND, k_HND, query, key, lse_HN=lse_HN, scale=scale, backend=backend, kind=kind))


def pair_hist(x_EH: Tensor) -> Histogram:
    """Count attention already gathered, as by :func:`grnlab_kernels.gather_pairs`.

    Parameters
    ----------
    x_EH
        float32 in [0, 1], shape (pairs, heads).

    Raises
    ------
    ValueError
        When a number is no share of attention.
    """
    if x_EH.ndim != 2 or x_EH.dtype != torch.float32 or not ((x_EH >= 0) & (x_EH <= 1)).all():
        msg = (
            f"x_EH has dtype {x_EH.dtype} and shape {tuple(x_EH.shape)}; expected float32 shares of attention from 0 "
            "to 1, shape (pairs, heads), as gather_pairs returns them."
        )
        raise ValueError(msg)
    counts_HB = torch.zeros(x_EH.shape[1], _N_BINS, dtype=torch.int64, device=x_EH.device)
    _count(counts_HB, x_EH.abs())  # abs: the sign of -0.0 is a bit too
    return Histogram(counts_HB)


def auprc_from_histograms(every: Histogram, positives: Histogram) -> Tensor:
    """Average precision of each head: ``Σ_b t_b · precision_b / Σ_b t_b``, t the positive pairs of a bin.

    The pairs of a bin count as in random order: a positive one is met, on average, when ``(t + 1) / 2`` positives and
    ``(n + 1) / 2`` of the bin's n pairs are. Where scores do not tie this is within some 10⁻⁴ of scikit-learn's
    ``average_precision_score`` (relative), ten times closer than bins as ties.

    Parameters
    ----------
    every
        Of all pairs of the universe, positives among them.
    positives
        Of the positive pairs.

    Returns
    -------
    float64, shape (heads,).

    Raises
    ------
    ValueError
        When shapes differ, there is no positive pair, or heads differ in their number of pairs.

    Examples
    --------
    >>> x = torch.tensor([[0.1], [0.2], [0.3], [0.4]])
    >>> auprc_from_histograms(pair_hist(x), pair_hist(x[[1, 3]])).item()  # ranks 1 and 3 of 4: (1/1 + 2/3) / 2
    0.8333333333333333
    """
    _, n_positives = _totals(every, positives)
    true_HB, all_HB = _above(every, positives)
    in_bin_HB, pairs_HB = (torch.diff(x, prepend=torch.zeros_like(x[:, :1])) for x in (true_HB, all_HB))
    precision_HB = (true_HB - (in_bin_HB - 1) / 2) / (all_HB - (pairs_HB - 1) / 2)
    return torch.where(in_bin_HB > 0, in_bin_HB * precision_HB, 0.0).sum(-1) / n_positives


def epr_from_histograms(every: Histogram, positives: Histogram) -> Tensor:
    """Early precision ratio of each head: precision among the top K, K the positives, over the base rate.

    The pairs of the bin at the cut count as in random order.

    Parameters
    ----------
    every, positives
        As in :func:`auprc_from_histograms`.

    Returns
    -------
    float64, shape (heads,).

    Raises
    ------
    ValueError
        As in :func:`auprc_from_histograms`.

    Examples
    --------
    >>> x = torch.tensor([[0.1], [0.2], [0.3], [0.4]])
    >>> epr_from_histograms(pair_hist(x), pair_hist(x[[1, 3]])).item()  # 1 of the top 2, as by chance
    1.0
    """
    n_pairs, n_positives = _totals(every, positives)
    true_HB, all_HB = _above(every, positives)
    cut_H1 = (all_HB < n_positives).sum(-1, keepdim=True)
    zero_H1 = torch.zeros_like(true_HB[:, :1])
    true_before, true_at = (torch.cat((zero_H1, true_HB), -1).gather(-1, cut_H1 + step) for step in (0, 1))
    all_before, all_at = (torch.cat((zero_H1, all_HB), -1).gather(-1, cut_H1 + step) for step in (0, 1))
    share_H1 = (n_positives - all_before) / (all_at - all_before)
    expected_H1 = true_before + share_H1 * (true_at - true_before)
    return expected_H1.squeeze(-1) / n_positives * (n_pairs / n_positives)


def _above(every: Histogram, positives: Histogram) -> tuple[Tensor, Tensor]:
    """Positive pairs and all pairs at or above each bin, from the highest down, float64."""
    true_HB, all_HB = (counts.flip(-1).cumsum(-1).double() for counts in (positives.counts_HB, every.counts_HB))
    # rounding may put the same pair one bin higher when it is gathered than when it is met in a panel
    return true_HB, torch.maximum(true_HB, all_HB)


def _totals(every: Histogram, positives: Histogram) -> tuple[int, int]:
    all_HB, true_HB = every.counts_HB, positives.counts_HB
    if all_HB.shape != true_HB.shape:
        msg = f"the histograms have shapes {tuple(all_HB.shape)} and {tuple(true_HB.shape)}; expected the same heads."
        raise ValueError(msg)
    totals = {(int(pairs), int(true)) for pairs, true in zip(all_HB.sum(-1), true_HB.sum(-1), strict=True)}
    if len(totals) != 1 or not 0 < (found := next(iter(totals)))[1] <= found[0]:
        msg = (
            f"the heads have {sorted(totals)} (all, positive) pairs; expected one universe for all heads and at least "
            "one positive pair in it."
        )
        raise ValueError(msg)
    return found


@operation("head_hist")
def _head_hist(
    q_HND: Tensor,
    k_HND: Tensor,
    query: Tensor,
    key: Tensor,
    *,
    lse_HN: Tensor | None,
    scale: float,
    backend: str,
    kind: str = "softmax",
) -> Tensor:
    n_heads, n_genes, _ = q_HND.shape
    known = lse_HN is not None
    if lse_HN is None:
        lse_HN = q_HND.new_full((n_heads, n_genes), torch.nan, dtype=torch.float32)
    if backend == "triton":
        from grnlab_kernels.triton_kernels import pairs

        if not known:
            fill_lse(lse_HN, q_HND, k_HND, query, scale, backend=backend)
        return pairs.head_hist(q_HND, k_HND, lse_HN, scale, query, key, _SHIFT)
    own, counts = threading.local(), []

    def count(x_RHC: Tensor) -> None:
        if not hasattr(own, "counts_HB"):
            own.counts_HB = q_HND.new_zeros((n_heads, _N_BINS), dtype=torch.int64)
            counts.append(own.counts_HB)
        _count(own.counts_HB, x_RHC)

    for _ in PairPanels(q_HND, k_HND, query, key, scale, lse_HN, known, kind).run(count, backend):
        pass
    total_HB = sum(counts, start=q_HND.new_zeros((n_heads, _N_BINS), dtype=torch.int64))
    total_HB[:, 0] -= torch.isin(query, key).sum()  # a gene with itself, which a panel holds as 0
    return total_HB


@fake("head_hist")
def _(
    q_HND: Tensor,
    k_HND: Tensor,
    query: Tensor,
    key: Tensor,
    *,
    lse_HN: Tensor | None,
    scale: float,
    backend: str,
    kind: str = "softmax",
) -> Tensor:
    return q_HND.new_empty((len(q_HND), _N_BINS), dtype=torch.int64)


def _count(counts_HB: Tensor, x: Tensor) -> None:
    """Add the shares of each head, ``x[:, h]``, to its counts."""
    for head in range(len(counts_HB)):
        bins = x[:, head].reshape(-1).view(torch.int32) >> _SHIFT
        counts_HB[head] += torch.bincount(bins, minlength=_N_BINS)
