"""Consumers of the attention tile stream, and the losses that need care with floating point.

Every operation has a reference in PyTorch; :mod:`grnlab_kernels.dispatch` chooses the implementation.
"""

from grnlab_kernels.dispatch import resolve_backend
from grnlab_kernels.maps import MapOptions, column_sums, map_panels, row_lse, topk_edges
from grnlab_kernels.pooling import add_by_gene
from grnlab_kernels.zinb import zinb_nll

__all__ = [
    "MapOptions",
    "add_by_gene",
    "column_sums",
    "map_panels",
    "resolve_backend",
    "row_lse",
    "topk_edges",
    "zinb_nll",
]
