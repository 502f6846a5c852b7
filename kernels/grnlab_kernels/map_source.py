"""Rows of one map, whoever asks for them, and the operations behind :mod:`grnlab_kernels.maps`.

Arguments come checked, backends resolved, and `share_H` sums to 1. Shape suffixes as there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from grnlab_kernels import kernel_maps, rows, workers
from grnlab_kernels.operation import fake, operation

T = TypeVar("T")
_WHOLE_BYTES = 512 << 20
_TILE = 512


@dataclass(frozen=True)
class MapSource:
    """One map: the heads it is made of, and how.

    Attributes
    ----------
    q_HND, k_HND, share_H
        Queries and keys, and shares of the heads, float32.
    scale, symmetrize, apc
        See :class:`grnlab_kernels.MapOptions`.
    transpose
        Whether rows are keys.
    backend
        ``"torch"`` or ``"triton"``.
    lse_HN
        Log-sum-exp of the queries, where known; of a kernel map the logarithm of the row sums.
    kind
        ``"softmax"``, or ``"kernel"``: see :mod:`grnlab_kernels.kernel_maps`.
    """

    q_HND: Tensor
    k_HND: Tensor
    share_H: Tensor
    scale: float
    backend: str
    symmetrize: bool = False
    apc: bool = False
    transpose: bool = False
    lse_HN: Tensor | None = None
    kind: str = "softmax"

    def rows(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Finished rows, and the sums of their columns before APC."""
        panel_RN, sum_N = self._combine(start, end, self._lse())
        return _corrected(panel_RN, start, self._correction()), sum_N

    def whole(self) -> tuple[Tensor, Tensor]:
        """All rows, and the sums of their columns before APC: one pass over the map as it stands, then turned."""
        plain = replace(self, symmetrize=False, transpose=False)
        map_NN, received_N = plain._combine(0, self.q_HND.shape[1], plain._lse())
        sum_N = received_N
        if self.symmetrize or self.transpose:
            _fold(map_NN, symmetrize=self.symmetrize)
            sum_N = rows.column_sum(map_NN)
        return _corrected(map_NN, 0, self._correction(received_N)), sum_N

    def stream(self, consume: Callable[[int, Tensor], T]) -> Iterator[T]:
        """Results of ``consume(start, panel)`` for panels of finished rows, in order; one worker a CPU core."""
        n_genes, device = self.q_HND.shape[1], self.q_HND.device
        if (self.symmetrize or self.transpose or self.apc) and 4 * n_genes**2 <= _WHOLE_BYTES:
            map_NN, _ = self.whole()

            def work(start: int, end: int) -> T:
                return consume(start, map_NN[start:end])

        else:
            lse_HN, correction = self._lse(), self._correction()

            def work(start: int, end: int) -> T:
                return consume(start, _corrected(self._combine(start, end, lse_HN)[0], start, correction))

        yield from workers.run(work, n_genes, rows.panel_rows(n_genes, device), device)

    def _combine(self, start: int, end: int, lse_HN: Tensor | None) -> tuple[Tensor, Tensor]:
        ways: dict[str, Any] = {
            "start": start,
            "end": end,
            "forward": self.symmetrize or not self.transpose,
            "backward": self.symmetrize or self.transpose,
        }
        if self.kind == "kernel" and lse_HN is not None:
            return kernel_maps.combine_map(self.q_HND, self.k_HND, self.share_H, lse_HN, **ways)
        return combine_map(
            *(self.q_HND, self.k_HND, self.share_H, lse_HN), scale=self.scale, backend=self.backend, **ways
        )

    def _lse(self) -> Tensor | None:
        if self.kind == "kernel" and self.lse_HN is None:
            return kernel_maps.row_lse(self.q_HND, self.k_HND)
        if self.lse_HN is None and (self.symmetrize or self.transpose or self.backend == "triton"):
            return row_lse(self.q_HND, self.k_HND, self.scale, self.backend)
        return self.lse_HN

    def _correction(self, received_N: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
        """Row and column factors whose outer product is the correction.

        Rows of the map sum to 1, so N is the total; but in a kernel map those of genes without features are 0.
        """
        if not self.apc:
            return None
        if self.kind == "kernel":
            lse_HN = kernel_maps.row_lse(self.q_HND, self.k_HND) if self.lse_HN is None else self.lse_HN
            received_N = kernel_maps.received(self.q_HND, self.k_HND, self.share_H, lse_HN)
            given_N = kernel_maps.given(self.share_H, lse_HN)
        else:
            if received_N is None:
                received_N = column_sums(self.q_HND, self.k_HND, self.share_H, self.scale, self.backend)
            given_N = torch.ones_like(received_N)
        total = given_N.sum()
        if self.symmetrize:
            given_N = received_N = (given_N + received_N) / 2
        if self.transpose:
            given_N, received_N = received_N, given_N
        return given_N.float(), (received_N / total).float()


def _corrected(panel_RN: Tensor, start: int, correction: tuple[Tensor, Tensor] | None) -> Tensor:
    if correction is None:
        return panel_RN
    row_N, column_N = correction
    return panel_RN.addr_(row_N[start : start + len(panel_RN)], column_N, alpha=-1.0)


@operation("row_lse")
def row_lse(q_HND: Tensor, k_HND: Tensor, scale: float, backend: str) -> Tensor:
    """See :func:`grnlab_kernels.row_lse`."""
    if backend == "triton":
        from grnlab_kernels.triton_kernels import maps as kernels

        return kernels.row_lse(q_HND, k_HND, scale)
    return rows.row_lse(q_HND, k_HND, scale)


@fake("row_lse")
def _(q_HND: Tensor, k_HND: Tensor, scale: float, backend: str) -> Tensor:
    return q_HND.new_empty(q_HND.shape[:2], dtype=torch.float32)


@operation("combine_map")
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
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Rows of the map (forward), of its transpose (backward) or of their mean, float32, and column sums, float64."""
    if backend == "triton":
        from grnlab_kernels.triton_kernels import maps as kernels

        lse_HN = row_lse(q_HND, k_HND, scale, backend) if lse_HN is None else lse_HN
        panel_RN, sum_N = kernels.combine_map(q_HND, k_HND, share_H, lse_HN, scale, start, end, forward, backward)
        return panel_RN, sum_N.double()
    if backward and lse_HN is None:
        lse_HN = row_lse(q_HND, k_HND, scale, backend)
    return rows.combine_map(
        *(q_HND, k_HND, share_H, lse_HN), scale=scale, start=start, end=end, forward=forward, backward=backward
    )


@fake("combine_map")
def _(
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
    backend: str,
) -> tuple[Tensor, Tensor]:
    n_genes = q_HND.shape[1]
    return (
        q_HND.new_empty((end - start, n_genes), dtype=torch.float32),
        q_HND.new_empty(n_genes, dtype=torch.float64),
    )


@operation("column_sums")
def column_sums(q_HND: Tensor, k_HND: Tensor, share_H: Tensor, scale: float, backend: str) -> Tensor:
    """See :func:`grnlab_kernels.column_sums`."""
    plain = MapSource(q_HND, k_HND, share_H, scale, backend)
    lse_HN = plain._lse()
    n_genes, device = q_HND.shape[1], q_HND.device

    def work(start: int, end: int) -> Tensor:
        return plain._combine(start, end, lse_HN)[1]

    total_N = q_HND.new_zeros(n_genes, dtype=torch.float64)
    for sum_N in workers.run(work, n_genes, rows.panel_rows(n_genes, device), device):
        total_N += sum_N
    return total_N


@fake("column_sums")
def _(q_HND: Tensor, k_HND: Tensor, share_H: Tensor, scale: float, backend: str) -> Tensor:
    return q_HND.new_empty(q_HND.shape[1], dtype=torch.float64)


@operation("topk_edges")
def topk_edges(
    q_HND: Tensor,
    k_HND: Tensor,
    share_H: Tensor,
    candidates: Tensor | None,
    *,
    n_edges: int,
    scale: float,
    symmetrize: bool,
    apc: bool,
    transpose: bool,
    backend: str,
    kind: str = "softmax",
) -> tuple[Tensor, Tensor]:
    """See :func:`grnlab_kernels.topk_edges`; `transpose` for ``per="key"``."""
    n_genes, device = q_HND.shape[1], q_HND.device
    n_kept = min(n_edges, n_genes if candidates is None else len(candidates))
    partner_NK = torch.empty(n_genes, n_kept, dtype=torch.int64, device=device)
    value_NK = torch.empty(n_genes, n_kept, device=device)

    def keep(start: int, panel_RN: Tensor) -> None:
        row = torch.arange(len(panel_RN), device=device)
        panel_RN[row, row + start] = -torch.inf
        value, place = _stable_topk(panel_RN if candidates is None else panel_RN[:, candidates], n_kept)
        partner_NK[start + row], value_NK[start + row] = place if candidates is None else candidates[place], value

    source = MapSource(q_HND, k_HND, share_H, scale, backend, symmetrize, apc, transpose, kind=kind)
    for _ in source.stream(keep):
        pass
    nobody_NK = value_NK == -torch.inf
    return partner_NK.masked_fill_(nobody_NK, -1), value_NK.masked_fill_(nobody_NK, torch.nan)


@fake("topk_edges")
def _(
    q_HND: Tensor,
    k_HND: Tensor,
    share_H: Tensor,
    candidates: Tensor | None,
    *,
    n_edges: int,
    scale: float,
    symmetrize: bool,
    apc: bool,
    transpose: bool,
    backend: str,
    kind: str = "softmax",
) -> tuple[Tensor, Tensor]:
    n_genes = q_HND.shape[1]
    shape = n_genes, min(n_edges, n_genes if candidates is None else len(candidates))
    return q_HND.new_empty(shape, dtype=torch.int64), q_HND.new_empty(shape, dtype=torch.float32)


def _fold(map_NN: Tensor, *, symmetrize: bool) -> None:
    """Turn a map, or average it with its transpose, in place."""
    for start in range(0, len(map_NN), _TILE):
        for other in range(start, len(map_NN), _TILE):
            upper = map_NN[start : start + _TILE, other : other + _TILE]
            lower = map_NN[other : other + _TILE, start : start + _TILE]
            turned_upper, turned_lower = upper.T.clone(), lower.T.clone()
            if symmetrize:
                turned_lower.add_(upper).mul_(0.5)
                turned_upper = turned_lower.T
            upper.copy_(turned_lower)
            lower.copy_(turned_upper)


def _stable_topk(panel_RC: Tensor, n_kept: int) -> tuple[Tensor, Tensor]:
    """Top values by row, ties by the lower column; torch.topk alone leaves the choice among ties open."""
    n_columns = panel_RC.shape[1]
    value, place = panel_RC.topk(min(n_kept + 1, n_columns), dim=-1)
    if n_kept < n_columns:
        cut_ties = value[:, n_kept] == value[:, n_kept - 1]
        value, place = value[:, :n_kept], place[:, :n_kept]
        if cut_ties.any():
            exact = panel_RC[cut_ties].sort(dim=-1, descending=True, stable=True)
            value[cut_ties], place[cut_ties] = exact.values[:, :n_kept], exact.indices[:, :n_kept]
    by_column = place.argsort(dim=-1)
    value, place = value.gather(-1, by_column), place.gather(-1, by_column)
    by_value = value.sort(dim=-1, descending=True, stable=True).indices
    return value.gather(-1, by_value), place.gather(-1, by_value)
