r"""Negative log-likelihood of counts under the (zero-inflated) negative binomial, with its derivatives.

.. math::
    -\log\left(\pi\,[x = 0] + (1 - \pi)\,\mathrm{NB}(x;\, \mu, \theta)\right),\quad
    \mathrm{NB} = \frac{\Gamma(x+\theta)}{\Gamma(\theta)\,x!}
    \left(\frac{\theta}{\theta+\mu}\right)^{\theta}\left(\frac{\mu}{\theta+\mu}\right)^{x}

In single precision the difference of log-gammas cancels: 0.3 nats off at counts of 10⁴. The arithmetic here is float64
and the difference itself is formed without cancellation: as a product of x factors for counts up to 16, otherwise as
``(θ − ½) log(1 + x/θ) + x log(x + θ) − x`` and the difference of two Stirling series, whose parts are of the size of x
and not of θ log θ. One pass gives the value and the derivatives by log μ, log θ and the logit of π, which the backward
pass multiplies by the incoming gradient.
"""

import torch
from torch import Tensor

from grnlab_kernels import workers
from grnlab_kernels.dispatch import resolve_backend
from grnlab_kernels.operation import fake, operation

_PLACES_PER_PANEL = 1 << 15  # 2 ms of one core; less is not worth a thread


def zinb_nll(
    x: Tensor, log_mu: Tensor, log_theta: Tensor, zero_logit: Tensor | None = None, *, backend: str = "auto"
) -> Tensor:
    """Element-wise ZINB (or, without `zero_logit`, NB) negative log-likelihood in nats.

    Costs about 8 exponentials and logarithms in float64 per element; reads the inputs once and writes four float32
    numbers per element (value and derivatives). Right to float32 rounding for counts up to 10⁶ and μ, θ from 10⁻⁸ to
    10⁸.

    Parameters
    ----------
    x
        Counts (real numbers of 0 or more), any shape and dtype; gets no gradient.
    log_mu, log_theta, zero_logit
        Logarithms of mean and inverse dispersion, and logit of the zero inflation π; of the shape of `x`, floating, not
        necessarily of one dtype. Each gets a gradient of its own dtype. Second derivatives are not there and raise.
    backend
        See :func:`grnlab_kernels.resolve_backend`. ``"torch"`` is a compiled loop on the CPU, and PyTorch in float64,
        by the formula above as it stands, elsewhere.

    Returns
    -------
    Shape of `x`, float32; float64 when a parameter is float64.

    Raises
    ------
    ValueError
        When shapes or devices differ.
    TypeError
        When a parameter is not floating.

    Examples
    --------
    >>> x = torch.tensor([0.0, 3.0])
    >>> zinb_nll(x, torch.zeros(2), torch.zeros(2)).tolist()  # mean 1, theta 1: geometric with p = 1/2
    [0.6931471824645996, 2.7725887298583984]
    """
    _check(x, log_mu, log_theta, zero_logit)
    return _zinb_nll(x, log_mu, log_theta, zero_logit, resolve_backend(backend, x.device))[0]


@operation("zinb_nll")
def _zinb_nll(
    x: Tensor, log_mu: Tensor, log_theta: Tensor, zero_logit: Tensor | None, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value and its derivatives by log_mu, log_theta and zero_logit (empty without one)."""
    outputs = _empty_outputs(x, log_mu, log_theta, zero_logit)
    if x.numel() == 0:
        return outputs
    if backend == "triton":
        from grnlab_kernels.triton_kernels.zinb import zinb

        zinb(x, log_mu, log_theta, zero_logit, *outputs)
    elif x.device.type == "cpu":
        _loop(x, log_mu, log_theta, zero_logit, outputs)
    else:
        for output, values in zip(outputs, _formula(x, log_mu, log_theta, zero_logit), strict=True):
            output.copy_(values)
    return outputs


@fake("zinb_nll")
def _zinb_nll_fake(
    x: Tensor, log_mu: Tensor, log_theta: Tensor, zero_logit: Tensor | None, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_outputs(x, log_mu, log_theta, zero_logit)


# an operation of its own, so that a second backward pass raises instead of taking slopes as constants
@operation("zinb_backward")
def _zinb_backward(  # noqa: PLR0917 - autograd calls by position
    grad: Tensor,
    by_mu: Tensor,
    by_theta: Tensor,
    by_zero: Tensor,
    log_mu: Tensor,
    log_theta: Tensor,
    zero_logit: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the parameters, each in its dtype."""
    grad_zero = by_zero.clone() if zero_logit is None else (grad * by_zero).to(zero_logit.dtype)
    return (grad * by_mu).to(log_mu.dtype), (grad * by_theta).to(log_theta.dtype), grad_zero


@fake("zinb_backward")
def _zinb_backward_fake(  # noqa: PLR0917
    grad: Tensor,
    by_mu: Tensor,
    by_theta: Tensor,
    by_zero: Tensor,
    log_mu: Tensor,
    log_theta: Tensor,
    zero_logit: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = by_zero.dtype if zero_logit is None else zero_logit.dtype
    return (
        torch.empty_like(by_mu, dtype=log_mu.dtype),
        torch.empty_like(by_theta, dtype=log_theta.dtype),
        torch.empty_like(by_zero, dtype=dtype),
    )


def _setup_context(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    _, log_mu, log_theta, zero_logit, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*output[1:], log_mu, log_theta, zero_logit)


def _backward(
    ctx: torch.autograd.function.BackwardCFunction, grad: Tensor, *_: Tensor
) -> tuple[None, Tensor, Tensor, Tensor | None, None]:
    saved = ctx.saved_tensors  # asked for once: where activations are recomputed, a second time is an error
    grad_mu, grad_theta, grad_zero = _zinb_backward(grad, *saved)
    return None, grad_mu, grad_theta, None if saved[-1] is None else grad_zero, None


def _no_second_backward(ctx: torch.autograd.function.BackwardCFunction, *_: Tensor) -> tuple[None, ...]:
    msg = "zinb_nll has no second derivatives: its slopes were computed with its value and cannot be differentiated."
    raise NotImplementedError(msg)


torch.library.register_autograd("grnlab::zinb_nll", _backward, setup_context=_setup_context)
torch.library.register_autograd("grnlab::zinb_backward", _no_second_backward)


def _loop(x: Tensor, log_mu: Tensor, log_theta: Tensor, zero_logit: Tensor | None, outputs: tuple[Tensor, ...]) -> None:
    from grnlab_kernels.zinb_loop import zinb

    dtype = outputs[0].dtype
    inputs = [x, log_mu, log_theta, x if zero_logit is None else zero_logit]
    flat = [values.to(dtype).contiguous().view(-1).numpy() for values in inputs]
    flat += [values.view(-1).numpy() for values in outputs]

    def work(start: int, end: int) -> None:
        zinb(zero_logit is not None, *(values[start:end] for values in flat))

    if x.numel() <= _PLACES_PER_PANEL:
        work(0, x.numel())
        return
    for _ in workers.run(work, x.numel(), _PLACES_PER_PANEL):
        pass


def _formula(
    x: Tensor, log_mu: Tensor, log_theta: Tensor, zero_logit: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The formula as it stands, in float64: off by 10⁻⁶ where θ reaches 10⁸."""
    x, log_mu, log_theta = x.double(), log_mu.double(), log_theta.double()
    theta, a = log_theta.exp(), log_mu - log_theta
    q, p, softplus = torch.sigmoid(a), torch.sigmoid(-a), -torch.nn.functional.logsigmoid(-a)
    digamma = torch.special.digamma
    log_nb = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1) + x * (a - softplus) - theta * softplus
    by_mu = x * p - theta * q
    by_theta = theta * (digamma(x + theta) - digamma(theta) + q - softplus) - x * p
    if zero_logit is None:
        return -log_nb, -by_mu, -by_theta, x.new_empty(0)
    zero_logit = zero_logit.double()
    from_nb = torch.where(x == 0, torch.sigmoid(log_nb - zero_logit), 1.0)
    from_pi = torch.where(x == 0, torch.sigmoid(zero_logit - log_nb), 0.0)
    log_any = torch.where(x == 0, torch.logaddexp(zero_logit, log_nb), log_nb)
    nll = -log_any - torch.nn.functional.logsigmoid(-zero_logit)
    return nll, -from_nb * by_mu, -from_nb * by_theta, torch.sigmoid(zero_logit) - from_pi


def _empty_outputs(
    x: Tensor, log_mu: Tensor, log_theta: Tensor, zero_logit: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    parameters = [log_mu, log_theta] if zero_logit is None else [log_mu, log_theta, zero_logit]
    dtype = torch.float64 if any(values.dtype == torch.float64 for values in parameters) else torch.float32
    empty = [torch.empty(x.shape, dtype=dtype, device=x.device) for _ in range(len(parameters) + 1)]
    if zero_logit is None:
        empty.append(torch.empty(0, dtype=dtype, device=x.device))
    return empty[0], empty[1], empty[2], empty[3]


def _check(x: Tensor, log_mu: Tensor, log_theta: Tensor, zero_logit: Tensor | None) -> None:
    for name, values in (("log_mu", log_mu), ("log_theta", log_theta), ("zero_logit", zero_logit)):
        if values is None:
            continue
        if values.shape != x.shape:
            msg = f"{name} has shape {tuple(values.shape)}; expected that of x, {tuple(x.shape)}. Use .expand_as(x)."
            raise ValueError(msg)
        if values.device != x.device:
            msg = f"{name} is on {values.device}, x on {x.device}; move them to one device with .to(device)."
            raise ValueError(msg)
        if not values.is_floating_point():
            msg = f"{name} has dtype {values.dtype}; expected a floating one. Convert with .float()."
            raise TypeError(msg)
