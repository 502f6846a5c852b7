"""The compiled loops of :mod:`grnlab_kernels.cells`. It imports numba, so it is itself imported where it runs."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def add_panel(
    panel_RT: np.ndarray, row_R: np.ndarray, column_T: np.ndarray, place_T: np.ndarray, total_GG: np.ndarray
) -> None:
    """Add ``panel[r, place[c]]`` to ``total[row[r], column[c]]``; quickest when `column_T` rises."""
    for r in range(len(row_R)):
        panel_T, total_G = panel_RT[r], total_GG[row_R[r]]
        for c in range(len(column_T)):
            total_G[column_T[c]] += panel_T[place_T[c]]


@njit(nogil=True, cache=True)
def count_pairs(genes_T: np.ndarray, pairs_GG: np.ndarray) -> None:
    """Add 1 at all pairs of distinct genes, each with itself too."""
    for row in genes_T:
        pairs_G = pairs_GG[row]
        for column in genes_T:
            pairs_G[column] += 1
