"""Row log-sum-exp and the weighted mean of softmax maps; the formulas are those of :mod:`grnlab_kernels.maps`.

Exponentials are powers of two: ``exp(s · x − L) = 2^(s log₂e · x − L log₂e)``, one fused multiply-add and one
instruction of the special function unit. Rows and columns beyond the last gene read the last gene again, which costs
no mask in the loop; their results are masked (row_lse) or not stored (combine_map).

Shape suffixes: H heads, N genes, D head dimension, R rows of a panel.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from grnlab_kernels.triton_kernels.tiles import tile

_LOG2_E = tl.constexpr(1.4426950408889634)
_LN_2 = tl.constexpr(0.6931471805599453)
_NEVER = tl.constexpr(-1e30)  # a logit whose exponential is 0; -inf would make NaN of -inf - -inf
_BAND = tl.constexpr(8)  # row tiles that share the keys of a column tile while those are in the L2 cache


@triton.jit
def scores(a_RD, b_CD, INTERPRETED: tl.constexpr):
    """Products of all rows in float32, shape (R, C)."""
    if INTERPRETED:  # the interpreter multiplies the bit patterns of bfloat16
        a_RD, b_CD = a_RD.to(tl.float32), b_CD.to(tl.float32)
    return tl.dot(a_RD, tl.trans(b_CD), input_precision="tf32x3")


@triton.jit
def scores_by_depth(a, b, row, column, D: tl.constexpr, DEPTH: tl.constexpr, INTERPRETED: tl.constexpr):
    """`scores` of rows of a and b, contiguous (genes, D), DEPTH of the D at a time: float32 fills the registers."""
    d = tl.arange(0, DEPTH)
    scores_RC = tl.zeros((row.shape[0], column.shape[0]), tl.float32)
    for first in tl.static_range(0, D, DEPTH):
        a_RD = tl.load(a + (row * D)[:, None] + (first + d)[None, :])
        b_CD = tl.load(b + (column * D)[:, None] + (first + d)[None, :])
        scores_RC += scores(a_RD, b_CD, INTERPRETED)
    return scores_RC


@triton.jit
def shares(scores_RC, scale_log2, lse):
    """``exp(scale · score − lse)``, at most 1 also where huge logits leave rounding errors; NaN stays NaN."""
    exponent_RC = tl.fma(scores_RC, scale_log2, lse * (-_LOG2_E))
    return tl.exp2(tl.minimum(exponent_RC, 0.0, propagate_nan=tl.PropagateNan.ALL))


@triton.jit
def _add_columns(
    top_R,
    total_R,
    q_head,
    k_head,
    known_row,
    start,
    n_genes,
    scale_log2,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    MASKED: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Running maximum of the scores and ``Σ 2^(scale_log2 · (score − maximum))``, with one more tile of columns."""
    column = start + tl.arange(0, COLUMNS)
    known_column = tl.minimum(column, n_genes - 1) if MASKED else column
    scores_RC = scores_by_depth(q_head, k_head, known_row, known_column, D, DEPTH, INTERPRETED)
    if MASKED:
        scores_RC = tl.where((column < n_genes)[None, :], scores_RC, _NEVER)
    new_top_R = tl.maximum(top_R, tl.max(scores_RC, axis=1))
    new_R = tl.sum(tl.exp2(tl.fma(scores_RC, scale_log2, -(new_top_R * scale_log2)[:, None])), axis=1)
    return new_top_R, tl.fma(total_R, tl.exp2((top_R - new_top_R) * scale_log2), new_R)


@triton.jit
def row_lse_kernel(
    q,
    k,
    lse,
    n_genes,
    scale_log2,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    head = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    known_row = tl.minimum(row, n_genes - 1)
    q_head, k_head = q + head * n_genes * D, k + head * n_genes * D
    top_R = tl.full((ROWS,), _NEVER, tl.float32)
    total_R = tl.zeros((ROWS,), tl.float32)
    whole = n_genes // COLUMNS * COLUMNS
    for start in range(0, whole, COLUMNS):
        top_R, total_R = _add_columns(
            top_R, total_R, q_head, k_head, known_row, start, n_genes, scale_log2, D, DEPTH, COLUMNS, False, INTERPRETED
        )
    if whole < n_genes:
        top_R, total_R = _add_columns(
            top_R, total_R, q_head, k_head, known_row, whole, n_genes, scale_log2, D, DEPTH, COLUMNS, True, INTERPRETED
        )
    lse_R = tl.fma(top_R * scale_log2, _LN_2, tl.log2(total_R) * _LN_2)
    tl.store(lse + head * n_genes + row, lse_R, mask=row < n_genes)


@triton.jit
def _add_heads(
    panel_RC,
    a,
    b,
    lse,
    share,
    n_heads,
    n_genes,
    row,
    column,
    scale_log2,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    LSE_OF_ROWS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Add ``Σ_h share_h exp(scale · a_hi · b_hj − L_h)``, L of the row i or of the column j."""
    for head in range(n_heads):
        first = tl.cast(head, tl.int64) * n_genes  # heads · genes · d_head may pass 2³¹
        scores_RC = scores_by_depth(a + first * D, b + first * D, row, column, D, DEPTH, INTERPRETED)
        lse_1C = tl.load(lse + first + row)[:, None] if LSE_OF_ROWS else tl.load(lse + first + column)[None, :]
        panel_RC = tl.fma(tl.load(share + head), shares(scores_RC, scale_log2, lse_1C), panel_RC)
    return panel_RC


@triton.jit(do_not_specialize=["start", "end"])  # else panels compile it anew
def combine_map_kernel(
    q,
    k,
    lse,
    share,
    panel,
    partial,
    n_heads,
    n_genes,
    start,
    end,
    scale_log2,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    FORWARD: tl.constexpr,
    BACKWARD: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    # bands of row tiles, column by column, so that a wave of programs shares its queries and keys
    row_tiles, column_tiles = tl.cdiv(end - start, ROWS), tl.cdiv(n_genes, COLUMNS)
    band = tl.program_id(0) // (_BAND * column_tiles)
    band_rows = tl.minimum(row_tiles - band * _BAND, _BAND)
    place = tl.program_id(0) % (_BAND * column_tiles)
    row_tile, column_tile = band * _BAND + place % band_rows, place // band_rows

    row = start + row_tile * ROWS + tl.arange(0, ROWS)
    column = column_tile * COLUMNS + tl.arange(0, COLUMNS)
    row_R, column_C = tl.minimum(row, n_genes - 1), tl.minimum(column, n_genes - 1)
    panel_RC = tl.zeros((ROWS, COLUMNS), tl.float32)
    # one direction after the other: both in one loop would hold twice the tiles in flight, and spill
    if FORWARD:
        panel_RC = _add_heads(
            panel_RC, q, k, lse, share, n_heads, n_genes, row_R, column_C, scale_log2, D, DEPTH, True, INTERPRETED
        )
    if BACKWARD:
        panel_RC = _add_heads(
            panel_RC, k, q, lse, share, n_heads, n_genes, row_R, column_C, scale_log2, D, DEPTH, False, INTERPRETED
        )
    if FORWARD and BACKWARD:
        panel_RC *= 0.5

    inside_R, inside_C = row < end, column < n_genes
    panel_R = panel + (row - start).to(tl.int64) * n_genes
    tl.store(panel_R[:, None] + column[None, :], panel_RC, mask=inside_R[:, None] & inside_C[None, :])
    sum_C = tl.sum(tl.where(inside_R[:, None], panel_RC, 0.0), axis=0)
    tl.store(partial + row_tile.to(tl.int64) * n_genes + column, sum_C, mask=inside_C)


def row_lse(q_HND: Tensor, k_HND: Tensor, scale: float) -> Tensor:
    """Log-sum-exp of every row of every head, float32, shape (H, N).

    Reads each query once and every key N / rows of a tile times: 2 H N² D flops, H N² exponentials.

    Parameters
    ----------
    q_HND, k_HND
        Contiguous, of one dtype: float32, bfloat16 or float16.
    scale
        Factor of the logits, above 0.

    Raises
    ------
    ValueError
        When the scale is not above 0: the running maximum is that of the scores before they are scaled.
    """
    if not scale > 0:
        msg = f"scale={scale} must be above 0; to turn the sign of the logits, turn that of q_HND."
        raise ValueError(msg)
    n_heads, n_genes, d_head = q_HND.shape
    size = tile("row_lse", d_head, q_HND.device, q_HND.dtype)
    lse_HN = torch.empty(n_heads, n_genes, dtype=torch.float32, device=q_HND.device)
    with torch.cuda.device_of(q_HND):
        row_lse_kernel[(triton.cdiv(n_genes, size.rows), n_heads)](
            q_HND,
            k_HND,
            lse_HN,
            n_genes,
            scale * _LOG2_E.value,
            **size.launch(d_head),
        )
    return lse_HN


def combine_map(
    q_HND: Tensor,
    k_HND: Tensor,
    share_H: Tensor,
    lse_HN: Tensor,
    scale: float,
    start: int,
    end: int,
    forward: bool,
    backward: bool,
) -> tuple[Tensor, Tensor]:
    """Rows `start` to `end` of the combined map, and their column sums.

    ``panel[r, j] = Σ_h share_h (exp(s q_hi · k_hj − L_hi) [forward] + exp(s k_hi · q_hj − L_hj) [backward])`` with
    i = start + r; half of it when both are asked for, which is the symmetrised map. Writes 4 R N bytes once; 2 H R N D
    flops and H R N exponentials in each direction. Sums of columns are those of the tiles, added in float64 in a fixed
    order: the same input gives the same bits.

    Parameters
    ----------
    q_HND, k_HND
        Contiguous, of one dtype: float32, bfloat16 or float16; only heads that count.
    share_H
        Weight of each head, float32.
    lse_HN
        As :func:`row_lse` gave it.
    scale, start, end
        Factor of the logits; rows of the map, ``0 <= start < end <= N``.
    forward, backward
        Queries attend as rows; keys are attended to as rows (the transposed map).

    Returns
    -------
    Panel, shape (R, N), and column sums, shape (N,), both float32.
    """
    n_heads, n_genes, d_head = q_HND.shape
    size = tile("combine_map", d_head, q_HND.device, q_HND.dtype)
    row_tiles, column_tiles = triton.cdiv(end - start, size.rows), triton.cdiv(n_genes, size.columns)
    panel_RN = torch.empty(end - start, n_genes, dtype=torch.float32, device=q_HND.device)
    partial_TN = torch.empty(row_tiles, n_genes, dtype=torch.float32, device=q_HND.device)
    with torch.cuda.device_of(q_HND):
        combine_map_kernel[(row_tiles * column_tiles,)](
            q_HND,
            k_HND,
            lse_HN,
            share_H,
            panel_RN,
            partial_TN,
            n_heads,
            n_genes,
            start,
            end,
            scale * _LOG2_E.value,
            FORWARD=forward,
            BACKWARD=backward,
            **size.launch(d_head),
        )
    return panel_RN, partial_TN.sum(0, dtype=torch.float64).float()
