import mpmath
import numpy as np
import pytest
import torch
from grnlab_kernels import reference, zinb, zinb_nll
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import nbinom, poisson

log_mu = st.floats(-20, 12)
log_theta = st.floats(-15, 15)
logit = st.floats(-30, 30)
count = st.one_of(st.integers(0, 50), st.integers(10_000, 100_000))
EDGE = 18.42  # log 10⁸


def scipy_nll(x, log_mu, log_theta, zero_logit=None):
    """-log(π [x = 0] + (1 - π) NB) from scipy, float64."""
    mu, theta = np.exp(np.float64(log_mu)), np.exp(np.float64(log_theta))
    log_nb = nbinom.logpmf(x, theta, theta / (theta + mu))
    if zero_logit is None:
        return -log_nb
    log_pi, log_rest = -np.logaddexp(0, -np.float64(zero_logit)), -np.logaddexp(0, np.float64(zero_logit))
    return -np.where(np.equal(x, 0), np.logaddexp(log_pi, log_rest + log_nb), log_rest + log_nb)


def exact(x, log_mu, log_theta, zero_logit=None):
    """Value and derivatives in 60 digits, from the textbook formula."""
    with mpmath.workdps(60):

        def nll(log_mu, log_theta, *zero_logit):
            mu, theta = mpmath.exp(log_mu), mpmath.exp(log_theta)
            log_nb = mpmath.loggamma(x + theta) - mpmath.loggamma(theta) - mpmath.loggamma(x + 1)
            log_nb += theta * mpmath.log(theta / (theta + mu)) + x * mpmath.log(mu / (theta + mu))
            if not zero_logit:
                return -log_nb
            pi = 1 / (1 + mpmath.exp(-zero_logit[0]))
            return -mpmath.log((pi if x == 0 else 0) + (1 - pi) * mpmath.exp(log_nb))

        point = [mpmath.mpf(float(value)) for value in (log_mu, log_theta, zero_logit) if value is not None]
        axes = np.eye(len(point), dtype=int).tolist()
        return float(nll(*point)), [float(mpmath.diff(nll, tuple(point), tuple(axis))) for axis in axes]


def textbook(x, log_mu, log_theta, zero_logit):
    """As `reference`, in the precision it is given."""
    mu, theta = log_mu.exp(), log_theta.exp()
    log_nb = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    log_nb = log_nb + theta * (theta / (theta + mu)).log() + x * (mu / (theta + mu)).log()
    softplus = torch.nn.functional.softplus(zero_logit)
    return softplus - torch.where(x == 0, torch.logaddexp(zero_logit, log_nb), log_nb)


def cells(n=2_000, *, mean=1.0, dtype=torch.float32, seed=0):
    """Counts and parameters that fit them, as leaves of a graph."""
    rng = torch.Generator().manual_seed(seed)
    log_mu = (torch.randn(n, generator=rng) + np.log(mean)).to(dtype)
    log_theta, zero_logit = (torch.randn(n, generator=rng).to(dtype) for _ in range(2))
    x = torch.poisson(log_mu.double().exp(), generator=rng).float()
    return x, *(values.requires_grad_() for values in (log_mu, log_theta, zero_logit))


def value_and_gradients(function, x, *parameters):
    leaves = [values.detach().requires_grad_() for values in parameters]
    loss = function(x, *leaves)
    return loss.detach(), *torch.autograd.grad(loss.sum(), leaves)


def scalar(x, *parameters, dtype=torch.float64):
    return value_and_gradients(zinb_nll, *(torch.tensor([float(value)], dtype=dtype) for value in (x, *parameters)))


@given(count, log_mu, log_theta)
def test_nb_equals_scipy(x, log_mu, log_theta):
    assume(log_mu - log_theta > -15)  # below, the success probability scipy is given rounds to 1
    assert scalar(x, log_mu, log_theta)[0].item() == pytest.approx(scipy_nll(x, log_mu, log_theta), rel=1e-6, abs=2e-7)


@given(count, log_mu, log_theta, logit)
def test_zinb_equals_scipy(x, log_mu, log_theta, zero_logit):
    assume(log_mu - log_theta > -15)
    expected = scipy_nll(x, log_mu, log_theta, zero_logit)
    assert scalar(x, log_mu, log_theta, zero_logit)[0].item() == pytest.approx(expected, rel=1e-6, abs=2e-7)


@given(st.integers(0, 5), st.floats(-30, 0))
def test_without_dispersion_it_is_poisson(x, log_mu):
    assert scalar(x, log_mu, 15.0)[0].item() == pytest.approx(-poisson.logpmf(x, np.exp(log_mu)), rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("x", [0, 1, 2.5, 16, 17, 1e4, 1e6])
@pytest.mark.parametrize("zero_logit", [None, -50.0, 0.5, 50.0])
def test_right_to_the_last_digits_at_the_edges(x, zero_logit, dtype):
    """Counts of 0 to 10⁶, mean and inverse dispersion from 10⁻⁸ to 10⁸, value and every derivative."""
    relative = 1e-6 if dtype == torch.float32 else 1e-11
    near = np.log(max(x, 0.1))
    for log_mu in (-EDGE, near + 0.01, EDGE):
        for log_theta in (-EDGE, 0.3, 2.07, 2.09, 9.0, EDGE):
            point = [value for value in (log_mu, log_theta, zero_logit) if value is not None]
            point = torch.tensor(point, dtype=dtype).tolist()
            value, gradients = exact(x, *point)
            got = [output.item() for output in scalar(x, *point, dtype=dtype)]
            assert got == pytest.approx([value, *gradients], rel=relative, abs=1e-8), point


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mean", [1.0, 100.0, 10_000.0])
def test_error_is_far_below_that_of_single_precision(mean, dtype):
    x, *parameters = cells(mean=mean, dtype=dtype)
    truth = value_and_gradients(reference.zinb_nll, x, *(values.double() for values in parameters))
    plain = value_and_gradients(textbook, x, *(values.float() for values in parameters))
    ours = value_and_gradients(zinb_nll, x, *parameters)
    assert ours[0].dtype == torch.float32
    assert {gradient.dtype for gradient in ours[1:]} == {dtype}
    assert (ours[0] - truth[0]).abs().max() <= 2 * (plain[0] - truth[0]).abs().max()
    torch.testing.assert_close(ours[0].double(), truth[0], rtol=1.2e-7, atol=1e-9)
    for gradient, expected in zip(ours[1:], truth[1:], strict=True):
        torch.testing.assert_close(gradient.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)


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


@pytest.mark.parametrize("inflated", [True, False])
def test_gradcheck(inflated):
    x, *parameters = cells(24, mean=4.0, dtype=torch.float64)
    x[:2] = torch.tensor([40.0, 3.5])
    assert torch.autograd.gradcheck(lambda *leaves: zinb_nll(x, *leaves), parameters[: 3 if inflated else 2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_precision_stays_finite(dtype):
    x = torch.tensor([0.0, 1.0, 500.0, 60_000.0]).repeat(4)
    extreme = torch.tensor([-40.0, 15.0, 0.0, 40.0])
    parameters = [extreme.roll(shift).repeat_interleave(4).to(dtype) for shift in range(3)]  # with every count
    parameters[1].clamp_(max=15.0)
    loss, *gradients = value_and_gradients(zinb_nll, x.to(dtype), *parameters)
    assert loss.dtype == torch.float32
    assert all(torch.isfinite(values).all() for values in (loss, *gradients))


def test_a_mean_of_zero_counts_stays_finite():
    """log_softmax can send a gene's mean far below what exp can hold, and a decoder its dispersion."""
    x, far = torch.tensor([0.0, 2.0, 30.0]), torch.full((3,), -5_000.0)
    loss, by_mu, _, _ = value_and_gradients(zinb_nll, x, far, torch.zeros(3), torch.zeros(3))
    assert torch.isfinite(loss).all()
    assert by_mu.tolist() == pytest.approx([0.0, -2.0, -30.0])
    loss, _, by_theta, _ = value_and_gradients(zinb_nll, x, torch.zeros(3), far, torch.zeros(3))
    assert torch.isfinite(loss).all()
    assert by_theta.tolist() == pytest.approx([0.0, -1.0, -1.0])


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (5, 7, 3)])
def test_keeps_the_shape(shape):
    x = torch.ones(shape)
    loss, *gradients = value_and_gradients(zinb_nll, x, x, x, x)
    assert {values.shape for values in (loss, *gradients)} == {x.shape}


def test_strided_and_integer_input():
    """A decoder hands out columns of one tensor."""
    x, *parameters = cells(60)
    packed = torch.stack([values.detach() for values in parameters], -1).requires_grad_()
    loss = zinb_nll(x.long(), *packed.unbind(-1))
    torch.testing.assert_close(loss, zinb_nll(x, *parameters), rtol=0, atol=0)
    loss.sum().backward()
    expected = torch.stack(value_and_gradients(zinb_nll, x, *parameters)[1:], -1)
    torch.testing.assert_close(packed.grad, expected, rtol=0, atol=0)


@pytest.mark.parametrize("inflated", [True, False])
def test_every_element_is_written_whatever_the_number_of_workers(monkeypatch, inflated):
    x, *parameters = cells(101)
    parameters = parameters[: 3 if inflated else 2]
    expected = value_and_gradients(zinb_nll, x, *parameters)
    made = zinb._empty_outputs
    monkeypatch.setattr(zinb, "_empty_outputs", lambda *inputs: tuple(out.fill_(torch.nan) for out in made(*inputs)))
    monkeypatch.setattr(zinb, "_PLACES_PER_PANEL", 10)
    n_threads = torch.get_num_threads()
    try:
        for n_workers in (1, 3):
            torch.set_num_threads(n_workers)
            got = value_and_gradients(zinb_nll, x, *parameters)
            torch.testing.assert_close(got, expected, rtol=0, atol=0)
    finally:
        torch.set_num_threads(n_threads)


@pytest.mark.parametrize("inflated", [True, False])
def test_the_formula_for_other_devices_equals_the_loop(inflated):
    x, *parameters = cells(mean=5.0, dtype=torch.float64)
    parameters = [values.detach() for values in parameters[: 3 if inflated else 2]]
    expected = value_and_gradients(zinb_nll, x, *parameters)
    got = zinb._formula(x, *parameters, *([] if inflated else [None]))
    torch.testing.assert_close(got[: len(expected)], expected, rtol=1e-10, atol=1e-10)
    assert len(got) == 4


def test_gradients_add_up_and_a_graph_serves_twice():
    x, log_mu, log_theta, zero_logit = cells(20)
    loss = zinb_nll(x, log_mu, log_theta, zero_logit)
    weights = torch.arange(20.0)
    (loss * weights).sum().backward(retain_graph=True)
    once = [values.grad.clone() for values in (log_mu, log_theta, zero_logit)]
    (loss * weights).sum().backward()
    again = zinb_nll(x, log_mu, log_theta, zero_logit)
    (again * weights).sum().backward()
    slopes = value_and_gradients(zinb_nll, x, log_mu, log_theta, zero_logit)[1:]
    for leaf, first, slope in zip((log_mu, log_theta, zero_logit), once, slopes, strict=True):
        torch.testing.assert_close(leaf.grad, 3 * first)
        torch.testing.assert_close(first, weights * slope)


def test_counts_and_frozen_parameters_get_no_gradient():
    x, log_mu, log_theta, _ = cells(20)
    x.requires_grad_()
    log_theta.requires_grad_(False)
    zinb_nll(x, log_mu, log_theta).sum().backward()
    assert x.grad is None
    assert log_theta.grad is None
    assert log_mu.grad is not None
    with torch.no_grad():
        assert not zinb_nll(x, log_mu, log_theta).requires_grad


def test_second_derivatives_raise():
    x, *parameters = cells(5)
    (gradient, *_) = torch.autograd.grad(zinb_nll(x, *parameters).sum(), parameters, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        gradient.square().sum().backward()


def test_under_autocast():
    x, log_mu, _, zero_logit = cells(20)
    layer = torch.nn.Linear(1, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_theta = layer(log_mu[:, None])[:, 0]
        loss = zinb_nll(x, log_mu, log_theta, zero_logit)
    assert log_theta.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, zinb_nll(x, log_mu, log_theta.float(), zero_logit), rtol=0, atol=0)
    loss.mean().backward()
    assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("inflated", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(inflated, dtype):
    x, *parameters = cells(12, dtype=dtype)
    zero_logit = parameters[2] if inflated else None
    torch.library.opcheck(zinb._zinb_nll, (x, *parameters[:2], zero_logit, "torch"))
    slopes = [torch.randn(12) for _ in range(3)]
    inputs = [None if values is None else values.detach() for values in (*parameters[:2], zero_logit)]
    torch.library.opcheck(zinb._zinb_backward, (torch.randn(12), *slopes, *inputs))


def test_compiles_in_one_graph():
    x, *parameters = cells(30)
    compiled = torch.compile(lambda *inputs: zinb_nll(*inputs).mean(), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, *parameters), zinb_nll(x, *parameters).mean())
    expected = torch.autograd.grad(zinb_nll(x, *parameters).mean(), parameters)
    torch.testing.assert_close(torch.autograd.grad(compiled(x, *parameters), parameters), expected)


def test_bad_input_says_what_to_do():
    x = torch.ones(3)
    with pytest.raises(ValueError, match=r"log_theta has shape \(2,\); expected that of x, \(3,\)"):
        zinb_nll(x, x, torch.ones(2))
    with pytest.raises(TypeError, match=r"zero_logit has dtype torch.int64.*\.float\(\)"):
        zinb_nll(x, x, x, x.long())
    with pytest.raises(ValueError, match=r"log_mu is on meta.*\.to\(device\)"):
        zinb_nll(x, x.to("meta"), x)
    with pytest.raises(ValueError, match="unknown"):
        zinb_nll(x, x, x, backend="numba")
