"""Sums and histograms over all pairs of genes beside ways that hold the features of every pair."""

import numpy as np
import torch
from grnlab_kernels import reference
from grnlab_kernels.histograms import auprc_from_histograms, head_hist, pair_hist
from grnlab_kernels.maps import MapOptions, topk_edges
from grnlab_kernels.pairs import gather_pairs, head_gram
from problem import Problem, passes, queries_keys, relative, softmax_map
from torch import Tensor

_RIDGE = 1.0  # alpha
_PER_GENE = 3  # true partners of a gene: a prevalence of 0.15 % at 2,000 genes


def gram(*, genes: int, heads: int, d_head: int, device: torch.device) -> Problem:
    """``XᵀX`` over all pairs, checked at two heads."""
    q, k = queries_keys((heads, genes, d_head), device)
    scale = d_head**-0.5
    elements = heads * genes**2

    def dense() -> Tensor:
        x_PH = features(q, k, scale).float()
        return x_PH.T @ x_PH

    def error(got_HH: Tensor) -> float:
        two = [0, heads - 1]
        x_2NN = reference.attention(q[two], k[two], scale=scale)
        x_2NN.diagonal(dim1=-2, dim2=-1).zero_()
        x_2P = x_2NN.flatten(1)
        return relative(got_HH[two][:, two], x_2P @ x_2P.T)

    return Problem(
        ways={"ours": lambda: head_gram(q, k, scale=scale).gram_FHH[0], "all pairs in memory": dense},
        error=error,
        work={
            "flops": (passes(device) * 2 * d_head + 2 * heads) * elements,
            "exps": passes(device) * elements,
            "bytes": 4 * elements if device.type == "cuda" else 2 * q.nbytes,
        },
    )


def head_selection(*, genes: int, heads: int, d_head: int, device: torch.device) -> Problem:
    """Ridge coefficients of the heads, none negative, for planted edges; classes weigh the same."""
    q, k = queries_keys((heads, genes, d_head), device)
    scale = d_head**-0.5
    query_E, key_E = planted(q, k, scale)
    n_pairs = genes * (genes - 1)
    heavy = n_pairs / len(query_E) - 1  # weight of a true edge

    def ours() -> Tensor:
        from grnlab.heads.ridge import ridge_problem

        return ridge_problem(q, k, query_E, key_E, scale=scale).solve(_RIDGE, heavy)

    def scikit() -> Tensor:
        from sklearn.linear_model import Ridge

        x_PH = features(q, k, scale).double().numpy()
        y_P = np.full(len(x_PH), -1.0)
        y_P[(query_E * genes + key_E).numpy()] = 1.0
        fit = Ridge(alpha=_RIDGE, positive=True, fit_intercept=False, tol=1e-12)
        return torch.from_numpy(fit.fit(x_PH, y_P, sample_weight=np.where(y_P > 0, heavy, 1.0)).coef_)

    def error(got_H: Tensor) -> float | None:
        if genes > 2500:
            return None
        truth_NN = torch.zeros(genes, genes, dtype=torch.bool)
        truth_NN[query_E, key_E] = True
        total_HH, right_H = torch.zeros(heads, heads, dtype=torch.float64), torch.zeros(heads, dtype=torch.float64)
        for row in range(genes):
            x_HN = reference.attention(q[:, row : row + 1], k, scale=scale)[:, 0]
            x_HN[:, row] = 0.0
            true_N = truth_NN[row]
            weight_N = torch.where(true_N, heavy, 1.0).double()
            total_HH += (x_HN * weight_N) @ x_HN.T
            right_H += x_HN @ torch.where(true_N, weight_N, -weight_N)
        return relative(got_H, solve(total_HH, right_H))

    return Problem(
        ways={"ours": ours, "scikit-learn Ridge": scikit},
        error=error,
        work={"flops": 2 * (d_head + heads) * heads * genes**2, "exps": heads * genes**2},
    )


def average_precision(*, genes: int, heads: int, d_head: int, device: torch.device) -> Problem:
    """Average precision of each head alone, checked at two heads."""
    q, k = queries_keys((heads, genes, d_head), device)
    scale = d_head**-0.5
    query_E, key_E = planted(q, k, scale)
    truth_NN = torch.zeros(genes, genes, dtype=torch.bool, device=device)
    truth_NN[query_E, key_E] = True
    other_P = ~torch.eye(genes, dtype=torch.bool, device=device).ravel()
    truth_P = truth_NN.ravel()[other_P]

    def ours() -> Tensor:
        every = head_hist(q, k, scale=scale)
        return auprc_from_histograms(every, pair_hist(gather_pairs(q, k, query_E, key_E, scale=scale)))

    def scikit() -> Tensor:
        from sklearn.metrics import average_precision_score

        scores = (softmax_map(q[head], k[head], scale).ravel()[other_P].numpy() for head in range(heads))
        return torch.tensor([average_precision_score(truth_P.numpy(), score_P) for score_P in scores])

    def sorting() -> Tensor:
        scores = (softmax_map(q[head], k[head], scale).ravel()[other_P] for head in range(heads))
        return torch.stack([_average_precision(truth_P, score_P) for score_P in scores])

    def error(got_H: Tensor) -> float:
        two = torch.tensor([0, heads - 1], device=device)
        x_2NN = reference.attention(q[two], k[two], scale=scale)
        expected_2 = torch.stack([_average_precision(truth_P, x_NN.ravel()[other_P]) for x_NN in x_2NN])
        return float((got_H[two.to(got_H.device)].to(device) - expected_2).abs().max())

    elements = heads * genes**2
    return Problem(
        ways={"ours": ours, "scikit-learn, a head at a time": scikit, "torch.sort, a head at a time": sorting},
        error=error,
        work={
            "flops": passes(device) * 2 * d_head * elements,
            "exps": passes(device) * elements,
            "bytes": 2 * q.nbytes,
        },
        tolerance=1e-3,
    )


def planted(q_HND: Tensor, k_HND: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """True edges: the strongest partners of each gene by the first three heads together."""
    partner_NK, _ = topk_edges(
        q_HND[:3].contiguous(), k_HND[:3].contiguous(), torch.ones(3), _PER_GENE, MapOptions(scale)
    )
    query_E = torch.arange(len(partner_NK), device=q_HND.device).repeat_interleave(_PER_GENE)
    return query_E, partner_NK.ravel()


def features(q_HND: Tensor, k_HND: Tensor, scale: float) -> Tensor:
    """Attention of every head at every pair, shape (N², H), 0 at a gene with itself."""
    n_heads, n_genes, _ = q_HND.shape
    x_NNH = torch.empty(n_genes, n_genes, n_heads, dtype=q_HND.dtype, device=q_HND.device)
    for head in range(n_heads):
        x_NNH[..., head] = softmax_map(q_HND[head], k_HND[head], scale).fill_diagonal_(0.0)
    return x_NNH.view(-1, n_heads)


def solve(gram_HH: Tensor, right_H: Tensor) -> Tensor:
    """Least ``½ cᵀ(G + αI)c − bᵀc`` over c ≥ 0."""
    from scipy.optimize import nnls

    lower_HH = np.linalg.cholesky(gram_HH.numpy() + _RIDGE * np.eye(len(gram_HH)))
    return torch.from_numpy(nnls(lower_HH.T, np.linalg.solve(lower_HH, right_H.numpy()))[0])


def _average_precision(truth_P: Tensor, score_P: Tensor) -> Tensor:
    """Mean precision at the true edges, ranked; ties count in the order they come, of which there are few."""
    found_P = truth_P[score_P.argsort(descending=True)].double()
    rank_P = torch.arange(1, len(found_P) + 1, device=found_P.device)
    return (found_P.cumsum(0) / rank_P * found_P).sum() / found_P.sum()
