"""Preprocessing: counts that are counts, gene names that are unique."""

from grnlab.data.counts import recover_counts, sum_duplicate_genes

__all__ = ["recover_counts", "sum_duplicate_genes"]
