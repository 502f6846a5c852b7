"""The compiled loop of :mod:`grnlab_kernels.zinb`. It imports numba, so it is itself imported where it runs."""

import math

import numpy as np
from numba import njit

_SMALL_COUNT = 16  # up to here Γ(x + θ) / Γ(θ) x! is a product of x factors: one logarithm, nothing cancels
_SMALL_THETA = 8.0  # below, θ and x + θ are moved up by 8, where seven terms of Stirling's series reach float64
_SHIFT = 8


@njit(nogil=True, cache=True)
def log1p(y: float) -> float:
    """``log(1 + y)`` for y ≥ 0, faster than math.log1p: the rounding of 1 + y is put right to first order."""
    u = 1 + y
    return math.log(u) + (y - (u - 1)) / u


@njit(nogil=True, cache=True)
def stirling(w: float) -> float:
    """``log Γ(w) − (w − ½) log w + w − ½ log 2π`` for w ≥ 8 (Abramowitz & Stegun 6.1.41)."""
    u = 1 / (w * w)
    return (
        1 / 12 - u * (1 / 360 - u * (1 / 1260 - u * (1 / 1680 - u * (1 / 1188 - u * (691 / 360360 - u / 156)))))
    ) / w


@njit(nogil=True, cache=True)
def log_minus_digamma(w: float) -> float:
    """``log w − ψ(w)`` for w ≥ 8 (Abramowitz & Stegun 6.3.18)."""
    u = 1 / (w * w)
    series = 1 / 12 - u * (1 / 120 - u * (1 / 252 - u * (1 / 240 - u * (1 / 132 - u * (691 / 32760 - u / 12)))))
    return 0.5 / w + u * series


@njit(nogil=True, cache=True)
def gamma_ratio(x: float, theta: float, log_theta: float) -> tuple[float, float]:
    """``log Γ(x + θ) − log Γ(θ) − log x!`` for x > 0, and its derivative by log θ."""
    product, derivative = 1.0, 0.0  # of (θ + 1)(θ + 2)…; the factor θ is kept as log θ, which does not underflow
    if x <= _SMALL_COUNT and x == math.floor(x):
        factorial = 1.0
        for step in range(1, int(x)):
            derivative = derivative * (theta + step) + product
            product *= theta + step
            factorial *= step + 1
        return log_theta + math.log(product / factorial), 1 + theta * derivative / product
    w, value, slope = theta, 0.0, 0.0
    if theta < _SMALL_THETA:
        above, above_derivative = 1.0, 0.0  # of n(n + 1)…, n = x + θ
        for step in range(1, _SHIFT):
            derivative = derivative * (theta + step) + product
            product *= theta + step
        for step in range(_SHIFT):
            above_derivative = above_derivative * (x + theta + step) + above
            above *= x + theta + step
        w += _SHIFT
        value = log_theta + math.log(product / above)
        slope = 1 + theta * (derivative / product - above_derivative / above)
    grown = log1p(x / w)
    value += (w - 0.5) * grown + x * (math.log(w + x) - 1) + stirling(w + x) - stirling(w) - math.lgamma(x + 1)
    return value, slope + theta * (grown + log_minus_digamma(w) - log_minus_digamma(w + x))


@njit(nogil=True, cache=True)
def sigmoids(a: float) -> tuple[float, float, float]:
    """``sigmoid(a)``, ``sigmoid(−a)`` and ``−log sigmoid(−a)``, each to full relative precision."""
    small = math.exp(-abs(a))
    large = 1 / (1 + small)
    softplus = max(a, 0.0) + log1p(small)
    return (large, small * large, softplus) if a > 0 else (small * large, large, softplus)


@njit(nogil=True, cache=True, error_model="numpy")
def zinb(  # noqa: PLR0917 - arrays in, arrays out
    inflated: bool,
    x_N: np.ndarray,
    log_mu_N: np.ndarray,
    log_theta_N: np.ndarray,
    zero_logit_N: np.ndarray,
    nll_N: np.ndarray,
    by_mu_N: np.ndarray,
    by_theta_N: np.ndarray,
    by_zero_N: np.ndarray,
) -> None:
    """Fill `nll_N` and its derivatives by the logarithms and the logit; float64 inside."""
    for place in range(len(x_N)):
        x, log_theta = np.float64(x_N[place]), np.float64(log_theta_N[place])
        theta = math.exp(log_theta)
        a = np.float64(log_mu_N[place]) - log_theta
        q, p, softplus = sigmoids(a)
        log_nb, by_mu, by_theta = -theta * softplus, x * p - theta * q, theta * (q - softplus) - x * p
        if x != 0:
            ratio, ratio_slope = gamma_ratio(x, theta, log_theta)
            log_nb += ratio + x * (a - softplus)
            by_theta += ratio_slope
        if inflated:
            zero_logit = np.float64(zero_logit_N[place])
            pi, _, zero_softplus = sigmoids(zero_logit)
            by_zero = -pi
            if x == 0:  # either way to a zero; their shares weight the derivatives
                from_pi, from_nb, more = sigmoids(zero_logit - log_nb)
                log_nb += more
                by_mu, by_theta, by_zero = from_nb * by_mu, from_nb * by_theta, from_pi - pi
            log_nb -= zero_softplus
            by_zero_N[place] = -by_zero
        nll_N[place], by_mu_N[place], by_theta_N[place] = -log_nb, -by_mu, -by_theta
