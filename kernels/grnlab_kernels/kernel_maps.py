"""Kernel maps: shares of products of positive features instead of exponentials of products, by PyTorch on any device.

    A[i, j] = Σ_h w_h · q_hi · k_hj / exp(L_hi),   L_hi = log Σ_j q_hi · k_hj,

the attention of linear transformers, whose features of queries and keys are not negative. L of a gene without features
is -inf, and its row is 0. Everything is a product of matrices, so there are no kernels of our own. Same functions as
:mod:`grnlab_kernels.rows`. Shape suffixes: H heads, N genes, D features, R rows of a panel.
"""

import torch
from torch import Tensor

from grnlab_kernels.checks import check_queries_keys, check_scale
from grnlab_kernels.dispatch import resolve_backend
from grnlab_kernels.rows import column_sum

KINDS = ("softmax", "kernel")


def resolve_kind(kind: str, backend: str, device: torch.device | None = None) -> str:
    """Name the implementation that will run, see :func:`grnlab_kernels.resolve_backend`.

    Parameters
    ----------
    kind
        ``"softmax"`` or ``"kernel"``.
    backend, device
        As there.

    Raises
    ------
    ValueError
        With the reason and the mend.
    """
    if kind not in KINDS:
        msg = f"kind={kind!r} is unknown; choose one of {KINDS}."
        raise ValueError(msg)
    if kind == "kernel" and backend == "triton":
        msg = 'backend="triton" has no kernel maps, which are products of matrices; use backend="torch".'
        raise ValueError(msg)
    return "torch" if kind == "kernel" and backend == "auto" else resolve_backend(backend, device)


def check_features(q_HND: Tensor, k_HND: Tensor) -> None:
    """Features are finite and not negative.

    Raises
    ------
    ValueError
        With the reason and the mend.
    """
    for name, x in (("q_HND", q_HND), ("k_HND", k_HND)):
        least, most = x.aminmax()
        if not (least >= 0 and most < torch.inf):
            msg = f"{name} reaches from {float(least)} to {float(most)}; features are finite and not negative."
            raise ValueError(msg)


def prepare(q_HND: Tensor, k_HND: Tensor, *, scale: float, kind: str, backend: str) -> tuple[Tensor, Tensor, str]:
    """Queries and keys (or features) of an operation on pooled maps, checked and detached; what will run.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        With the reason and the mend.
    """
    backend = resolve_kind(kind, backend, q_HND.device)
    check_queries_keys(q_HND, k_HND, n_dims=3, backend=backend)
    check_scale(scale)
    if kind == "kernel":
        check_features(q_HND, k_HND)
    return q_HND.detach(), k_HND.detach(), backend


def row_lse(q_HND: Tensor, k_HND: Tensor) -> Tensor:
    """``L[h, i] = log Σ_j q_hi · k_hj``, float32; -inf for a gene without features."""
    sums = [q_ND.double() @ k_ND.sum(0, dtype=torch.float64) for q_ND, k_ND in zip(q_HND, k_HND, strict=True)]
    return torch.stack(sums).log().float()


def received(q_HND: Tensor, k_HND: Tensor, share_H: Tensor, lse_HN: Tensor) -> Tensor:
    """Column sums of the map, float64, without the map."""
    sum_N = q_HND.new_zeros(q_HND.shape[1], dtype=torch.float64)
    for q_ND, k_ND, factor_N in zip(q_HND, k_HND, _factors(share_H, lse_HN), strict=True):
        sum_N += k_ND.double() @ (factor_N @ q_ND.double())
    return sum_N


def given(share_H: Tensor, lse_HN: Tensor) -> Tensor:
    """Row sums of the map, float64: 1, or 0 for a gene without features."""
    return torch.einsum("h,hn->n", share_H.double(), lse_HN.isfinite().double())


def combine_map(
    q_HND: Tensor,
    k_HND: Tensor,
    share_H: Tensor,
    lse_HN: Tensor,
    *,
    start: int,
    end: int,
    forward: bool,
    backward: bool,
) -> tuple[Tensor, Tensor]:
    """Rows of the map (forward), of its transpose (backward) or of their mean, float32, and column sums, float64."""
    factor_HN = _factors(share_H, lse_HN).float() * (0.5 if forward and backward else 1.0)
    panel_RN, rows = q_HND.new_zeros(end - start, q_HND.shape[1], dtype=torch.float32), slice(start, end)
    for q_ND, k_ND, factor_N in zip(q_HND, k_HND, factor_HN, strict=True):
        if forward:
            panel_RN.addmm_(q_ND[rows].float() * factor_N[rows, None], k_ND.float().T)
        if backward:
            panel_RN.addcmul_(k_ND[rows].float() @ q_ND.float().T, factor_N)
    return panel_RN, column_sum(panel_RN)


def gather_pairs(q_HND: Tensor, k_HND: Tensor, query_E: Tensor, key_E: Tensor, lse_HN: Tensor) -> Tensor:
    """Attention of every head at listed pairs, float32, shape (E, H)."""
    x_EH = q_HND.new_empty((len(query_E), len(q_HND)), dtype=torch.float32)
    for head, (q_ND, k_ND) in enumerate(zip(q_HND, k_HND, strict=True)):
        products_E = (q_ND[query_E].float() * k_ND[key_E].float()).sum(-1)
        x_EH[:, head] = (products_E * (-lse_HN[head, query_E]).exp()).clamp_(max=1.0)
    return x_EH


def _factors(share_H: Tensor, lse_HN: Tensor) -> Tensor:
    """What each row is multiplied by, float64."""
    return share_H.double().unsqueeze(1) * torch.where(lse_HN.isfinite(), -lse_HN.double(), -torch.inf).exp()
