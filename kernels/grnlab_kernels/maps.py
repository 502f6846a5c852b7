"""Attention maps from pooled queries and keys, one panel of rows at a time; never (heads, genes, genes).

The map of a group of cells is a weighted mean of per-head softmax maps over the N genes,

    A[i, j] = Σ_h w_h · exp(s · q_hi · k_hj − L_hi),   L_hi = log Σ_j exp(s · q_hi · k_hj),   Σ_h w_h = 1,

row i the gene that attends (query), column j the gene attended to (key). Of linear attention the map is one of products
of features, see :mod:`grnlab_kernels.kernel_maps`. Shape suffixes: H heads, N genes, D head dimension, R rows of a
panel, K edges kept, C candidates.

Cost. One direction of P rows takes 2 H P N D flops and H P N exponentials: rows of A as they stand. Rows of the
transpose need all L first, a pass of its own over the map, and rows of the symmetrised map both. A map of up to 11,585
genes (512 MB) is therefore made whole and turned or folded in place, one pass in all instead of two or three.

Limit. Float32 logits of size x are off by about 10⁻⁷ x, and shares by that factor: a percent at logits of 10⁵; beyond
10⁷ only rows with a clear winner mean anything. No share passes 1 at any size. On the CPU rows of A sum to 1 and column
sums to N at any size; with Triton, and in panels of the transpose, L is rounded too and sums drift by the same factor.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from grnlab_kernels import kernel_maps, map_source
from grnlab_kernels.checks import check_genes, check_weights
from grnlab_kernels.map_source import MapSource


@dataclass(frozen=True)
class MapOptions:
    """How heads are combined and corrected.

    Attributes
    ----------
    scale
        Factor of the logits, 1/√d_head; positive.
    symmetrize
        ``(A + Aᵀ) / 2``.
    apc
        Average product correction: subtract ``row sum · column sum / total`` (Dunn et al. 2008,
        doi:10.1093/bioinformatics/btm604), which takes away what a gene gives to or gets from everybody.
    kind
        ``"softmax"``; or ``"kernel"``, of features in the place of queries and keys, which have no scale.
    """

    scale: float
    symmetrize: bool = False
    apc: bool = False
    kind: str = "softmax"


def row_lse(q_HND: Tensor, k_HND: Tensor, *, scale: float, backend: str = "auto") -> Tensor:
    """Log-sum-exp of every row of every head, ``L[h, i] = log Σ_j exp(scale · q_hi · k_hj)``.

    2 H N² D flops, H N² exponentials, 8 H N D bytes of queries and keys; holds a panel of logits for each worker.

    Parameters
    ----------
    q_HND, k_HND, backend
        As in :func:`combine_map`.
    scale
        Factor of the logits, 1/√d_head; positive.

    Returns
    -------
    float32, shape (heads, genes).

    Raises
    ------
    ValueError, TypeError
        When shapes, dtypes or devices do not fit; the message names the argument.

    Examples
    --------
    >>> row_lse(torch.zeros(1, 4, 16), torch.zeros(1, 4, 16), scale=0.25).exp().tolist()
    [[4.0, 4.0, 4.0, 4.0]]
    """
    q_HND, k_HND, backend = kernel_maps.prepare(q_HND, k_HND, scale=scale, kind="softmax", backend=backend)
    return map_source.row_lse(q_HND, k_HND, scale, backend)


def combine_map(
    q_HND: Tensor,
    k_HND: Tensor,
    weights_H: Tensor,
    options: MapOptions,
    *,
    rows: tuple[int, int] | None = None,
    transpose: bool = False,
    lse_HN: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Rows of the map, or all of it, and the sums of their columns.

    Parameters
    ----------
    q_HND, k_HND
        Pooled queries and keys, shape (heads, genes, d_head), contiguous; float32, float16 (computed as float32) or
        bfloat16 (on the CPU multiplied in bfloat16, logits off by up to 0.4 % of themselves, all else in float32: a
        third faster where the CPU has instructions for it).
    weights_H
        Weight of each head; scaled to sum to 1. Heads of weight 0 cost nothing.
    options
        Scale, symmetrising and correction.
    rows
        First row and end. All by default, without a pass for the log-sum-exp; they must fit in memory.
    transpose
        Rows of the transposed map: rows are keys.
    lse_HN
        :func:`row_lse` of these queries, keys and scale, where it is known already. Only `rows` of a transposed or
        symmetrised map need it.
    backend
        See :func:`grnlab_kernels.resolve_backend`.

    Returns
    -------
    Panel of shape (end − first, N), float32, and the sums of its columns before any APC, float64, shape (N,).

    Raises
    ------
    ValueError, TypeError
        When shapes, dtypes or devices do not fit, or no head has a positive weight; the message names the argument.

    Examples
    --------
    >>> q = k = torch.zeros(2, 4, 16)
    >>> panel, sums = combine_map(q, k, torch.ones(2), MapOptions(0.25), rows=(0, 2))
    >>> panel.tolist(), sums.tolist()
    ([[0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]], [0.5, 0.5, 0.5, 0.5])
    """
    chosen = _source(q_HND, k_HND, weights_H, options, backend, transpose=transpose, lse_HN=lse_HN)
    if rows is None:
        return chosen.whole()
    start, end = rows
    if not 0 <= start < end <= q_HND.shape[1]:
        msg = f"rows={rows} must be a first row and an end within the {q_HND.shape[1]} genes, at least one row."
        raise ValueError(msg)
    return chosen.rows(start, end)


def column_sums(q_HND: Tensor, k_HND: Tensor, weights_H: Tensor, *, scale: float, backend: str = "auto") -> Tensor:
    """Column sums of the map, float64, shape (N,): the attention each gene receives from all others and itself.

    One direction of all rows, see above; holds a panel for each worker. Parameters as in :func:`combine_map`. They add
    up to N, at logits of any size, to float32 rounding of the rows.

    Examples
    --------
    >>> column_sums(torch.zeros(1, 4, 16), torch.zeros(1, 4, 16), torch.ones(1), scale=0.25).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    chosen = _source(q_HND, k_HND, weights_H, MapOptions(scale), backend)
    return map_source.column_sums(chosen.q_HND, chosen.k_HND, chosen.share_H, scale, chosen.backend)


def map_panels(
    q_HND: Tensor,
    k_HND: Tensor,
    weights_H: Tensor,
    options: MapOptions,
    *,
    transpose: bool = False,
    backend: str = "auto",
) -> Iterator[tuple[int, Tensor]]:
    """Stream the map as panels of rows: first row of the panel, and the panel of shape (R, N), float32.

    Parameters and errors as in :func:`combine_map`; errors come at the call. The panels are yours to change. On the CPU
    at most two finished ones a worker wait to be taken, or the whole map where it takes at most 512 MB and is
    transposed, symmetrised or corrected.

    Examples
    --------
    >>> q = k = torch.zeros(1, 200, 16)
    >>> [(first, tuple(panel.shape)) for first, panel in map_panels(q, k, torch.ones(1), MapOptions(0.25))]
    [(0, (128, 200)), (128, (72, 200))]
    """
    chosen = _source(q_HND, k_HND, weights_H, options, backend, transpose=transpose)
    return chosen.stream(lambda start, panel_RN: (start, panel_RN))


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
    """Find the strongest partners of each gene, exactly, in O(N · K) memory and what :func:`map_panels` holds.

    Parameters
    ----------
    q_HND, k_HND, weights_H, options, backend
        As in :func:`combine_map`.
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

    Raises
    ------
    ValueError, TypeError
        As :func:`combine_map`, for an unknown `per`, no edge asked for, bad `candidates`, or queries and keys that are
        not finite.

    Examples
    --------
    >>> q, k = torch.eye(3)[None], torch.eye(3)[None, [1, 2, 0]]  # gene 0 attends to 2, 1 to 0, 2 to 1
    >>> topk_edges(q, k, torch.ones(1), 1, MapOptions(1.0))[0].ravel().tolist()
    [2, 0, 1]
    """
    if per not in ("query", "key"):
        msg = f"per={per!r} is unknown; choose 'query' or 'key'."
        raise ValueError(msg)
    if n_edges < 1:
        msg = f"n_edges={n_edges} must be at least 1."
        raise ValueError(msg)
    chosen = _source(q_HND, k_HND, weights_H, options, backend, transpose=per == "key")
    if candidates is not None:
        check_genes("candidates", candidates, q_HND.shape[1])
        if candidates.ndim != 1 or (candidates.diff() <= 0).any():
            msg = f"candidates of shape {tuple(candidates.shape)} must be a list of rising gene numbers; use .unique()."
            raise ValueError(msg)
        candidates = candidates.to(q_HND.device)
    partner_NK, value_NK = map_source.topk_edges(
        *(chosen.q_HND, chosen.k_HND, chosen.share_H, candidates),
        n_edges=n_edges,
        scale=options.scale,
        symmetrize=options.symmetrize,
        apc=options.apc,
        transpose=chosen.transpose,
        backend=chosen.backend,
        kind=options.kind,
    )
    if value_NK.numel() and (value_NK[:, 0].isnan() & (partner_NK[:, 0] >= 0)).any():
        msg = "the map is not finite: q_HND and k_HND must be finite, and their products within float32."
        raise ValueError(msg)
    return partner_NK, value_NK


def _source(
    q_HND: Tensor,
    k_HND: Tensor,
    weights_H: Tensor,
    options: MapOptions,
    backend: str,
    *,
    transpose: bool = False,
    lse_HN: Tensor | None = None,
) -> MapSource:
    """Check the arguments of a map and leave out its heads of weight 0."""
    q_HND, k_HND, backend = kernel_maps.prepare(q_HND, k_HND, scale=options.scale, kind=options.kind, backend=backend)
    check_weights(weights_H, len(q_HND))
    expected = q_HND.shape[:2], torch.float32, q_HND.device
    if lse_HN is not None and (found := (lse_HN.shape, lse_HN.dtype, lse_HN.device)) != expected:
        msg = f"lse_HN is {found}; expected shape, dtype and device {expected}, as row_lse returns it."
        raise ValueError(msg)
    share_H = (weights_H.detach().double() / weights_H.sum(dtype=torch.float64)).float().to(q_HND.device)
    chosen = torch.nonzero(share_H).ravel()
    if len(chosen) < len(share_H):
        q_HND, k_HND, share_H = q_HND[chosen], k_HND[chosen], share_H[chosen]
        lse_HN = None if lse_HN is None else lse_HN[chosen]
    return MapSource(
        *(q_HND, k_HND, share_H, options.scale, backend, options.symmetrize, options.apc, transpose, lse_HN),
        kind=options.kind,
    )
