import numpy as np
import pytest
import torch
from grnlab_kernels import zinb_nll
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import nbinom, poisson

log_mu = st.floats(-20, 12)
log_theta = st.floats(-15, 15)
logit = st.floats(-30, 30)
count = st.one_of(st.integers(0, 50), st.integers(10_000, 100_000))


def reference(x, log_mu, log_theta, zero_logit=None):
    """-log(π [x = 0] + (1 - π) NB) from scipy, float64."""
    mu, theta = np.exp(np.float64(log_mu)), np.exp(np.float64(log_theta))
    log_nb = nbinom.logpmf(x, theta, theta / (theta + mu))
    if zero_logit is None:
        return -log_nb
    log_pi, log_rest = -np.logaddexp(0, -np.float64(zero_logit)), -np.logaddexp(0, np.float64(zero_logit))
    return -np.where(np.equal(x, 0), np.logaddexp(log_pi, log_rest + log_nb), log_rest + log_nb)


def nll(x, *parameters):
    return zinb_nll(*(torch.tensor([float(value)], dtype=torch.float64) for value in (x, *parameters))).item()


@given(count, log_mu, log_theta)
def test_nb_equals_scipy(x, log_mu, log_theta):
    assume(log_mu - log_theta > -15)  # below, the success probability scipy is given rounds to 1
    assert nll(x, log_mu, log_theta) == pytest.approx(reference(x, log_mu, log_theta), rel=1e-6, abs=2e-7)


@given(count, log_mu, log_theta, logit)
def test_zinb_equals_scipy(x, log_mu, log_theta, zero_logit):
    assume(log_mu - log_theta > -15)
    expected = reference(x, log_mu, log_theta, zero_logit)
    assert nll(x, log_mu, log_theta, zero_logit) == pytest.approx(expected, rel=1e-6, abs=2e-7)


@given(st.integers(0, 5), st.floats(-30, 0))
def test_without_dispersion_it_is_poisson(x, log_mu):
    assert nll(x, log_mu, 15.0) == pytest.approx(-poisson.logpmf(x, np.exp(log_mu)), rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("x", [1e4, 3e4, 1e5])
def test_float32_inputs_at_large_counts(x):
    """Summed in single precision, the log-gammas of such counts are off by tenths of a nat."""
    parameters = [np.float32(np.log(x * 0.9)), np.float32(0.3), np.float32(-2.0)]
    got = zinb_nll(*(torch.tensor([value], dtype=torch.float32) for value in (x, *parameters)))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(reference(x, *parameters), abs=1e-5)


@pytest.mark.parametrize("zero_logit", [None, -3.0, 2.0])
def test_probabilities_add_up_to_one(zero_logit):
    x = torch.arange(2_000.0)
    parameters = [torch.full_like(x, value) for value in (1.2, 0.4, zero_logit) if value is not None]
    assert (-zinb_nll(x, *parameters).double()).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_zero_inflation_identity():
    """P(0) = π + (1 - π) NB(0); any other count only loses log(1 - π)."""
    x = torch.tensor([0.0, 1.0, 7.0])
    log_mu, log_theta, zero_logit = torch.full((3, 3), 0.7).unbind()
    plain, inflated = (-zinb_nll(x, log_mu, log_theta)).exp(), (-zinb_nll(x, log_mu, log_theta, zero_logit)).exp()
    pi = expit(0.7)
    torch.testing.assert_close(inflated, pi * (x == 0) + (1 - pi) * plain)
    never = torch.full((3,), -200.0)
    torch.testing.assert_close(zinb_nll(x, log_mu, log_theta, never), zinb_nll(x, log_mu, log_theta))


@pytest.mark.parametrize("x", [0.0, 1.0, 30.0, 20_000.0])
@pytest.mark.parametrize("parameters", [(0.5, 0.2, -1.0), (-8.0, -6.0, 4.0), (9.0, 10.0, -12.0)])
@pytest.mark.parametrize("inflated", [True, False])
def test_gradients_equal_differences_of_scipy(x, parameters, inflated):
    parameters = parameters if inflated else parameters[:2]
    tensors = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in parameters]
    zinb_nll(torch.tensor([x]), *tensors).sum().backward()
    for place, tensor in enumerate(tensors):
        step = np.zeros(len(parameters))
        step[place] = 1e-4
        numeric = (reference(x, *(parameters + step)) - reference(x, *(parameters - step))) / 2e-4
        assert tensor.grad.item() == pytest.approx(numeric, rel=1e-5, abs=2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_precision_stays_finite(dtype):
    x = torch.tensor([0.0, 1.0, 500.0, 60_000.0]).repeat(4)
    extreme = torch.tensor([-40.0, 15.0, 0.0, 40.0])
    parameters = [
        (extreme.roll(shift).repeat_interleave(4)).to(dtype).requires_grad_() for shift in range(3)
    ]  # all pairs of count and extreme
    parameters[1].data.clamp_(max=15.0)
    loss = zinb_nll(x.to(dtype), *parameters)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in parameters)


def test_a_mean_of_zero_counts_stays_finite():
    """log_softmax can send a gene's mean far below what exp can hold."""
    log_mu = torch.tensor([-5_000.0, -5_000.0], requires_grad=True)
    loss = zinb_nll(torch.tensor([0.0, 2.0]), log_mu, torch.zeros(2), torch.zeros(2))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert log_mu.grad.tolist() == pytest.approx([0.0, -2.0])


def test_keeps_the_shape():
    x = torch.ones(2, 3)
    assert zinb_nll(x, x, x, x).shape == (2, 3)
