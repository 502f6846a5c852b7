"""Attention of every head at the pairs of some query and some key genes, stored or counted.

The formulas are those of :mod:`grnlab_kernels.pairs` and :mod:`grnlab_kernels.histograms`. A program holds one tile of
pairs of one head. Rows and columns beyond the last gene read the last gene again, and are not stored.

Shape suffixes: H heads, N genes, D head dimension, R query genes, C key genes, B bins.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from grnlab_kernels.triton_kernels.maps import scores_by_depth, shares
from grnlab_kernels.triton_kernels.tiles import tile

_LOG2_E = math.log2(math.e)
_ONE_BITS = 0x3F800000  # of 1.0 in float32


@triton.jit
def _tile_of_shares(
    q,
    k,
    lse,
    query,
    key,
    n_rows,
    n_columns,
    n_genes,
    scale_log2,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Attention of this program's tile, its rows and columns, and where a stored pair of two different genes stands."""
    column_tiles = tl.cdiv(n_columns, COLUMNS)
    row = tl.program_id(0) // column_tiles * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(1).to(tl.int64) * n_genes  # heads · genes · d_head may pass 2³¹
    gene_R = first + tl.load(query + tl.minimum(row, n_rows - 1))
    gene_C = first + tl.load(key + tl.minimum(column, n_columns - 1))
    scores_RC = scores_by_depth(q, k, gene_R, gene_C, D, DEPTH, INTERPRETED)
    shares_RC = shares(scores_RC, scale_log2, tl.load(lse + gene_R)[:, None])
    inside_RC = (row < n_rows)[:, None] & (column < n_columns)[None, :]
    return shares_RC, row, column, inside_RC, gene_R[:, None] != gene_C[None, :]


@triton.jit
def head_panel_kernel(
    q,
    k,
    lse,
    query,
    key,
    panel,
    n_rows,
    n_columns,
    n_genes,
    scale_log2,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Store one tile of one head; a gene with itself is 0."""
    shares_RC, row, column, inside_RC, two_genes_RC = _tile_of_shares(
        q, k, lse, query, key, n_rows, n_columns, n_genes, scale_log2, D, DEPTH, ROWS, COLUMNS, INTERPRETED
    )
    panel_R = panel + (row.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * n_columns
    tl.store(panel_R[:, None] + column[None, :], tl.where(two_genes_RC, shares_RC, 0.0), mask=inside_RC)


@triton.jit
def head_hist_kernel(
    q,
    k,
    lse,
    query,
    key,
    counts,
    n_rows,
    n_columns,
    n_genes,
    n_bins,
    scale_log2,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    SHIFT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Count one tile of one head."""
    shares_RC, _, _, inside_RC, two_genes_RC = _tile_of_shares(
        q, k, lse, query, key, n_rows, n_columns, n_genes, scale_log2, D, DEPTH, ROWS, COLUMNS, INTERPRETED
    )
    bin_RC = shares_RC.to(tl.int32, bitcast=True) >> SHIFT
    counted_RC = inside_RC & two_genes_RC & (bin_RC >= 0) & (bin_RC < n_bins)  # NaN has no bin
    ones_RC = tl.full((ROWS, COLUMNS), 1, tl.int64)
    tl.atomic_add(counts + tl.program_id(1).to(tl.int64) * n_bins + bin_RC, ones_RC, mask=counted_RC, sem="relaxed")


def head_panel(q_HND: Tensor, k_HND: Tensor, lse_HN: Tensor, scale: float, query_R: Tensor, key_C: Tensor) -> Tensor:
    """Attention of every head at all pairs of these genes, float32, shape (R, H, C); a gene with itself holds 0.

    2 D flops and one exponential a number, 4 bytes written; reads each row of queries and keys once a tile.
    """
    n_heads, n_genes, d_head = q_HND.shape
    chosen = tile("head_panel", d_head, q_HND.device, q_HND.dtype)
    n_rows, n_columns = len(query_R), len(key_C)
    panel_RHC = torch.empty(n_rows, n_heads, n_columns, dtype=torch.float32, device=q_HND.device)
    grid = (triton.cdiv(n_rows, chosen.rows) * triton.cdiv(n_columns, chosen.columns), n_heads)
    with torch.cuda.device_of(q_HND):
        head_panel_kernel[grid](
            *(q_HND, k_HND, lse_HN, query_R, key_C, panel_RHC),
            *(n_rows, n_columns, n_genes, scale * _LOG2_E),
            **chosen.launch(d_head),
        )
    return panel_RHC


def head_hist(
    q_HND: Tensor, k_HND: Tensor, lse_HN: Tensor, scale: float, query_R: Tensor, key_C: Tensor, shift: int
) -> Tensor:
    """Number of pairs of two different genes by ``bits(attention) >> shift``, int64, shape (H, B).

    2 D flops, one exponential and one integer atomic addition a pair; nothing else is written.
    """
    n_heads, n_genes, d_head = q_HND.shape
    chosen = tile("head_hist", d_head, q_HND.device, q_HND.dtype)
    n_rows, n_columns = len(query_R), len(key_C)
    n_bins = (_ONE_BITS >> shift) + 1
    counts_HB = torch.zeros(n_heads, n_bins, dtype=torch.int64, device=q_HND.device)
    grid = (triton.cdiv(n_rows, chosen.rows) * triton.cdiv(n_columns, chosen.columns), n_heads)
    if not grid[0]:
        return counts_HB
    with torch.cuda.device_of(q_HND):
        head_hist_kernel[grid](
            *(q_HND, k_HND, lse_HN, query_R, key_C, counts_HB),
            *(n_rows, n_columns, n_genes, n_bins, scale * _LOG2_E),
            SHIFT=shift,
            **chosen.launch(d_head),
        )
    return counts_HB
