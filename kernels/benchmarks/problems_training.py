"""What feeds and judges training: the count likelihood and the sampler of contexts."""

from collections import deque

import numpy as np
import torch
from grnlab_kernels import reference
from grnlab_kernels.sampling import sample_csr
from grnlab_kernels.zinb import zinb_nll
from problem import Problem, generator
from torch import Tensor

Contexts = deque[tuple[np.ndarray, np.ndarray, np.ndarray]]  # rows, genes, counts


def zinb(*, cells: int, tokens: int, calls: int, device: torch.device) -> Problem:
    """Likelihood of counts up to 10⁴ and its gradients, forward and backward."""
    source, shape = generator(0, device), (cells, tokens)
    x = (10 ** (4 * torch.rand(shape, generator=source, device=device))).floor()
    x *= torch.rand(shape, generator=source, device=device) < 0.7
    log_mu = (x + 1).log() + 0.5 * torch.randn(shape, generator=source, device=device)
    log_theta, zero_logit = torch.randn((2, *shape), generator=source, device=device) * 2

    def trained(likelihood: object, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        leaves = [values.detach().to(dtype).requires_grad_() for values in (log_mu, log_theta, zero_logit)]
        loss = likelihood(x.to(dtype), *leaves)  # type: ignore[operator]
        loss.sum().backward()
        return [loss.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    def often(likelihood: object) -> list[Tensor]:
        return [trained(likelihood) for _ in range(calls)][-1]

    def error(got: list[Tensor]) -> float:
        expected = trained(reference.zinb_nll, torch.float64)
        return max(
            float(((one.double() - other).abs() / other.abs().clamp(min=1.0)).max())
            for one, other in zip(got, expected, strict=True)
        )

    return Problem(
        ways={"ours": lambda: often(zinb_nll), "textbook, float32": lambda: often(textbook)},
        error=error,
        work={"exps": 8.0 * x.numel(), "bytes": 28.0 * x.numel()},
        peer_tolerance=float("inf"),  # how far it is off is what the case shows
        calls=calls,
    )


def textbook(x: Tensor, log_mu: Tensor, log_theta: Tensor, zero_logit: Tensor) -> Tensor:
    """The formula as it is usually written, in the precision of its arguments."""
    mu, theta, eps = log_mu.exp(), log_theta.exp(), 1e-8
    log_nb = (
        torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
        + theta * (torch.log(theta + eps) - torch.log(theta + mu + eps))
        + x * (torch.log(mu + eps) - torch.log(theta + mu + eps))
    )
    log_pi, log_rest = torch.nn.functional.logsigmoid(zero_logit), torch.nn.functional.logsigmoid(-zero_logit)
    return -torch.where(x == 0, torch.logaddexp(log_pi, log_rest + log_nb), log_rest + log_nb)


def sampler(*, cells: int, genes: int, expressed: int, tokens: int, device: torch.device) -> Problem:
    """Contexts of training cells, drawn in batches of 64; the error is the share of contexts that must not be.

    As a loader does, the ways let go of all but the last contexts, which are checked.
    """
    rng = np.random.default_rng(0)
    n_stored, batch = min(cells, 1000), 64
    lengths = rng.integers(expressed * 4 // 5, expressed * 6 // 5, n_stored)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.concatenate([np.sort(rng.choice(genes, length, replace=False)) for length in lengths])
    data = rng.geometric(0.4, len(indices)).astype(np.float32)
    rows, available = rng.integers(0, n_stored, cells), np.arange(genes)

    def ours() -> Contexts:
        kept: Contexts = deque(maxlen=2)
        for start in range(0, cells, batch):
            here = rows[start : start + batch]
            kept.append((here, *sample_csr(indptr, indices, data, here, available, tokens, seed=start)))
        return kept

    def loop() -> Contexts:
        source = np.random.default_rng(0)
        kept: Contexts = deque(maxlen=2 * batch)
        for row in rows:
            seen, counts = indices[indptr[row] : indptr[row + 1]], data[indptr[row] : indptr[row + 1]]
            silent = np.setdiff1d(available, seen, assume_unique=True)
            n_seen = min(len(seen), tokens - round(0.25 * tokens))
            chosen = source.permutation(len(seen))[:n_seen]
            padding = source.choice(silent, tokens - n_seen, replace=False)
            values = np.concatenate([counts[chosen], np.zeros(len(padding), dtype=np.float32)])
            kept.append((np.array([row]), np.concatenate([seen[chosen], padding])[None], values[None]))
        return kept

    def error(got: Contexts) -> float:
        checked, drawn, counts = (np.concatenate(parts) for parts in zip(*got, strict=True))
        wrong = 0
        for row, genes_T, counts_T in zip(checked, drawn, counts, strict=True):
            dense = np.zeros(genes, dtype=np.float32)
            dense[indices[indptr[row] : indptr[row + 1]]] = data[indptr[row] : indptr[row + 1]]
            wrong += len(np.unique(genes_T)) < tokens or not np.array_equal(dense[genes_T], counts_T)
        return wrong / len(checked)

    return Problem(
        ways={"ours": ours, "numpy loop over cells": loop},
        error=error,
        work={"bytes": float(cells * (12 * expressed + 12 * tokens))},
        tolerance=0.0,
        items=cells,
    )
