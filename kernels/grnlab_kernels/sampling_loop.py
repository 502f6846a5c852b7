"""The compiled loop of :mod:`grnlab_kernels.sampling`. It imports numba, so it is itself imported where it runs.

Random numbers are SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195): a counter and a mixing function,
so that each cell has a stream of its own and the loop waits for no previous number.
"""

import numpy as np
from numba import njit

OK, BAD_POINTERS, REPEATED_AVAILABLE, NOT_AVAILABLE, REPEATED_GENE = range(5)

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31, _32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
_TWO_32 = np.uint64(1 << 32)
_LOW_32 = np.uint64((1 << 32) - 1)


@njit(nogil=True, cache=True)
def mix(x: np.uint64) -> np.uint64:
    """Mix the bits of a counter."""
    x = (x ^ (x >> _30)) * _FIRST
    x = (x ^ (x >> _27)) * _SECOND
    return x ^ (x >> _31)


@njit(nogil=True, cache=True)
def below(state: np.uint64, n: int) -> tuple[np.uint64, np.int64]:
    """Next state, and a uniform whole number in [0, n), n < 2³², free of modulo bias (Lemire, doi:10.1145/3230636)."""
    bound = np.uint64(n)
    state += _STEP
    product = (mix(state) >> _32) * bound
    if (product & _LOW_32) < bound:
        unfair = (_TWO_32 - bound) % bound
        while (product & _LOW_32) < unfair:
            state += _STEP
            product = (mix(state) >> _32) * bound
    return state, np.int64(product >> _32)


@njit(nogil=True, cache=True)
def draw_first(pool: np.ndarray, n_pool: int, n_drawn: int, state: np.uint64) -> np.uint64:
    """Fisher-Yates, stopped early: the first `n_drawn` of the pool become a random draw without replacement."""
    for place in range(n_drawn):
        state, skip = below(state, n_pool - place)
        pool[place], pool[place + skip] = pool[place + skip], pool[place]
    return state


@njit(nogil=True, cache=True)
def find_expressed(
    genes: np.ndarray, counts: np.ndarray, mark_G: np.ndarray, used: int, pool: np.ndarray
) -> tuple[int, int, int]:
    """Mark the genes of a cell as used and put their places into the pool; fault, gene and number of places."""
    n_expressed = 0
    for entry, gene in enumerate(genes):
        if counts[entry] == 0:
            continue
        if not 0 <= gene < len(mark_G) or mark_G[gene] == 0:
            return NOT_AVAILABLE, gene, 0
        if mark_G[gene] == used:
            return REPEATED_GENE, gene, 0
        mark_G[gene] = used
        pool[n_expressed] = entry
        n_expressed += 1
    return OK, 0, n_expressed


@njit(nogil=True, cache=True)
def draw_unexpressed(  # noqa: PLR0917
    tokens: np.ndarray, available: np.ndarray, mark_G: np.ndarray, used: int, pool: np.ndarray, state: np.uint64
) -> None:
    """Fill `tokens` with distinct genes that are not marked as used, by a list of them."""
    n_pool = 0
    for gene in available:
        if mark_G[gene] != used:
            pool[n_pool] = gene
            n_pool += 1
    draw_first(pool, n_pool, len(tokens), state)
    tokens[:] = pool[: len(tokens)]


@njit(nogil=True, cache=True)
def try_unexpressed(tokens: np.ndarray, available: np.ndarray, mark_G: np.ndarray, used: int, state: np.uint64) -> None:
    """As :func:`draw_unexpressed`, by trial and error: quick where most genes are not used."""
    for token in range(len(tokens)):
        state, place = below(state, len(available))
        while mark_G[available[place]] == used:
            state, place = below(state, len(available))
        tokens[token] = available[place]
        mark_G[available[place]] = used


@njit(nogil=True, cache=True)
def draw_cells(  # noqa: PLR0917
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    rows_B: np.ndarray,
    available: np.ndarray,
    most_expressed: int,
    seed: np.uint64,
    tokens_BT: np.ndarray,
    counts_BT: np.ndarray,
) -> tuple[int, int, int]:
    """Fill `tokens_BT` and `counts_BT`; return what is wrong, and with which row and gene."""
    n_tokens, n_available = tokens_BT.shape[1], len(available)
    mark_G = np.zeros(available.max() + 1, dtype=np.int32)  # 0 not available, 1 available, place + 2 used in that cell
    for gene in available:
        if mark_G[gene]:
            return REPEATED_AVAILABLE, 0, gene
        mark_G[gene] = 1
    pool = np.empty(n_available, dtype=np.int32)
    for place, row in enumerate(rows_B):
        start, end, used = indptr[row], indptr[row + 1], place + 2
        if not 0 <= start <= end <= len(indices):
            return BAD_POINTERS, row, 0
        genes, counts, tokens_T = indices[start:end], data[start:end], tokens_BT[place]
        fault, gene, n_expressed = find_expressed(genes, counts, mark_G, used, pool)
        if fault != OK:
            return fault, row, gene
        state = mix(mix(seed) + np.uint64(place))
        n_seen = min(n_expressed, max(most_expressed, n_tokens - (n_available - n_expressed)))
        state = draw_first(pool, n_expressed, n_seen, state)
        for token in range(n_seen):
            tokens_T[token] = genes[pool[token]]
            counts_BT[place, token] = counts[pool[token]]
        counts_BT[place, n_seen:] = 0
        if 2 * (n_expressed + n_tokens - n_seen) <= n_available:  # then a try succeeds at least every other time
            try_unexpressed(tokens_T[n_seen:], available, mark_G, used, state)
        else:
            draw_unexpressed(tokens_T[n_seen:], available, mark_G, used, pool, state)
    return OK, 0, 0
