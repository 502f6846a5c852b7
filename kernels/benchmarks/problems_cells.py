"""Per-cell attention averaged over cells beside loops over cells and heads.

On a GPU the log-sum-exp is given, as the attention itself yields it; the time does not hold it.
"""

from collections.abc import Callable, Iterator

import torch
from grnlab_kernels import reference
from grnlab_kernels.cells import cell_mean_map, cell_scatter
from problem import Problem, generator, queries_keys, relative, sampled, softmax_map, weights
from torch import Tensor

Batch = tuple[Tensor, Tensor, Tensor | None]


def shared_genes(*, cells: int, batch: int, heads: int, genes: int, d_head: int, device: torch.device) -> Problem:
    """Mean over cells that share their genes, streamed in batches (two different ones, in turn)."""
    n_batches, scale, share = cells // batch, d_head**-0.5, weights(heads, device)
    different = make_batches((batch, heads, genes, d_head), min(2, n_batches), scale, device)
    rows = sampled(genes, device)
    one_cell = torch.compile(cell_map) if device.type == "cuda" else cell_map

    def batches() -> Iterator[Batch]:
        return (different[number % len(different)] for number in range(n_batches))

    def ours() -> Tensor:
        total_TT = torch.zeros(genes, genes, device=device)
        for q, k, lse in batches():
            cell_mean_map(q, k, share, total_TT, scale=scale, lse_BHT=lse)
        return total_TT / cells

    def by_cell(cell_map: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Tensor:
        total_TT = torch.zeros(genes, genes, device=device)
        for q, k, _ in batches():
            for cell in range(batch):
                total_TT += cell_map(q[cell], k[cell], share, scale)
        return total_TT / cells

    def by_batch() -> Tensor:
        total_TT = torch.zeros(genes, genes, device=device)
        for q, k, _ in batches():
            for q_8, k_8 in zip(q.split(8), k.split(8), strict=True):
                shares = torch.softmax((q_8 @ k_8.mT).float() * scale, -1)
                total_TT += torch.einsum("h,bhij->ij", share, shares)
        return total_TT / cells

    def error(got_TT: Tensor) -> float:
        expected = [
            torch.einsum("h,bhst->st", share.double(), reference.attention(q[:, :, rows], k, scale=scale)) / batch
            for q, k, _ in different
        ]
        times = [len(range(number, n_batches, len(different))) / n_batches for number in range(len(different))]
        return relative(got_TT[rows], sum(time * mean for time, mean in zip(times, expected, strict=True)))

    elements = cells * heads * genes**2
    return Problem(
        ways={
            "ours": ours,
            "loop over cells and heads": lambda: by_cell(cell_map_by_head),
            "compiled loop over cells": lambda: by_cell(one_cell),
            "8 cells at once": by_batch,
        },
        error=error,
        work={
            "flops": 2 * d_head * elements,
            "exps": elements,
            "bytes": n_batches * 2 * different[0][0].nbytes + 8 * genes**2,
        },
    )


def own_genes(
    *, cells: int, batch: int, heads: int, genes: int, d_head: int, genome: int, device: torch.device
) -> Problem:
    """Sum over cells that have genes of their own, scattered into the genome, with the number of cells of each pair."""
    n_batches, scale, share = cells // batch, d_head**-0.5, weights(heads, device)
    different = make_batches((batch, heads, genes, d_head), 1, scale, device)
    q, k, lse = different[0]
    source = generator(3, device)
    drawn = [torch.randperm(genome, generator=source, device=device)[:genes] for _ in range(batch)]
    genes_BT = torch.stack(drawn)
    total_GG = torch.ones(genome, genome, device=device)  # written, so that its pages count as held before
    pairs_GG = torch.ones(genome, genome, dtype=torch.int32, device=device)
    rows = genes_BT[0, :4]

    def result(add: Callable[[], None]) -> tuple[Tensor, Tensor]:
        total_GG.zero_()
        pairs_GG.zero_()
        for _ in range(n_batches):
            add()
        return total_GG, pairs_GG

    def by_cell() -> None:
        for cell, genes_T in enumerate(genes_BT):
            total_GG[genes_T[:, None], genes_T] += cell_map_by_head(q[cell], k[cell], share, scale)
            pairs_GG[genes_T[:, None], genes_T] += 1

    def error(got: tuple[Tensor, Tensor]) -> float:
        worst = 0.0
        for gene in rows:
            expected_G, pairs_G = torch.zeros(2, genome, dtype=torch.float64, device=device)
            for cell, place in (genes_BT == gene).nonzero().tolist():
                shares_HT = reference.attention(q[cell, :, place : place + 1], k[cell], scale=scale)[:, 0]
                expected_G[genes_BT[cell]] += n_batches * (share.double() @ shares_HT)
                pairs_G[genes_BT[cell]] += n_batches
            worst = max(worst, relative(got[0][gene], expected_G), relative(got[1][gene], pairs_G))
        return worst

    elements = cells * heads * genes**2
    scattered = cells * genes**2 * (64 if device.type == "cuda" else 4)  # an atomic addition moves 32 bytes both ways
    return Problem(
        ways={
            "ours": lambda: result(
                lambda: cell_scatter(q, k, share, genes_BT, total_GG, pairs_GG, scale=scale, lse_BHT=lse)
            ),
            "loop over cells and heads": lambda: result(by_cell),
        },
        error=error,
        work={"flops": 2 * d_head * elements, "exps": elements, "bytes": n_batches * 2 * q.nbytes + scattered},
    )


def make_batches(shape: tuple[int, ...], number: int, scale: float, device: torch.device) -> list[Batch]:
    """Queries, keys and, on a GPU, log-sum-exp of mini-batches."""
    batches: list[Batch] = []
    for seed in range(number):
        q, k = queries_keys(shape, device, seed=seed)
        lse = None
        if device.type != "cpu":
            rows = [torch.logsumexp((q_HTD.float() @ k_HTD.float().mT) * scale, -1) for q_HTD, k_HTD in zip(q, k)]  # noqa: B905
            lse = torch.stack(rows)
        batches.append((q, k, lse))
    return batches


def cell_map(q_HTD: Tensor, k_HTD: Tensor, share_H: Tensor, scale: float) -> Tensor:
    """Mean map of one cell, all heads at once."""
    return torch.einsum("h,hij->ij", share_H, torch.softmax((q_HTD @ k_HTD.mT).float() * scale, -1))


def cell_map_by_head(q_HTD: Tensor, k_HTD: Tensor, share_H: Tensor, scale: float) -> Tensor:
    """Mean map of one cell, head by head."""
    total_TT = torch.zeros(q_HTD.shape[1], q_HTD.shape[1], device=q_HTD.device)
    for head, share in enumerate(share_H.tolist()):
        total_TT += share * softmax_map(q_HTD[head], k_HTD[head], scale)
    return total_TT
