"""The compiled loops of :mod:`grnlab_kernels.maps`. It imports numba, so it is itself imported where it runs.

A row of logits is read from memory once and stays in a core's fastest cache while it is summed, and no softmax is
written back: a third of the time of softmax and addition by PyTorch. Logits come as the bits of a float, int32 (shift
0) of a float32 or int16 (shift 16) of a bfloat16: the largest is then found among whole numbers, which compilers
vectorise. Every product and sum but that of a row is rounded in one fixed way, so that equal logits give equal shares
wherever they stand in a row. NaN and infinite logits give NaN.
"""

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

_LOG2_E = np.float32(math.log2(math.e))
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # 9 bits, and the rest
# eˣ = 1 + x + x² p(x) on [−ln 2 / 2, ln 2 / 2]: minimax polynomial of expf in Cephes (Moshier 1992)
_P0, _P1, _P2, _P3, _P4, _P5 = (
    *(np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)),
    *(np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)),
)
_ZERO, _HALF, _ONE, _LOWEST = np.float32(0), np.float32(0.5), np.float32(1), np.float32(-88)
_SIGN, _MANTISSA, _BIAS = np.int32(31), np.int32(23), np.int32(127)
_MAGNITUDE, _LEAST = np.int32(0x7FFFFFFF), np.int32(-(2**31))


def _build_bitcast(typing: Any, bits: types.Type) -> tuple:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), build


def _build_fma(typing: Any, x: types.Type, y: types.Type, z: types.Type) -> tuple:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), build


_as_float: Any = intrinsic(_build_bitcast)
_fma: Any = intrinsic(_build_fma)


@njit(cache=True)
def _exp(x: np.float32) -> np.float32:
    """``eˣ`` for x ≤ 0, off by at most 1.4 · 2⁻²⁴ of itself; 0 below −87.7, where float32 loses digits."""
    near = _LOWEST if x < _LOWEST else x
    power = np.int32(_fma(near, _LOG2_E, -_HALF))
    r = _fma(np.float32(power), -_LN2_LOW, _fma(np.float32(power), -_LN2_HIGH, near))
    p = _fma(_fma(_fma(_fma(_fma(_P0, r, _P1), r, _P2), r, _P3), r, _P4), r, _P5)
    return (_fma(p, r * r, r) + _ONE) * _as_float((power + _BIAS) << _MANTISSA)


@njit(cache=True)
def _largest(bits_N: np.ndarray, shift: np.int32) -> np.float32:
    largest = _LEAST
    for j in range(len(bits_N)):
        bits = np.int32(np.int32(bits_N[j]) << shift)
        largest = max(largest, np.int32(bits ^ ((bits >> _SIGN) & _MAGNITUDE)))  # in the order of the floats
    return _as_float(np.int32(largest ^ ((largest >> _SIGN) & _MAGNITUDE)))


@njit(cache=True)
def _exp_row(bits_N: np.ndarray, shift: np.int32, scale: np.float32, largest: np.float32, row_N: np.ndarray) -> None:
    for j in range(len(bits_N)):
        row_N[j] = _exp((_as_float(np.int32(np.int32(bits_N[j]) << shift)) - largest) * scale)


@njit(cache=True, fastmath={"reassoc", "nsz"})
def _sum(row_N: np.ndarray) -> np.float32:
    total = _ZERO
    for j in range(len(row_N)):
        total += row_N[j]
    return total


@njit(cache=True)
def _add(panel_N: np.ndarray, factor: np.float32, row_N: np.ndarray) -> None:
    for j in range(len(panel_N)):
        panel_N[j] = _fma(factor, row_N[j], panel_N[j])


@njit(nogil=True, cache=True)
def add_softmax(
    bits_RN: np.ndarray, shift: np.int32, scale: np.float32, share: np.float32, panel_RN: np.ndarray
) -> None:
    """``panel[r, j] += share · softmax_j(scale · logits[r, j])``."""
    row_N = np.empty(bits_RN.shape[1], np.float32)
    for r in range(len(bits_RN)):
        largest = _largest(bits_RN[r], shift)
        _exp_row(bits_RN[r], shift, scale, largest, row_N)
        _add(panel_RN[r], share / _sum(row_N), row_N)


@njit(nogil=True, cache=True)
def add_exp(  # noqa: PLR0917 - numba takes no keyword-only arguments
    bits_RN: np.ndarray, shift: np.int32, scale: np.float32, share: np.float32, panel_RN: np.ndarray, lse_N: np.ndarray
) -> None:
    """``panel[r, j] += share · min(1, exp(scale · logits[r, j] − lse[j]))``.

    A share is at most 1, also where huge logits leave rounding errors above 0.
    """
    for r in range(len(bits_RN)):
        bits_N, panel_N = bits_RN[r], panel_RN[r]
        for j in range(len(bits_N)):
            x = _fma(_as_float(np.int32(np.int32(bits_N[j]) << shift)), scale, -lse_N[j])
            panel_N[j] = _fma(share, _exp(_ZERO if x > _ZERO else x), panel_N[j])


@njit(nogil=True, cache=True)
def log_sum_exp(bits_RN: np.ndarray, shift: np.int32, scale: np.float32, lse_R: np.ndarray) -> None:
    """``lse[r] = log Σ_j exp(scale · logits[r, j])``."""
    row_N = np.empty(bits_RN.shape[1], np.float32)
    for r in range(len(bits_RN)):
        largest = _largest(bits_RN[r], shift)
        _exp_row(bits_RN[r], shift, scale, largest, row_N)
        lse_R[r] = largest * scale + math.log(_sum(row_N))
