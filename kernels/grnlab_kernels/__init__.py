"""Consumers of the attention tile stream, the losses that need care with floating point, and the token sampler.

Every operation has a float64 reference (:mod:`grnlab_kernels.reference`), an implementation in PyTorch and compiled
loops, and, where it pays, a Triton kernel; :mod:`grnlab_kernels.dispatch` chooses.
"""

from grnlab_kernels.cells import cell_mean_map, cell_scatter
from grnlab_kernels.dispatch import resolve_backend
from grnlab_kernels.histograms import Histogram, auprc_from_histograms, epr_from_histograms, head_hist, pair_hist
from grnlab_kernels.maps import MapOptions, column_sums, combine_map, map_panels, row_lse, topk_edges
from grnlab_kernels.pairs import Gram, gather_pairs, head_gram
from grnlab_kernels.pooling import add_by_gene
from grnlab_kernels.sampling import sample_csr
from grnlab_kernels.zinb import zinb_nll

__all__ = [
    "Gram",
    "Histogram",
    "MapOptions",
    "add_by_gene",
    "auprc_from_histograms",
    "cell_mean_map",
    "cell_scatter",
    "column_sums",
    "combine_map",
    "epr_from_histograms",
    "gather_pairs",
    "head_gram",
    "head_hist",
    "map_panels",
    "pair_hist",
    "resolve_backend",
    "row_lse",
    "sample_csr",
    "topk_edges",
    "zinb_nll",
]
