"""Preprocessing: counts that are counts, gene names that are unique."""

from grnlab.data.continuous import pseudo_counts
from grnlab.data.counts import recover_counts, sum_duplicate_genes

__all__ = ["pseudo_counts", "recover_counts", "sum_duplicate_genes"]
