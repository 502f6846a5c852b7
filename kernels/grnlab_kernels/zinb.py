"""Negative log-likelihood of counts under the zero-inflated negative binomial."""

import torch
import torch.nn.functional as F
from torch import Tensor


def zinb_nll(x: Tensor, log_mu: Tensor, log_theta: Tensor, zero_logit: Tensor | None = None) -> Tensor:
    r"""Element-wise ZINB (or, without `zero_logit`, NB) negative log-likelihood in nats.

    .. math::
        -\log\left(\pi\,[x = 0] + (1 - \pi)\,\mathrm{NB}(x;\, \mu, \theta)\right),\quad
        \mathrm{NB} = \frac{\Gamma(x+\theta)}{\Gamma(\theta)\,x!}
        \left(\frac{\theta}{\theta+\mu}\right)^{\theta}\left(\frac{\mu}{\theta+\mu}\right)^{x}

    with :math:`\pi = \mathrm{sigmoid}(\texttt{zero\_logit})`. Differences of log-gammas cancel badly in single
    precision (0.26 nats off at counts of 10⁴), so the sum is formed in float64 and returned as float32.

    Parameters
    ----------
    x
        Counts, any shape.
    log_mu, log_theta, zero_logit
        Logarithms of mean and inverse dispersion, and logit of the zero inflation, of the same shape.

    Examples
    --------
    >>> x = torch.tensor([0.0, 3.0])
    >>> zinb_nll(x, torch.zeros(2), torch.zeros(2)).tolist()  # mean 1, theta 1: geometric with p = 1/2
    [0.6931471824645996, 2.7725887298583984]
    """
    x, log_mu, log_theta = x.double(), log_mu.double(), log_theta.double()
    theta = log_theta.exp()
    log_sum = torch.logaddexp(log_mu, log_theta)
    log_nb_zero = theta * (log_theta - log_sum)
    log_nb = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1) + log_nb_zero + x * (log_mu - log_sum)
    if zero_logit is None:
        return -log_nb.float()
    zero_logit = zero_logit.double()
    log_likelihood = torch.where(x == 0, torch.logaddexp(zero_logit, log_nb_zero), log_nb) - F.softplus(zero_logit)
    return -log_likelihood.float()
