"""Panels of rows of the map by PyTorch: on the CPU with compiled loops and a worker per core, or on any device.

Same functions as :mod:`grnlab_kernels.triton_kernels.maps`; the formulas are those of :mod:`grnlab_kernels.maps`.
Panels have the same size whatever the number of threads, and so do results. float16 is computed as float32; bfloat16
is multiplied as it is and rounded to bfloat16 once more, a logit of 10 by up to 0.03; everything else is float32.

Shape suffixes: H heads, N genes, D head dimension, R rows of a panel.
"""

import numpy as np
import torch
from torch import Tensor

from grnlab_kernels import workers
from grnlab_kernels.products import products

_PANEL_BYTES = 8 << 20
_PANEL_ROWS = (64, 128)  # products of fewer rows are inefficient, more rows leave the cache
_DEVICE_PANEL_BYTES = 256 << 20
_BITS = {torch.float32: (torch.int32, np.int32(0)), torch.bfloat16: (torch.int16, np.int32(16))}


def panel_rows(n_genes: int, device: torch.device) -> int:
    """Rows of a panel; they never depend on the number of threads."""
    if device.type != "cpu":
        return max(1, _DEVICE_PANEL_BYTES // (4 * n_genes))
    fewest, most = _PANEL_ROWS
    return max(fewest, min(most, _PANEL_BYTES // (4 * n_genes)))


def row_lse(q_HND: Tensor, k_HND: Tensor, scale: float) -> Tensor:
    """``L[h, i] = log Σ_j exp(scale · q_hi · k_hj)``, float32."""
    n_heads, n_genes, _ = q_HND.shape
    q_HND, k_HND = _known(q_HND), _known(k_HND)
    lse_HN = q_HND.new_empty(n_heads, n_genes, dtype=torch.float32)

    def work(start: int, end: int) -> None:
        for head in range(n_heads):
            _write_lse(products(q_HND[head, start:end], k_HND[head]), scale, lse_HN[head, start:end])

    for _ in workers.run(work, n_genes, panel_rows(n_genes, q_HND.device), q_HND.device):
        pass
    return lse_HN


def combine_map(
    q_HND: Tensor,
    k_HND: Tensor,
    share_H: Tensor,
    lse_HN: Tensor | None,
    *,
    scale: float,
    start: int,
    end: int,
    forward: bool,
    backward: bool,
) -> tuple[Tensor, Tensor]:
    """Rows `start` to `end` of the map (forward), its transpose (backward) or their mean, and their column sums.

    Float32 and float64. `lse_HN` is read where `backward`.
    """
    n_genes = q_HND.shape[1]
    q_HND, k_HND = _known(q_HND), _known(k_HND)
    shares = (share_H.double() * (0.5 if forward and backward else 1.0)).tolist()
    panel_RN = q_HND.new_empty(end - start, n_genes, dtype=torch.float32)

    def work(first: int, last: int) -> Tensor:
        part_RN, rows = panel_RN[first:last].zero_(), slice(start + first, start + last)
        for head, share in enumerate(shares):
            if forward:
                _add(products(q_HND[head, rows], k_HND[head]), scale, share, part_RN, None)
            if backward and lse_HN is not None:
                _add(products(k_HND[head, rows], q_HND[head]), scale, share, part_RN, lse_HN[head])
        return column_sum(part_RN)

    sum_N = q_HND.new_zeros(n_genes, dtype=torch.float64)
    for part_N in workers.run(work, end - start, panel_rows(n_genes, q_HND.device), q_HND.device):
        sum_N += part_N
    return panel_RN, sum_N


def column_sum(panel_RN: Tensor) -> Tensor:
    """Sums of the columns in float64; NumPy converts as it goes, PyTorch would first copy the panel."""
    if not _compiled(panel_RN):
        return panel_RN.sum(0, dtype=torch.float64)
    return torch.from_numpy(panel_RN.numpy().sum(0, dtype=np.float64))


def _compiled(x: Tensor) -> bool:
    """Whether the compiled loops can read a tensor; if not, PyTorch's own operations do."""
    return x.device.type == "cpu"


def _known(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.float16 else x


def _write_lse(logits_RN: Tensor, scale: float, lse_R: Tensor) -> None:
    if not _compiled(logits_RN):
        lse_R.copy_(torch.logsumexp(logits_RN.float() * scale, -1))
        return
    from grnlab_kernels.maps_loop import log_sum_exp

    kind, shift = _BITS[logits_RN.dtype]
    log_sum_exp(logits_RN.view(kind).numpy(), shift, np.float32(scale), lse_R.numpy())


def _add(logits_RN: Tensor, scale: float, share: float, panel_RN: Tensor, lse_N: Tensor | None) -> None:
    """Add ``share`` times the softmax of each row, or, with the log-sum-exp of the columns, of each column."""
    if not _compiled(logits_RN):
        scaled_RN = logits_RN.float() * scale
        if lse_N is None:
            panel_RN.add_(torch.softmax(scaled_RN, -1), alpha=share)
        else:  # a share is at most 1, also where huge logits leave rounding errors above 0
            panel_RN.add_(scaled_RN.sub_(lse_N).clamp_(max=0.0).exp_(), alpha=share)
        return
    from grnlab_kernels.maps_loop import add_exp, add_softmax

    kind, shift = _BITS[logits_RN.dtype]
    arguments = logits_RN.view(kind).numpy(), shift, np.float32(scale), np.float32(share), panel_RN.numpy()
    if lse_N is None:
        add_softmax(*arguments)
    else:
        add_exp(*arguments, lse_N.numpy())
