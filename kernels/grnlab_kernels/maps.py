"""Attention maps from pooled queries and keys, one panel of rows at a time; never (heads, genes, genes).

The map of a group of cells is a weighted mean of per-head softmax maps over the N genes,

    A[i, j] = Σ_h w_h · exp(s · q_hi · k_hj − L_hi),   L_hi = log Σ_j exp(s · q_hi · k_hj),   Σ_h w_h = 1,

row i the gene that attends (query), column j the gene attended to (key). Shape suffixes: H heads, N genes, D head
dimension, R rows of a panel, K edges kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from grnlab_kernels.dispatch import resolve_backend

_PANEL_BYTES = 8 << 20  # a panel and its two buffers stay near the last-level cache


@dataclass(frozen=True)
class MapOptions:
    """How heads are combined and corrected.

    Attributes
    ----------
    scale
        Factor of the logits, 1/√d_head.
    symmetrize
        ``(A + Aᵀ) / 2``.
    apc
        Average product correction: subtract ``row sum · column sum / total`` (Dunn et al. 2008,
        doi:10.1093/bioinformatics/btm604), which takes away what a gene gives to or gets from everybody.
    """

    scale: float
    symmetrize: bool = False
    apc: bool = False


def row_lse(q_HND: Tensor, k_HND: Tensor, *, scale: float, backend: str = "auto") -> Tensor:
    """Log-sum-exp of every row of every head, float32, shape (H, N).

    Costs 2 H N² D flops and one exponential per element; holds one panel.
    """
    resolve_backend(backend)
    _check(q_HND, k_HND)
    n_heads, n_genes, _ = q_HND.shape
    lse_HN = torch.empty(n_heads, n_genes, device=q_HND.device)
    for start, end in _panels(n_genes):
        for head in range(n_heads):
            logits_RN = (q_HND[head, start:end] * scale) @ k_HND[head].T
            lse_HN[head, start:end] = torch.logsumexp(logits_RN, dim=-1)
    return lse_HN


def column_sums(q_HND: Tensor, k_HND: Tensor, weights_H: Tensor, *, scale: float, backend: str = "auto") -> Tensor:
    """Column sums of the map, float64, shape (N,): the attention each gene receives from all others and itself."""
    total_N = torch.zeros(q_HND.shape[1], dtype=torch.float64, device=q_HND.device)
    for _, panel_RN in map_panels(q_HND, k_HND, weights_H, MapOptions(scale), backend=backend):
        total_N += panel_RN.sum(0, dtype=torch.float64)
    return total_N


def map_panels(
    q_HND: Tensor,
    k_HND: Tensor,
    weights_H: Tensor,
    options: MapOptions,
    *,
    transpose: bool = False,
    backend: str = "auto",
) -> Iterator[tuple[int, Tensor]]:
    """Stream the map as panels of rows.

    Parameters
    ----------
    q_HND, k_HND
        Pooled queries and keys, float32, shape (heads, genes, d_head).
    weights_H
        Weight of each head; scaled to sum to 1. Heads of weight 0 cost nothing.
    options
        Scale, symmetrising and correction.
    transpose
        Panels of the transposed map: rows are keys.
    backend
        See :func:`grnlab_kernels.resolve_backend`.

    Yields
    ------
    First row of the panel, and the panel of shape (R, N), float32, which the next step overwrites.

    Raises
    ------
    ValueError
        When shapes do not fit or no head has a positive weight.
    """
    resolve_backend(backend)
    _check(q_HND, k_HND)
    q_HND, k_HND, weights = _chosen_heads(q_HND, k_HND, weights_H)
    q_HND = q_HND * options.scale
    n_genes = q_HND.shape[1]
    forward, backward = options.symmetrize or not transpose, options.symmetrize or transpose
    lse_HN = row_lse(q_HND, k_HND, scale=1.0) if backward else None
    correction = _apc_terms(q_HND, k_HND, weights, options, transpose=transpose) if options.apc else None
    for start, end in _panels(n_genes):
        panel_RN = torch.zeros(end - start, n_genes, device=q_HND.device)
        logits_RN = torch.empty_like(panel_RN)
        for head, weight in enumerate(weights):
            if forward:
                torch.mm(q_HND[head, start:end], k_HND[head].T, out=logits_RN)
                panel_RN.add_(torch.softmax(logits_RN, dim=-1), alpha=weight)
            if lse_HN is not None:
                torch.mm(k_HND[head, start:end], q_HND[head].T, out=logits_RN)
                # a share is at most 1, also where huge logits leave rounding errors above 0
                panel_RN.add_(logits_RN.sub_(lse_HN[head]).clamp_(max=0.0).exp_(), alpha=weight)
        if options.symmetrize:
            panel_RN *= 0.5
        if correction is not None:
            row_N, column_N = correction
            panel_RN.addr_(row_N[start:end], column_N, alpha=-1.0)
        yield start, panel_RN


def topk_edges(
    q_HND: Tensor,
    k_HND: Tensor,
    weights_H: Tensor,
    n_edges: int,
    options: MapOptions,
    *,
    per: str = "query",
    candidates: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Find the strongest partners of each gene, exactly, in O(N · K) memory.

    Parameters
    ----------
    q_HND, k_HND, weights_H, options, backend
        As in :func:`map_panels`.
    n_edges
        Partners K kept per gene; fewer when there are not so many.
    per
        ``"query"``: the K keys a gene attends to most. ``"key"``: the K queries that attend to it most.
    candidates
        Genes that may be partners, int64, increasing; all by default. The softmax runs over all genes all the same.

    Returns
    -------
    Partner of each gene, int64, and the value of the map, float32, both (N, K): strongest first, ties by the lower
    gene number. A gene is not its own partner; a place without partner holds -1 and NaN.
    """
    if per not in ("query", "key"):
        msg = f"per={per!r} is unknown; choose 'query' or 'key'."
        raise ValueError(msg)
    if n_edges < 1:
        msg = f"n_edges={n_edges} must be at least 1."
        raise ValueError(msg)
    n_genes = q_HND.shape[1]
    columns = torch.arange(n_genes, device=q_HND.device) if candidates is None else candidates
    n_kept = min(n_edges, len(columns))
    partner_NK = torch.empty(n_genes, n_kept, dtype=torch.int64, device=q_HND.device)
    value_NK = torch.empty(n_genes, n_kept, device=q_HND.device)
    for start, panel_RN in map_panels(q_HND, k_HND, weights_H, options, transpose=per == "key", backend=backend):
        rows = torch.arange(start, start + len(panel_RN), device=panel_RN.device)
        panel_RN[torch.arange(len(rows)), rows] = -torch.inf
        allowed_RC = panel_RN if candidates is None else panel_RN[:, columns]
        value, place = _stable_topk(allowed_RC, n_kept)
        partner_NK[rows], value_NK[rows] = columns[place], value
    nobody = value_NK == -torch.inf
    return partner_NK.masked_fill_(nobody, -1), value_NK.masked_fill_(nobody, torch.nan)


def _stable_topk(panel_RC: Tensor, n_kept: int) -> tuple[Tensor, Tensor]:
    """Top values by row, ties by the lower column; torch.topk alone leaves the choice among ties open."""
    value, place = panel_RC.topk(n_kept, dim=-1)
    last = value[:, -1:]
    cut_ties = (panel_RC == last).sum(-1) != (value == last).sum(-1)
    if cut_ties.any():
        exact = panel_RC[cut_ties].sort(dim=-1, descending=True, stable=True)
        value[cut_ties], place[cut_ties] = exact.values[:, :n_kept], exact.indices[:, :n_kept]
    by_column = place.argsort(dim=-1)
    value, place = value.gather(-1, by_column), place.gather(-1, by_column)
    by_value = value.sort(dim=-1, descending=True, stable=True).indices
    return value.gather(-1, by_value), place.gather(-1, by_value)


def _apc_terms(
    q_HND: Tensor, k_HND: Tensor, weights: list[float], options: MapOptions, *, transpose: bool
) -> tuple[Tensor, Tensor]:
    """Row and column factors whose outer product is the correction. Rows of the map sum to 1, so N is the total."""
    n_genes = q_HND.shape[1]
    received_N = column_sums(q_HND, k_HND, torch.tensor(weights), scale=1.0)
    given_N = torch.ones_like(received_N)
    if options.symmetrize:
        given_N = received_N = (given_N + received_N) / 2
    if transpose:
        given_N, received_N = received_N, given_N
    return given_N.float(), (received_N / n_genes).float()


def _chosen_heads(q_HND: Tensor, k_HND: Tensor, weights_H: Tensor) -> tuple[Tensor, Tensor, list[float]]:
    if weights_H.shape != q_HND.shape[:1]:
        msg = f"weights_H has shape {tuple(weights_H.shape)}; expected one weight for each of {len(q_HND)} heads."
        raise ValueError(msg)
    if (weights_H < 0).any() or not weights_H.sum() > 0:
        msg = f"weights_H must be non-negative with a positive sum; got {weights_H.tolist()}."
        raise ValueError(msg)
    chosen = torch.nonzero(weights_H).ravel()
    weights = (weights_H[chosen].double() / weights_H.sum(dtype=torch.float64)).tolist()
    return q_HND[chosen].float(), k_HND[chosen].float(), weights


def _check(q_HND: Tensor, k_HND: Tensor) -> None:
    if q_HND.ndim != 3 or q_HND.shape != k_HND.shape:
        msg = (
            "q_HND and k_HND must have the same shape (heads, genes, d_head); got "
            f"{tuple(q_HND.shape)} and {tuple(k_HND.shape)}."
        )
        raise ValueError(msg)


def _panels(n_genes: int) -> Iterator[tuple[int, int]]:
    rows = max(16, min(512, _PANEL_BYTES // (4 * max(n_genes, 1))))
    for start in range(0, n_genes, rows):
        yield start, min(start + rows, n_genes)
