"""The attention of all heads at the pairs of a candidate universe, one panel of query genes at a time.

A universe is every pair of a query gene and a key gene but a gene with itself. The softmax always runs over all N
genes. What consumes the panels lives in :mod:`grnlab_kernels.pairs` and :mod:`grnlab_kernels.histograms`.

Shape suffixes: H heads, N genes, D head dimension, R query genes of a panel, C key genes.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from grnlab_kernels import kernel_maps
from grnlab_kernels.checks import check_genes
from grnlab_kernels.products import products
from grnlab_kernels.workers import panels, run

T = TypeVar("T")

_PANEL_BYTES = {"cpu": 32 << 20, "device": 256 << 20}
_PANEL_ROWS = {"cpu": (16, 64), "device": (16, 1 << 16)}  # products of fewer rows are inefficient, of more no faster


@dataclass(frozen=True)
class PairPanels:
    """Features ``x[r, h, c] = exp(scale · q_hr · k_hc − L_hr)`` of a universe, panel by panel.

    Attributes
    ----------
    q_HND, k_HND
        Checked queries and keys of all genes.
    query, key
        Genes of the universe, each once.
    scale
        Factor of the logits.
    lse_HN
        Log-sum-exp of the query genes, float32; unless `known`, filled in there by :meth:`run`.
    known
        Whether `lse_HN` holds them already.
    kind
        ``"softmax"``, or ``"kernel"``: ``x[r, h, c] = q_hr · k_hc / exp(L_hr)``.
    """

    q_HND: Tensor
    k_HND: Tensor
    query: Tensor
    key: Tensor
    scale: float
    lse_HN: Tensor
    known: bool
    kind: str = "softmax"

    def run(self, consume: Callable[[Tensor], T], backend: str) -> Iterator[T]:
        """Results of `consume` for each panel (R, H, C), in the order of the query genes; one worker a CPU core.

        A gene with itself holds 0. A panel is overwritten by the next one of its worker.
        """
        if not len(self.query) or not len(self.key):
            return iter(())
        return self._triton(consume) if backend == "triton" else self._torch(consume)

    def _triton(self, consume: Callable[[Tensor], T]) -> Iterator[T]:
        from grnlab_kernels.triton_kernels.pairs import head_panel

        if not self.known:
            fill_lse(self.lse_HN, self.q_HND, self.k_HND, self.query, self.scale, backend="triton")
        for start, end in panels(len(self.query), self._rows()):
            yield consume(head_panel(self.q_HND, self.k_HND, self.lse_HN, self.scale, self.query[start:end], self.key))

    def _torch(self, consume: Callable[[Tensor], T]) -> Iterator[T]:
        n_heads, n_genes, _ = self.q_HND.shape
        n_keys, device = len(self.key), self.key.device
        column, scale = self.key, 1.0 if self.kind == "kernel" else self.scale
        if self.kind == "kernel" and not self.known:
            self.lse_HN[:, self.query] = kernel_maps.row_lse(self.q_HND, self.k_HND)[:, self.query]
        elif not self.known:  # behind the keys of the universe, those that only the softmax sees
            other = torch.ones(n_genes, dtype=torch.bool, device=device)
            other[self.key] = False
            column = torch.cat((column, other.nonzero().ravel()))
        q_HND, k_HND = self.q_HND.float(), self.k_HND.float()
        if not torch.equal(column, torch.arange(n_genes, device=device)):
            k_HND = k_HND[:, column]
        place_N = torch.full((n_genes,), -1, device=device)
        place_N[self.key] = torch.arange(n_keys, device=device)
        rows = self._rows()
        own = threading.local()

        def work(start: int, end: int) -> T:
            if not hasattr(own, "x_RHC"):
                own.x_RHC = q_HND.new_empty(rows, n_heads, n_keys)
            gene_R, x_RHC = self.query[start:end], own.x_RHC[: end - start]
            self._fill(x_RHC, q_HND[:, gene_R] * scale, k_HND, gene_R)
            place_R = place_N[gene_R]
            both = (place_R >= 0).nonzero().ravel()
            x_RHC[both, :, place_R[both]] = 0.0
            return consume(x_RHC)

        return run(work, len(self.query), rows, device)

    def _fill(self, x_RHC: Tensor, q_HRD: Tensor, k_HCD: Tensor, gene_R: Tensor) -> None:
        n_keys = x_RHC.shape[-1]
        for head in range(len(q_HRD)):
            logits_RC = products(q_HRD[head], k_HCD[head])
            if self.kind == "kernel":
                x_RHC[:, head] = logits_RC.mul_((-self.lse_HN[head, gene_R, None]).exp()).clamp_(max=1.0)
                continue
            if self.known:
                # a share is at most 1, also where huge logits leave rounding errors above 0
                x_RHC[:, head] = logits_RC.sub_(self.lse_HN[head, gene_R, None]).clamp_(max=0.0).exp_()
                continue
            shares_RC = torch.softmax(logits_RC, -1)
            self.lse_HN[head, gene_R] = logits_RC.amax(-1) - shares_RC.amax(-1).log()
            x_RHC[:, head] = shares_RC[:, :n_keys]
        check_lse_values(self.lse_HN, gene_R)

    def _rows(self) -> int:
        kind = "cpu" if self.q_HND.device.type == "cpu" else "device"
        fewest, most = _PANEL_ROWS[kind]
        return max(fewest, min(most, _PANEL_BYTES[kind] // (4 * len(self.q_HND) * len(self.key))))


def fill_lse(lse_HN: Tensor, q_HND: Tensor, k_HND: Tensor, query: Tensor, scale: float, *, backend: str) -> None:
    """Write the log-sum-exp of distinct query genes over all keys into their places of `lse_HN`."""
    if backend == "triton":
        from grnlab_kernels.triton_kernels.maps import row_lse

        lse_HN[:, query] = row_lse(q_HND, k_HND, scale)[:, query]
        check_lse_values(lse_HN, query)
        return
    k_HND = k_HND.float()

    def work(start: int, end: int) -> None:
        gene_R = query[start:end]
        for head in range(len(q_HND)):
            logits_RN = products(q_HND[head, gene_R].float() * scale, k_HND[head])
            lse_HN[head, gene_R] = torch.logsumexp(logits_RN, -1)
        check_lse_values(lse_HN, gene_R)

    for _ in run(work, len(query), _PANEL_ROWS["cpu"][1], query.device):
        pass


def as_genes(name: str, genes: Tensor, n_genes: int, device: torch.device) -> Tensor:
    """A list of gene numbers, checked, on the device of the queries."""
    if genes.ndim != 1:
        msg = f"{name} has shape {tuple(genes.shape)}; expected a one-dimensional list of gene numbers."
        raise ValueError(msg)
    check_genes(name, genes, n_genes)
    return genes.to(device)


def universe(n_genes: int, device: torch.device, query: Tensor | None, key: Tensor | None) -> tuple[Tensor, Tensor]:
    """Query and key genes: all by default, none twice."""
    chosen = []
    for name, genes in (("query", query), ("key", key)):
        if genes is None:
            chosen.append(torch.arange(n_genes, device=device))
            continue
        count_N = torch.bincount(as_genes(name, genes, n_genes, device), minlength=n_genes)
        if (count_N > 1).any():
            gene = int((count_N > 1).nonzero()[0])
            msg = f"{name} lists gene {gene} {int(count_N[gene])} times; give each gene once, as .unique() does."
            raise ValueError(msg)
        chosen.append(genes.to(device))
    return chosen[0], chosen[1]


def check_lse(lse_HN: Tensor | None, q_HND: Tensor, query: Tensor) -> None:
    """Log-sum-exp of every head and gene, float32, finite where a query gene needs it."""
    if lse_HN is None:
        return
    expected = (tuple(q_HND.shape[:2]), torch.float32, q_HND.device)
    if (found := (tuple(lse_HN.shape), lse_HN.dtype, lse_HN.device)) != expected:
        msg = f"lse_HN is {found}; expected shape, dtype, device {expected}, as row_lse returns it for these queries."
        raise ValueError(msg)
    check_lse_values(lse_HN, query)


def check_lse_values(lse_HN: Tensor, query: Tensor) -> None:
    """A finite log-sum-exp for these query genes: without one, NaN or infinite queries or keys would pass unseen."""
    bad_HR = ~lse_HN[:, query].isfinite()
    if bad_HR.any():
        head, row = (int(place) for place in bad_HR.nonzero()[0])
        msg = (
            f"the log-sum-exp of head {head} at query gene {int(query[row])} is {float(lse_HN[head, query[row]])}; "
            "queries, keys and lse_HN must be finite there."
        )
        raise ValueError(msg)
