"""ZINB negative log-likelihood and its derivatives in one pass; the formulas are those of :mod:`grnlab_kernels.zinb`.

Float64 inside: there is no log-gamma here, only exponentials and logarithms, and elements are few. Every branch is
computed and the right one taken, since neighbours in a warp differ. Shape suffix: N elements of the flattened tensors.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from grnlab_kernels.triton_kernels.tiles import tile


@triton.jit
def log1p(y):
    """``log(1 + y)`` for y ≥ 0: the rounding of 1 + y is put right to first order."""
    u = 1.0 + y
    return tl.log(u) + (y - (u - 1.0)) / u


@triton.jit
def sigmoids(a):
    """``sigmoid(a)``, ``sigmoid(−a)`` and ``−log sigmoid(−a)``, each to full relative precision."""
    small = tl.exp(-tl.abs(a))
    large = 1.0 / (1.0 + small)
    above, below = tl.where(a > 0, large, small * large), tl.where(a > 0, small * large, large)
    return above, below, tl.maximum(a, 0.0) + log1p(small)


@triton.jit
def stirling(w):
    """``log Γ(w) − (w − ½) log w + w − ½ log 2π`` for w ≥ 8 (Abramowitz & Stegun 6.1.41)."""
    u = 1.0 / (w * w)
    series = u * (691.0 / 360360.0 - u * (1.0 / 156.0))
    series = u * (1.0 / 1260.0 - u * (1.0 / 1680.0 - u * (1.0 / 1188.0 - series)))
    return (1.0 / 12.0 - u * (1.0 / 360.0 - series)) / w


@triton.jit
def log_minus_digamma(w):
    """``log w − ψ(w)`` for w ≥ 8 (Abramowitz & Stegun 6.3.18)."""
    u = 1.0 / (w * w)
    series = u * (1.0 / 132.0 - u * (691.0 / 32760.0 - u * (1.0 / 12.0)))
    series = u * (1.0 / 120.0 - u * (1.0 / 252.0 - u * (1.0 / 240.0 - series)))
    return 0.5 / w + u * (1.0 / 12.0 - series)


@triton.jit
def seven_factors(z):
    """``(z + 1)(z + 2) … (z + 7)`` and its derivative."""
    product, derivative = z + 1.0, z * 0.0 + 1.0
    for step in tl.static_range(2, 8):
        derivative = derivative * (z + step) + product
        product *= z + step
    return product, derivative


@triton.jit
def gamma_ratio(x, theta, log_theta):
    """``log Γ(x + θ) − log Γ(θ) − log x!`` for x > 0, and its derivative by log θ."""
    n = x + theta
    moved = theta < 8.0  # θ and n are moved up by 8, where seven terms of Stirling's series reach float64
    product, derivative = seven_factors(theta)
    above, above_derivative = seven_factors(n)
    slope = x / n + theta * (derivative / product - above_derivative / above)
    value = log_theta + tl.log(product / (above * n))
    w = tl.where(moved, theta + 8.0, theta)
    value, slope = tl.where(moved, value, 0.0), tl.where(moved, slope, 0.0)
    grown = log1p(x / w)
    value += (w - 0.5) * grown + x * (tl.log(w + x) - 1.0) + stirling(w + x) - stirling(w)
    slope += theta * (grown + log_minus_digamma(w) - log_minus_digamma(w + x))
    few = x < 8.0
    y = tl.where(few, x + 9.0, x + 1.0)  # x! = Γ(x + 1), moved up likewise
    product, _ = seven_factors(x)
    value += tl.where(few, tl.log(product * (x + 8.0)), 0.0)
    return value - ((y - 0.5) * tl.log(y) - y + 0.9189385332046727 + stirling(y)), slope


@triton.jit
def zinb_kernel(
    x,
    log_mu,
    log_theta,
    zero_logit,
    nll,
    by_mu,
    by_theta,
    by_zero,
    n_elements,
    INFLATED: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """COLUMNS elements; `by_zero` is written and `zero_logit` read where INFLATED."""
    place = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inside = place < n_elements
    # by way of float32, which the interpreter needs for bfloat16, unless it is float64
    count = _exact(tl.load(x + place, mask=inside, other=0.0))
    log_theta_N = _exact(tl.load(log_theta + place, mask=inside, other=0.0))
    a = _exact(tl.load(log_mu + place, mask=inside, other=0.0)) - log_theta_N
    theta = tl.exp(log_theta_N)
    q, p, softplus = sigmoids(a)
    is_zero = count == 0.0
    ratio, ratio_slope = gamma_ratio(tl.where(is_zero, 1.0, count), theta, log_theta_N)
    log_nb = -theta * softplus + tl.where(is_zero, 0.0, ratio + count * (a - softplus))
    slope_mu = count * p - theta * q
    slope_theta = theta * (q - softplus) - count * p + tl.where(is_zero, 0.0, ratio_slope)
    if INFLATED:
        zero_logit_N = _exact(tl.load(zero_logit + place, mask=inside, other=0.0))
        pi, _, zero_softplus = sigmoids(zero_logit_N)
        from_pi, from_nb, more = sigmoids(zero_logit_N - log_nb)
        slope_mu, slope_theta = (
            tl.where(is_zero, from_nb, 1.0) * slope_mu,
            tl.where(is_zero, from_nb, 1.0) * slope_theta,
        )
        log_nb += tl.where(is_zero, more, 0.0) - zero_softplus
        tl.store(by_zero + place, pi - tl.where(is_zero, from_pi, 0.0), mask=inside)
    tl.store(nll + place, -log_nb, mask=inside)
    tl.store(by_mu + place, -slope_mu, mask=inside)
    tl.store(by_theta + place, -slope_theta, mask=inside)


@triton.jit
def _exact(values):
    if values.dtype == tl.float64:
        return values
    return values.to(tl.float32).to(tl.float64)


def zinb(
    x: Tensor,
    log_mu: Tensor,
    log_theta: Tensor,
    zero_logit: Tensor | None,
    nll: Tensor,
    by_mu: Tensor,
    by_theta: Tensor,
    by_zero: Tensor,
) -> None:
    """Fill `nll` and its derivatives by log_mu, log_theta and zero_logit (left alone without one).

    Any floating dtypes and strides in; contiguous float32 or float64 out. Reads each input and writes each output once.
    """
    counts = x if x.is_floating_point() else x.double()
    inputs = [values.contiguous() for values in (counts, log_mu, log_theta, x if zero_logit is None else zero_logit)]
    chosen = tile("zinb", 0, x.device)
    grid = (triton.cdiv(x.numel(), chosen.columns),)
    with torch.cuda.device_of(x):
        zinb_kernel[grid](
            *inputs,
            *(nll, by_mu, by_theta, by_zero),
            x.numel(),
            INFLATED=zero_logit is not None,
            COLUMNS=chosen.columns,
            num_warps=chosen.warps,
            num_stages=chosen.stages,
            enable_fp_fusion=True,
        )
