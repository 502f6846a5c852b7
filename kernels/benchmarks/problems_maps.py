"""Maps and strongest edges beside dense ways to make them."""

from collections.abc import Callable

import torch
from grnlab_kernels.maps import MapOptions, combine_map, topk_edges
from problem import Problem, map_rows, passes, queries_keys, relative, sampled, softmax_map, weights
from torch import Tensor


def mean_map(*, genes: int, heads: int, d_head: int, device: torch.device, symmetrize: bool = False) -> Problem:
    """Weighted mean of the heads' maps, whole."""
    q, k = queries_keys((heads, genes, d_head), device)
    share, scale = weights(heads, device), d_head**-0.5
    rows = sampled(genes, device)
    elements = heads * genes**2

    def error(got_NN: Tensor) -> float:
        expected_SN = map_rows(q, k, share, rows, scale)
        if not symmetrize:
            return relative(got_NN[rows], expected_SN)
        expected_SS = expected_SN[:, rows]
        return relative(got_NN[rows[:, None], rows], (expected_SS + expected_SS.T) / 2)

    def folded(map_NN: Tensor) -> Tensor:
        return (map_NN + map_NN.T) / 2 if symmetrize else map_NN

    one_head = _one_head(device)
    n_passes = passes(device) + (symmetrize and device.type != "cpu")
    return Problem(
        ways={
            "ours": lambda: combine_map(q, k, share, MapOptions(scale, symmetrize))[0],
            "loop over heads": lambda: folded(loop_over_heads(q, k, share, scale, softmax_map)),
            "compiled loop over heads": lambda: folded(loop_over_heads(q, k, share, scale, one_head)),
            "all heads, torch.cat": lambda: folded(concatenated(q, k, share, scale)),
            "all heads at once": lambda: folded(at_once(q, k, share, scale)),
        },
        error=error,
        work={
            "flops": n_passes * 2 * d_head * elements,
            "exps": n_passes * elements,
            "bytes": 2 * q.nbytes + 4 * genes**2,
        },
    )


def symmetric_map(*, genes: int, heads: int, d_head: int, device: torch.device) -> Problem:
    """As :func:`mean_map`, averaged with its transpose."""
    return mean_map(genes=genes, heads=heads, d_head=d_head, device=device, symmetrize=True)


def topk(*, genes: int, heads: int, d_head: int, edges: int, device: torch.device) -> Problem:
    """Strongest partners of each gene."""
    q, k = queries_keys((heads, genes, d_head), device)
    share, scale = weights(heads, device), d_head**-0.5
    rows = sampled(genes, device)
    elements, n_passes = heads * genes**2, passes(device)

    def dense() -> tuple[Tensor, Tensor]:
        map_NN = loop_over_heads(q, k, share, scale, softmax_map)
        value, partner = map_NN.fill_diagonal_(-torch.inf).topk(edges, -1)
        return partner, value

    def error(got: tuple[Tensor, Tensor]) -> float:
        partner_SK, value_SK = got[0][rows], got[1][rows]
        expected_SN = map_rows(q, k, share, rows, scale).scatter(1, rows[:, None], -torch.inf)
        best_SK = expected_SN.topk(edges, -1).values
        return max(relative(value_SK, best_SK), relative(expected_SN.gather(1, partner_SK), best_SK))

    return Problem(
        ways={"ours": lambda: topk_edges(q, k, share, edges, MapOptions(scale)), "dense map, topk": dense},
        error=error,
        work={
            "flops": n_passes * 2 * d_head * elements,
            "exps": n_passes * elements,
            "bytes": 2 * q.nbytes + 8 * genes**2 if device.type == "cuda" else 2 * q.nbytes,
        },
    )


def loop_over_heads(
    q_HND: Tensor, k_HND: Tensor, share_H: Tensor, scale: float, one_head: Callable[[Tensor, Tensor, float], Tensor]
) -> Tensor:
    """One dense map at a time."""
    n_genes = q_HND.shape[1]
    total_NN = torch.zeros(n_genes, n_genes, device=q_HND.device)
    for head, share in enumerate(share_H.tolist()):
        total_NN += share * one_head(q_HND[head], k_HND[head], scale)
    return total_NN


def concatenated(q_HND: Tensor, k_HND: Tensor, share_H: Tensor, scale: float) -> Tensor:
    """All heads along a last axis that grows by ``torch.cat``, then their mean."""
    maps_NNH = softmax_map(q_HND[0], k_HND[0], scale)[..., None]
    for head in range(1, len(q_HND)):
        maps_NNH = torch.cat((maps_NNH, softmax_map(q_HND[head], k_HND[head], scale)[..., None]), -1)
    return maps_NNH @ share_H


def at_once(q_HND: Tensor, k_HND: Tensor, share_H: Tensor, scale: float) -> Tensor:
    """All heads in one array."""
    maps_HNN = torch.softmax((q_HND @ k_HND.mT).float() * scale, -1)
    return torch.einsum("h,hnm->nm", share_H, maps_HNN)


def _one_head(device: torch.device) -> Callable[[Tensor, Tensor, float], Tensor]:
    """Softmax of one head by ``torch.compile``; plain on the CPU, where no case asks for it."""
    return torch.compile(softmax_map) if device.type == "cuda" else softmax_map
