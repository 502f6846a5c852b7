import math

import pytest
import torch
from grnlab_kernels import zinb, zinb_nll

EDGE = 18.42  # log 10⁸


def values_and_gradients(x, *parameters, backend):
    leaves = [values.detach().clone().requires_grad_() for values in parameters]
    loss = zinb_nll(x, *leaves, backend=backend)
    return loss.detach(), *torch.autograd.grad(loss.sum(), leaves)


def cells(n, dtype, device, *, mean=1.0):
    rng = torch.Generator().manual_seed(n)
    log_mu = torch.randn(n, generator=rng) + math.log(mean)
    x = torch.poisson(log_mu.exp(), generator=rng)
    parameters = [log_mu, torch.randn(n, generator=rng), 2 * torch.randn(n, generator=rng)]
    return x.to(device), *(values.to(device, dtype) for values in parameters)


@pytest.fixture
def poisoned(monkeypatch):
    made = zinb._empty_outputs
    monkeypatch.setattr(zinb, "_empty_outputs", lambda *inputs: tuple(out.fill_(torch.nan) for out in made(*inputs)))


@pytest.mark.parametrize("inflated", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("n", [1, 129, 400])
@pytest.mark.usefixtures("poisoned")
def test_equals_the_loop(device, n, dtype, inflated):
    x, *parameters = cells(n, dtype, device)
    parameters = parameters[: 3 if inflated else 2]
    got = values_and_gradients(x, *parameters, backend="triton")
    expected = values_and_gradients(x.cpu(), *(values.cpu() for values in parameters), backend="torch")
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype
        tolerance = 1e-12 if dtype == torch.float64 else torch.finfo(ours.dtype).eps
        torch.testing.assert_close(ours.cpu(), theirs, rtol=tolerance, atol=1e-8)


@pytest.mark.parametrize("zero_logit", [None, -50.0, 50.0])
@pytest.mark.usefixtures("poisoned")
def test_every_edge(device, zero_logit):
    """Counts of 0 to 10⁶, mean and inverse dispersion from 10⁻⁸ to 10⁸."""
    counts, logs = torch.tensor([0, 1, 2.5, 7, 8, 16, 1e4, 1e6]), torch.tensor([-EDGE, 0.3, 2.07, 2.09, 9.0, EDGE])
    x, log_mu, log_theta = (values.ravel().double() for values in torch.meshgrid(counts, logs, logs, indexing="ij"))
    parameters = [log_mu, log_theta, *([] if zero_logit is None else [torch.full_like(log_mu, zero_logit)])]
    got = values_and_gradients(x.to(device), *(values.to(device) for values in parameters), backend="triton")
    expected = values_and_gradients(x, *parameters, backend="torch")
    torch.testing.assert_close([values.cpu() for values in got], list(expected), rtol=1e-11, atol=1e-8)


def test_integer_counts_and_strides(device):
    x, *parameters = cells(60, torch.float32, device)
    packed = torch.stack(parameters, -1)
    got = zinb_nll(x.long().reshape(6, 10), *packed.reshape(6, 10, 3).unbind(-1), backend="triton")
    torch.testing.assert_close(got, zinb_nll(x, *parameters, backend="triton").reshape(6, 10), rtol=0, atol=0)


def test_opcheck(device):
    x, *parameters = cells(12, torch.float32, device)
    torch.library.opcheck(zinb._zinb_nll, (x, *(values.requires_grad_() for values in parameters), "triton"))
