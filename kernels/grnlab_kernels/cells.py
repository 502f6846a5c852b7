"""The true mean over cells of per-cell attention: never (cells, heads, genes, genes), nor that of one cell.

Cell b has its own queries and keys of T genes; what is added up is the weighted mean of its heads,

    A_b[i, j] = Σ_h w_h · exp(s · q_bhi · k_bhj − L_bhi),   L_bhi = log Σ_j exp(s · q_bhi · k_bhj),   Σ_h w_h = 1,

row i the gene that attends, column j the gene attended to. Shape suffixes: B cells, H heads, T genes of a cell, G genes
of the genome, D head dimension, R rows of a panel.

On the CPU one single-threaded worker per core makes a panel of rows of one cell, all heads, in float32, and the panels
are added in the order of cells and rows: the bits depend neither on the number of threads nor on the batch a cell comes
in. Shards of cells therefore add up to the rounding of a float64 total; a float32 total of B cells is off by up to
B · 6 · 10⁻⁸ of itself, usually by √B of that.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from grnlab_kernels import rows, workers
from grnlab_kernels.checks import check_genes, check_queries_keys, check_scale, check_weights
from grnlab_kernels.dispatch import resolve_backend
from grnlab_kernels.operation import operation

_TASK_ROWS, _TASK_ELEMENTS = 128, 1 << 19  # a worker makes a multiple of 128 rows of a cell at a time, about 2 MB


def cell_mean_map(
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    weights_H: Tensor,
    total_TT: Tensor,
    *,
    scale: float,
    lse_BHT: Tensor | None = None,
    backend: str = "auto",
) -> None:
    """Add ``Σ_b A_b`` of cells that share their T genes, in place; divide by the number of cells in the end.

    Costs 2 B H T² D flops and B H T² exponentials (twice that with Triton, unless it is given `lse_BHT`) and reads
    queries and keys a few times. Holds up to three panels of 2 MB (of 128 rows where these take more) a worker on the
    CPU; with Triton the total once more, or 32 MB where it is small.

    Parameters
    ----------
    q_BHTD, k_BHTD
        Queries and keys, float32, bfloat16 or float16, shape (cells, heads, genes, d_head), contiguous. PyTorch rounds
        products of bfloat16 to bfloat16 (a logit of 10 by up to 0.03); convert with .float() where that matters.
    weights_H
        Weight of each head; scaled to sum to 1. Heads of weight 0 cost nothing.
    total_TT
        Running sum, float32 or float64, shape (genes, genes); prefer float64 for more than 10⁴ cells.
    scale
        Factor of the logits, 1/√d_head.
    lse_BHT
        L above, float32, shape (cells, heads, genes), where it is known already, say from the attention itself. Saves
        Triton a pass, which then cuts attention above 1 to 1; PyTorch has whole rows at hand and does not read it.
    backend
        See :func:`grnlab_kernels.resolve_backend`. Triton sums heads and cells in registers, without atomics: each
        backend gives the same bits every time.

    Raises
    ------
    ValueError, TypeError
        When shapes, dtypes or devices do not fit; the message names the argument.

    Examples
    --------
    >>> q, k = torch.zeros(2, 3, 4, 16), torch.ones(2, 3, 4, 16)  # two cells whose genes attend to all alike
    >>> total = torch.zeros(4, 4, dtype=torch.float64)
    >>> cell_mean_map(q, k, torch.ones(3), total, scale=0.25)
    >>> (total / 2)[0].tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    backend = resolve_backend(backend, q_BHTD.device)
    _check(q_BHTD, k_BHTD, weights_H, lse_BHT, scale=scale, backend=backend)
    n_genes = q_BHTD.shape[2]
    _check_square("total_TT", total_TT, (torch.float32, torch.float64), q_BHTD.device)
    if len(total_TT) != n_genes:
        msg = f"total_TT has shape {tuple(total_TT.shape)}; expected {(n_genes, n_genes)}, the genes of q and k."
        raise ValueError(msg)
    q, k, share_H, lse = _chosen_heads(q_BHTD, k_BHTD, weights_H, lse_BHT)
    _cell_mean_map(q, k, share_H, lse, total_TT, scale=scale, backend=backend)


def cell_scatter(  # noqa: PLR0917 - what comes in, then what is added to
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    weights_H: Tensor,
    genes_BT: Tensor,
    total_GG: Tensor,
    pairs_GG: Tensor | None,
    *,
    scale: float,
    pad_BT: Tensor | None = None,
    lse_BHT: Tensor | None = None,
    deterministic: bool = False,
    backend: str = "auto",
) -> None:
    """Add ``A_b[i, j]`` of every cell at its own genes ``[genes[b, i], genes[b, j]]``, in place, and count the pairs.

    The mean of a pair over the cells that hold both genes is ``total_GG / pairs_GG``. Costs as :func:`cell_mean_map`,
    and B T² additions to places far apart: give cells one set of genes where that is possible.

    Parameters
    ----------
    q_BHTD, k_BHTD, weights_H, scale
        As in :func:`cell_mean_map`.
    genes_BT
        Gene of each token, int64 in [0, G), shape (cells, genes). A gene that a cell lists twice gets the sum of what
        its tokens give and get, and counts once.
    total_GG
        Running sum, float32 or float64, shape (G, G), contiguous.
    pairs_GG
        Running number of cells that hold both genes, int32 or int64, shape (G, G), contiguous; None to count none.
    pad_BT
        True at tokens that are none: they neither give nor get, and their gene is not read. A cell of padding alone
        adds nothing.
    lse_BHT
        As in :func:`cell_mean_map`, over the keys that are no padding.
    deterministic
        The same bits every time. On the CPU that is so anyhow. On a GPU it takes PyTorch's sorted additions in place of
        the kernel, whose atomics add in any order: ``backend="auto"`` does so, ``backend="triton"`` raises.
    backend
        See :func:`grnlab_kernels.resolve_backend`.

    Raises
    ------
    ValueError, TypeError
        When shapes, dtypes, devices or gene numbers do not fit, or Triton is asked to be deterministic.

    Examples
    --------
    >>> q, k = torch.zeros(1, 1, 2, 16), torch.zeros(1, 1, 2, 16)
    >>> total, pairs = torch.zeros(3, 3), torch.zeros(3, 3, dtype=torch.int32)
    >>> cell_scatter(q, k, torch.ones(1), torch.tensor([[2, 0]]), total, pairs, scale=0.25)
    >>> total.tolist(), pairs.tolist()
    ([[0.5, 0.0, 0.5], [0.0, 0.0, 0.0], [0.5, 0.0, 0.5]], [[1, 0, 1], [0, 0, 0], [1, 0, 1]])
    """
    resolved = resolve_backend(backend, q_BHTD.device)
    if deterministic and backend == "triton":
        msg = 'deterministic=True: the Triton kernel adds by atomics, in any order; use backend="torch" or "auto".'
        raise ValueError(msg)
    resolved = "torch" if deterministic else resolved
    _check(q_BHTD, k_BHTD, weights_H, lse_BHT, scale=scale, backend=resolved)
    _check_tokens(genes_BT, pad_BT, q_BHTD, total_GG)
    if pairs_GG is not None:
        _check_square("pairs_GG", pairs_GG, (torch.int32, torch.int64), q_BHTD.device)
        if pairs_GG.shape != total_GG.shape:
            msg = f"pairs_GG has shape {tuple(pairs_GG.shape)}; expected that of total_GG, {tuple(total_GG.shape)}."
            raise ValueError(msg)
    q, k, share_H, lse = _chosen_heads(q_BHTD, k_BHTD, weights_H, lse_BHT)
    genes_BT = genes_BT.contiguous()
    _cell_scatter(q, k, share_H, lse, genes_BT, pad_BT, total_GG, pairs_GG, scale=scale, backend=resolved)


@operation("cell_mean_map", mutates=("total_TT",))
def _cell_mean_map(
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    share_H: Tensor,
    lse_BHT: Tensor | None,
    total_TT: Tensor,
    *,
    scale: float,
    backend: str,
) -> None:
    if backend == "triton":
        from grnlab_kernels.triton_kernels import cells as kernels

        lse_BHT = kernels.row_lse(q_BHTD, k_BHTD, scale, None) if lse_BHT is None else lse_BHT
        kernels.cell_mean_map(q_BHTD, k_BHTD, lse_BHT, share_H, scale, total_TT)
        return
    for _, start, panel_RT in _panels(q_BHTD, k_BHTD, share_H, scale, None):
        part_RT = total_TT[start : start + len(panel_RT)]
        if part_RT.device.type == "cpu":  # by numpy: PyTorch's own threads would spin from one addition to the next
            np.add(part_RT.numpy(), panel_RT.numpy(), out=part_RT.numpy())
        else:
            part_RT += panel_RT


@operation("cell_scatter", mutates=("total_GG", "pairs_GG"))
def _cell_scatter(  # noqa: PLR0917
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    share_H: Tensor,
    lse_BHT: Tensor | None,
    genes_BT: Tensor,
    pad_BT: Tensor | None,
    total_GG: Tensor,
    pairs_GG: Tensor | None,
    *,
    scale: float,
    backend: str,
) -> None:
    real, genes = None, list(genes_BT)
    if pad_BT is not None:
        real = [torch.nonzero(~pad_T).ravel() for pad_T in pad_BT]
        genes = [genes_T[real_T] for genes_T, real_T in zip(genes, real, strict=True)]
    if pairs_GG is not None:
        _count_pairs(genes, pairs_GG)
    if backend == "triton":
        from grnlab_kernels.triton_kernels import cells as kernels

        lse_BHT = kernels.row_lse(q_BHTD, k_BHTD, scale, pad_BT) if lse_BHT is None else lse_BHT
        kernels.cell_scatter(q_BHTD, k_BHTD, lse_BHT, share_H, scale, genes_BT, pad_BT, total_GG)
        return
    order = [torch.argsort(genes_T, stable=True) for genes_T in genes]  # then additions run forward through memory
    for cell, start, panel_RT in _panels(q_BHTD, k_BHTD, share_H, scale, real):
        row_R = genes[cell][start : start + len(panel_RT)]
        _add_panel(panel_RT, row_R, genes[cell][order[cell]], order[cell], total_GG)


def _panels(
    q_BHTD: Tensor, k_BHTD: Tensor, share_H: Tensor, scale: float, real: list[Tensor] | None
) -> Iterator[tuple[int, int, Tensor]]:
    """Cell, first row and panel (R, T) of `A_b`, in order; over the tokens `real` names, or all of them."""
    lengths = [q_BHTD.shape[2]] * len(q_BHTD) if real is None else [len(real_T) for real_T in real]
    tasks = []
    for cell, length in enumerate(lengths):
        n_rows = _TASK_ROWS * max(1, _TASK_ELEMENTS // (_TASK_ROWS * max(length, 1)))
        tasks += [(cell, *ends) for ends in workers.panels(length, n_rows)]

    def work(number: int, _: int) -> tuple[int, int, Tensor]:
        cell, start, end = tasks[number]
        q_HTD, k_HTD = q_BHTD[cell], k_BHTD[cell]
        if real is not None:
            q_HTD, k_HTD = q_HTD[:, real[cell]], k_HTD[:, real[cell]]
        panel_RT, _sum_T = rows.combine_map(
            *(q_HTD, k_HTD, share_H, None), scale=scale, start=start, end=end, forward=True, backward=False
        )
        return cell, start, panel_RT

    return workers.run(work, len(tasks), 1, q_BHTD.device)


def _add_panel(panel_RT: Tensor, row_R: Tensor, column_T: Tensor, place_T: Tensor, total_GG: Tensor) -> None:
    """Add ``panel[r, place[c]]`` to ``total[row[r], column[c]]``, in one order."""
    if total_GG.device.type == "cpu":
        from grnlab_kernels.cells_loop import add_panel

        add_panel(*(array.numpy() for array in (panel_RT, row_R, column_T, place_T, total_GG)))
        return
    values_RT = panel_RT[:, place_T].to(total_GG.dtype)
    total_GG.index_put_((row_R[:, None], column_T), values_RT, accumulate=True)  # sorts by place on CUDA


def _count_pairs(genes: list[Tensor], pairs_GG: Tensor) -> None:
    for genes_T in genes:
        distinct = torch.unique(genes_T)
        if pairs_GG.device.type == "cpu":
            from grnlab_kernels.cells_loop import count_pairs

            count_pairs(distinct.numpy(), pairs_GG.numpy())
        else:
            pairs_GG[distinct[:, None], distinct] += 1


def _chosen_heads(
    q_BHTD: Tensor, k_BHTD: Tensor, weights_H: Tensor, lse_BHT: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Heads of positive weight, their shares, float32, and their log-sum-exp."""
    share_H = (weights_H.detach().double() / weights_H.sum(dtype=torch.float64)).float().to(q_BHTD.device)
    q_BHTD, k_BHTD = q_BHTD.detach(), k_BHTD.detach()
    if (share_H > 0).all():
        return q_BHTD, k_BHTD, share_H, lse_BHT
    chosen = torch.nonzero(share_H).ravel()
    lse_BHT = None if lse_BHT is None else lse_BHT.index_select(1, chosen)
    return q_BHTD.index_select(1, chosen), k_BHTD.index_select(1, chosen), share_H[chosen], lse_BHT


def _check(
    q_BHTD: Tensor, k_BHTD: Tensor, weights_H: Tensor, lse_BHT: Tensor | None, *, scale: float, backend: str
) -> None:
    check_queries_keys(q_BHTD, k_BHTD, n_dims=4, backend=backend)
    check_weights(weights_H, q_BHTD.shape[1])
    check_scale(scale)
    if lse_BHT is None:
        return
    if lse_BHT.shape != q_BHTD.shape[:3] or lse_BHT.dtype != torch.float32 or lse_BHT.device != q_BHTD.device:
        msg = (
            f"lse_BHT has shape {tuple(lse_BHT.shape)}, dtype {lse_BHT.dtype} and device {lse_BHT.device}; expected "
            f"{tuple(q_BHTD.shape[:3])}, torch.float32 and {q_BHTD.device}, as q and k say."
        )
        raise ValueError(msg)


def _check_square(name: str, total: Tensor, dtypes: tuple[torch.dtype, ...], device: torch.device) -> None:
    if total.ndim != 2 or total.shape[0] != total.shape[1]:
        msg = f"{name} has shape {tuple(total.shape)}; expected as many columns as rows, one of each for a gene."
        raise ValueError(msg)
    if total.dtype not in dtypes:
        msg = f"{name} has dtype {total.dtype}; expected one of {dtypes}."
        raise TypeError(msg)
    if total.device != device:
        msg = f"{name} is on {total.device}, q on {device}; move them to one device with .to(device)."
        raise ValueError(msg)
    if not total.is_contiguous():
        msg = f"{name} has strides {total.stride()}; it is added to in place, so it must be contiguous."
        raise ValueError(msg)


def _check_tokens(genes_BT: Tensor, pad_BT: Tensor | None, q_BHTD: Tensor, total_GG: Tensor) -> None:
    _check_square("total_GG", total_GG, (torch.float32, torch.float64), q_BHTD.device)
    shape = (q_BHTD.shape[0], q_BHTD.shape[2])
    for name, values in (("genes_BT", genes_BT), ("pad_BT", pad_BT)):
        if values is not None and (values.shape != shape or values.device != q_BHTD.device):
            msg = (
                f"{name} has shape {tuple(values.shape)} on {values.device}; expected {shape} on {q_BHTD.device}, the "
                "cells and genes of q and k."
            )
            raise ValueError(msg)
    if pad_BT is not None and pad_BT.dtype != torch.bool:
        msg = f"pad_BT has dtype {pad_BT.dtype}; expected torch.bool, True at padding. Convert with .bool()."
        raise TypeError(msg)
    check_genes("genes_BT", genes_BT if pad_BT is None else genes_BT[~pad_BT], len(total_GG))
