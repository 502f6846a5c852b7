"""Sums over cells of their attention; the formulas are those of :mod:`grnlab_kernels.cells`.

A program holds one tile of the output in registers and goes through heads (and, where cells share their genes, cells),
so that each tile is written once. Rows and columns beyond the last gene read the last gene again, and are not stored.
Shape suffixes as in :mod:`grnlab_kernels.cells`; C columns of a tile.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from grnlab_kernels.triton_kernels.maps import scores_by_depth, shares
from grnlab_kernels.triton_kernels.tiles import tile

_LOG2_E = 1.4426950408889634
_LN_2 = tl.constexpr(0.6931471805599453)
_NEVER = tl.constexpr(-1e30)  # a logit whose exponential is 0; -inf would make NaN of -inf - -inf
_ENOUGH_PROGRAMS = 2_048  # several to each multiprocessor; cells are split into parts until there are as many


@triton.jit
def cell_lse_kernel(
    q,
    k,
    real,
    lse,
    n_heads,
    n_genes,
    scale_log2,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Log-sum-exp over the real keys, of a tile of rows of one head of one cell."""
    row_tiles = tl.cdiv(n_genes, ROWS)
    matrix = (tl.program_id(0) // row_tiles).to(tl.int64) * n_genes  # first row of this cell and head
    real_cell = real + (tl.program_id(0) // row_tiles // n_heads).to(tl.int64) * n_genes
    row = tl.program_id(0) % row_tiles * ROWS + tl.arange(0, ROWS)
    known_row = tl.minimum(row, n_genes - 1)
    top_R = tl.full((ROWS,), _NEVER, tl.float32)
    total_R = tl.zeros((ROWS,), tl.float32)
    for start in range(0, n_genes, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        known_column = tl.minimum(column, n_genes - 1)
        real_C = (tl.load(real_cell + known_column) != 0) & (column < n_genes)
        scores_RC = scores_by_depth(q + matrix * D, k + matrix * D, known_row, known_column, D, DEPTH, INTERPRETED)
        logits_RC = tl.where(real_C[None, :], scores_RC * scale_log2, _NEVER)
        new_top_R = tl.maximum(top_R, tl.max(logits_RC, axis=1))
        total_R = total_R * tl.exp2(top_R - new_top_R) + tl.sum(tl.exp2(logits_RC - new_top_R[:, None]), axis=1)
        top_R = new_top_R
    tl.store(lse + matrix + row, (top_R + tl.log2(total_R)) * _LN_2, mask=row < n_genes)


@triton.jit
def sum_heads(
    q,
    k,
    lse,
    share,
    n_heads,
    n_genes,
    row,
    column,
    scale_log2,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """``Σ_h share_h · exp(s · q_hi · k_hj − L_hi)``, over the heads of one cell or of several, one after the other."""
    panel_RC = tl.zeros((ROWS, COLUMNS), tl.float32)
    for head in range(n_heads):
        first = tl.cast(head, tl.int64) * n_genes
        scores_RC = scores_by_depth(q + first * D, k + first * D, row, column, D, DEPTH, INTERPRETED)
        panel_RC += tl.load(share + head) * shares(scores_RC, scale_log2, tl.load(lse + first + row)[:, None])
    return panel_RC


@triton.jit
def cell_mean_map_kernel(
    q,
    k,
    lse,
    share,
    part,
    n_cells,
    cells_per_part,
    n_heads,
    n_genes,
    scale_log2,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """One tile of the sum over one part of the cells."""
    column_tiles = tl.cdiv(n_genes, COLUMNS)
    row = tl.program_id(0) // column_tiles * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    first_cell = tl.program_id(1) * cells_per_part
    first = first_cell.to(tl.int64) * n_heads * n_genes  # cells · heads · genes · d_head may pass 2³¹
    n_all_heads = tl.minimum(cells_per_part, n_cells - first_cell) * n_heads
    panel_RC = sum_heads(
        *(q + first * D, k + first * D, lse + first, share, n_all_heads, n_genes),
        *(tl.minimum(row, n_genes - 1), tl.minimum(column, n_genes - 1), scale_log2),
        *(D, DEPTH, ROWS, COLUMNS, INTERPRETED),
    )
    part_R = part + (tl.program_id(1).to(tl.int64) * n_genes + row) * n_genes
    inside_RC = (row < n_genes)[:, None] & (column < n_genes)[None, :]
    tl.store(part_R[:, None] + column[None, :], panel_RC, mask=inside_RC)


@triton.jit
def cell_scatter_kernel(
    q,
    k,
    lse,
    share,
    genes,
    real,
    total,
    n_heads,
    n_genes,
    n_all_genes,
    scale_log2,
    D: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """One tile of one cell, added at its genes."""
    column_tiles = tl.cdiv(n_genes, COLUMNS)
    tiles = column_tiles * tl.cdiv(n_genes, ROWS)
    cell, place = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    row = place // column_tiles * ROWS + tl.arange(0, ROWS)
    column = place % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    known_row, known_column = tl.minimum(row, n_genes - 1), tl.minimum(column, n_genes - 1)
    first = cell.to(tl.int64) * n_heads * n_genes
    panel_RC = sum_heads(
        *(q + first * D, k + first * D, lse + first, share, n_heads, n_genes),
        *(known_row, known_column, scale_log2, D, DEPTH, ROWS, COLUMNS, INTERPRETED),
    )
    tokens = cell.to(tl.int64) * n_genes
    real_R = (tl.load(real + tokens + known_row) != 0) & (row < n_genes)
    real_C = (tl.load(real + tokens + known_column) != 0) & (column < n_genes)
    gene_R = tl.load(genes + tokens + known_row).to(tl.int64)
    gene_C = tl.load(genes + tokens + known_column).to(tl.int64)
    places_RC = (gene_R * n_all_genes)[:, None] + gene_C[None, :]
    values_RC = panel_RC.to(total.dtype.element_ty)
    tl.atomic_add(total + places_RC, values_RC, mask=real_R[:, None] & real_C[None, :], sem="relaxed")


def row_lse(q_BHTD: Tensor, k_BHTD: Tensor, scale: float, pad_BT: Tensor | None) -> Tensor:
    """Log-sum-exp of every row over the keys that are no padding, float32, shape (B, H, T)."""
    n_cells, n_heads, n_genes, d_head = q_BHTD.shape
    chosen = tile("cell_lse", d_head, q_BHTD.device, q_BHTD.dtype)
    lse_BHT = torch.empty(q_BHTD.shape[:3], dtype=torch.float32, device=q_BHTD.device)
    with torch.cuda.device_of(q_BHTD):
        cell_lse_kernel[(n_cells * n_heads * triton.cdiv(n_genes, chosen.rows),)](
            *(q_BHTD, k_BHTD, _real(pad_BT, q_BHTD), lse_BHT, n_heads, n_genes, scale * _LOG2_E),
            **chosen.launch(d_head),
        )
    return lse_BHT


def cell_mean_map(
    q_BHTD: Tensor, k_BHTD: Tensor, lse_BHT: Tensor, share_H: Tensor, scale: float, total_TT: Tensor
) -> None:
    """Add the sum over cells of the weighted mean of their heads to `total_TT`, in an order that is always the same."""
    n_cells, n_heads, n_genes, d_head = q_BHTD.shape
    chosen = tile("cell_mean_map", d_head, q_BHTD.device, q_BHTD.dtype)
    n_tiles = triton.cdiv(n_genes, chosen.rows) * triton.cdiv(n_genes, chosen.columns)
    cells_per_part = triton.cdiv(n_cells, triton.cdiv(_ENOUGH_PROGRAMS, n_tiles))
    n_parts = triton.cdiv(n_cells, cells_per_part)
    part_PTT = torch.empty(n_parts, n_genes, n_genes, dtype=torch.float32, device=q_BHTD.device)
    with torch.cuda.device_of(q_BHTD):
        cell_mean_map_kernel[(n_tiles, n_parts)](
            *(q_BHTD, k_BHTD, lse_BHT.contiguous(), share_H.repeat(cells_per_part), part_PTT),
            *(n_cells, cells_per_part, n_heads, n_genes, scale * _LOG2_E),
            **chosen.launch(d_head),
        )
    for part_TT in part_PTT:
        total_TT += part_TT


def cell_scatter(
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    lse_BHT: Tensor,
    share_H: Tensor,
    scale: float,
    genes_BT: Tensor,
    pad_BT: Tensor | None,
    total_GG: Tensor,
) -> None:
    """Add the weighted mean of the heads of each cell at its genes, by atomics: in any order."""
    n_cells, n_heads, n_genes, d_head = q_BHTD.shape
    chosen = tile("cell_scatter", d_head, q_BHTD.device, q_BHTD.dtype)
    n_tiles = triton.cdiv(n_genes, chosen.rows) * triton.cdiv(n_genes, chosen.columns)
    with torch.cuda.device_of(q_BHTD):
        cell_scatter_kernel[(n_cells * n_tiles,)](
            *(q_BHTD, k_BHTD, lse_BHT.contiguous(), share_H, genes_BT, _real(pad_BT, q_BHTD), total_GG),
            *(n_heads, n_genes, len(total_GG), scale * _LOG2_E),
            **chosen.launch(d_head),
        )


def _real(pad_BT: Tensor | None, q_BHTD: Tensor) -> Tensor:
    """1 at tokens that are no padding, uint8, shape (B, T)."""
    if pad_BT is not None:
        return (~pad_BT).to(torch.uint8).contiguous()
    return torch.ones(q_BHTD.shape[0], q_BHTD.shape[2], dtype=torch.uint8, device=q_BHTD.device)
