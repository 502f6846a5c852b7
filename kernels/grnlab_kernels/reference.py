"""Every operation in one obvious formula, dense and in float64: what tests and benchmarks compare with.

Nothing here is fast or small. Shape suffixes: B cells, H heads, N genes, T genes of a cell, D head dimension, E pairs.
"""

import torch
from torch import Tensor


def attention(q: Tensor, k: Tensor, *, scale: float) -> Tensor:
    """Softmax of ``scale · q · k`` over the last axis, shape (..., N, N): row = query gene, column = key gene."""
    return torch.softmax(scale * q.double() @ k.double().mT, dim=-1)


def row_lse(q_HND: Tensor, k_HND: Tensor, *, scale: float) -> Tensor:
    """``L[h, i] = log Σ_j exp(scale · q_hi · k_hj)``."""
    return torch.logsumexp(scale * q_HND.double() @ k_HND.double().mT, dim=-1)


def combine_map(
    q_HND: Tensor,
    k_HND: Tensor,
    weights_H: Tensor,
    *,
    scale: float,
    symmetrize: bool = False,
    apc: bool = False,
    transpose: bool = False,
) -> Tensor:
    """Weighted mean of the heads' maps, then symmetrised, corrected, transposed as asked; shape (N, N)."""
    share_H = weights_H.double() / weights_H.double().sum()
    map_NN = torch.einsum("h,hij->ij", share_H, attention(q_HND, k_HND, scale=scale))
    if symmetrize:
        map_NN = (map_NN + map_NN.T) / 2
    if apc:
        map_NN = map_NN - torch.outer(map_NN.sum(1), map_NN.sum(0)) / map_NN.sum()
    return map_NN.T if transpose else map_NN


def topk_edges(map_NN: Tensor, n_edges: int, candidates: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Partners of each row: falling value, ties by the lower gene, never itself; -1 and NaN where there is none."""
    n_genes = len(map_NN)
    columns = range(n_genes) if candidates is None else candidates.tolist()
    n_kept = min(n_edges, len(columns))
    partner_NK = torch.full((n_genes, n_kept), -1)
    value_NK = torch.full((n_genes, n_kept), torch.nan, dtype=torch.float64)
    for row in range(n_genes):
        ranked = sorted((c for c in columns if c != row), key=lambda c: (-float(map_NN[row, c]), c))[:n_kept]
        partner_NK[row, : len(ranked)] = torch.tensor(ranked, dtype=torch.int64)
        value_NK[row, : len(ranked)] = map_NN[row, ranked].double()
    return partner_NK, value_NK


def gather_pairs(q_HND: Tensor, k_HND: Tensor, query_E: Tensor, key_E: Tensor, *, scale: float) -> Tensor:
    """Attention of every head at listed pairs, shape (E, H)."""
    return attention(q_HND, k_HND, scale=scale)[:, query_E, key_E].T


def universe(n_genes: int, query: Tensor | None, key: Tensor | None) -> tuple[Tensor, Tensor]:
    """Every pair of a query gene and a key gene (all genes by default) but a gene with itself."""
    query = torch.arange(n_genes) if query is None else query
    key = torch.arange(n_genes) if key is None else key
    pairs = torch.cartesian_prod(query, key)
    query_E, key_E = pairs[pairs[:, 0] != pairs[:, 1]].T
    return query_E, key_E


def head_gram(
    q_HND: Tensor, k_HND: Tensor, *, scale: float, query: Tensor | None = None, key: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``XᵀX`` (H, H) and column sums of X (H,), X the attention of the heads at all pairs of the universe."""
    x_EH = gather_pairs(q_HND, k_HND, *universe(q_HND.shape[1], query, key), scale=scale)
    return x_EH.T @ x_EH, x_EH.sum(0)


def cell_sum_map(
    q_BHTD: Tensor, k_BHTD: Tensor, weights_H: Tensor, *, scale: float, pad_BT: Tensor | None = None
) -> Tensor:
    """Weighted mean over heads of each cell's attention, shape (B, T, T); a padded gene neither gives nor gets."""
    logits_BHTT = scale * q_BHTD.double() @ k_BHTD.double().mT
    if pad_BT is not None:
        logits_BHTT = logits_BHTT.masked_fill(pad_BT[:, None, None, :], -torch.inf)
    attention_BHTT = torch.softmax(logits_BHTT, dim=-1).nan_to_num(0.0)
    if pad_BT is not None:
        attention_BHTT = attention_BHTT.masked_fill(pad_BT[:, None, :, None], 0.0)
    return torch.einsum("h,bhij->bij", weights_H.double() / weights_H.double().sum(), attention_BHTT)


def zinb_nll(x: Tensor, log_mu: Tensor, log_theta: Tensor, zero_logit: Tensor | None = None) -> Tensor:
    """``−log(π [x = 0] + (1 − π) NB(x; μ, θ))`` by the textbook formula; without `zero_logit`, π = 0."""
    x, mu, theta = x.double(), log_mu.double().exp(), log_theta.double().exp()
    log_nb = (
        torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
        - theta * torch.log1p(mu / theta)
        - x * torch.log1p(theta / mu)
    )
    if zero_logit is None:
        return -log_nb
    zero_logit = zero_logit.double()
    log_pi, log_rest = torch.nn.functional.logsigmoid(zero_logit), torch.nn.functional.logsigmoid(-zero_logit)
    return -torch.where(x == 0, torch.logaddexp(log_pi, log_rest + log_nb), log_rest + log_nb)
