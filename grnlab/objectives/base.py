"""What an objective is, and what all share: the loss of counts, means over places, draws.

Shape suffixes: B cells of a batch, T gene tokens of a cell.
"""

from dataclasses import replace
from typing import Any, Protocol

import torch
import torch.distributed as dist
from grnlab_kernels import zinb_nll
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens
from grnlab.nn.decoders import CountDistribution


class Objective(Protocol):
    """A pretraining task.

    The corruptions of all tasks are applied one after the other, the model runs once, and the losses are added.
    Objectives are frozen dataclasses without state; whatever a task must tell its own loss or the model travels in the
    tokens, in a subclass of :class:`~grnlab.data.tokens.CellTokens` where the fields there do not suffice. The names of
    the methods that its loss calls stand in the class attribute ``needs``, so that a model that lacks one is refused
    before it trains.
    """

    @property
    def weight(self) -> float:
        """Factor of the loss."""
        ...

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Return what the model may see; pure, and random through `generator` alone."""
        ...

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Scalar loss of one batch, before `weight`.

        Parameters
        ----------
        model
            The backbone. A task calls the methods it needs and no others, so one task serves every backbone that has
            them (``decode``, ``classify``, ...); it may run the backbone again.
        encoded
            Output of the one run on `seen`.
        seen, target
            The batch after and before the corruptions of all tasks.
        """
        ...


def masked_mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean over the places that count; no place gives 0, and places that do not count pass no gradient.

    While several processes train together, the sum of this process is divided by the mean number of places per process:
    averaged over the processes, as DDP and FSDP average gradients, that is the mean over the places of all. The numbers
    of places are exchanged only where gradients are recorded, since processes may validate different numbers of
    batches; so every process must call the losses in the same order while it trains.

    Parameters
    ----------
    values, where
        Values, and True where they count; of the same shape.

    Examples
    --------
    >>> masked_mean(torch.tensor([1.0, 3.0, torch.inf]), torch.tensor([True, True, False])).item()
    2.0
    """
    total = torch.where(where, values, 0.0).sum()
    count = where.sum().to(total.dtype)
    if torch.is_grad_enabled() and dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return total / torch.where(count > 0, count, 1.0)


def check_shares(task: Objective, *names: str) -> None:
    """Refuse settings of a task that must be shares.

    Raises
    ------
    ValueError
        When one of them lies outside 0 to 1.
    """
    for name in names:
        if not 0 <= (value := getattr(task, name)) <= 1:
            msg = f"{name}={value} must lie between 0 and 1."
            raise ValueError(msg)


def hidden_by(task: Objective, seen: CellTokens) -> Tensor:
    """Where counts were hidden, for the loss of a task that hides some.

    Raises
    ------
    ValueError
        When nothing was.
    """
    if seen.hidden_BT is None:
        msg = f"seen.hidden_BT is None; apply {type(task).__name__}.corrupt before the loss."
        raise ValueError(msg)
    return seen.hidden_BT


def hide(tokens: CellTokens, where_BT: Tensor) -> CellTokens:
    """Tokens of which the model must not see some counts either; what another task has hidden stays hidden.

    Parameters
    ----------
    tokens
        A batch.
    where_BT
        True at the places to hide; padding is never hidden.

    Examples
    --------
    >>> tokens = CellTokens(torch.tensor([[0, 1]]), torch.ones(1, 2), torch.ones(1))
    >>> hide(hide(tokens, torch.tensor([[True, False]])), torch.tensor([[False, False]])).hidden_BT
    tensor([[ True, False]])
    """
    hidden_BT = where_BT & tokens.real_BT
    return replace(tokens, hidden_BT=hidden_BT if tokens.hidden_BT is None else hidden_BT | tokens.hidden_BT)


def count_loss(distribution: CountDistribution, target: CellTokens, where_BT: Tensor) -> Tensor:
    """Mean loss of the counts at the chosen places: ZINB or NB likelihood in nats, or the error of log2(1 + count).

    Parameters
    ----------
    distribution
        Output of a decoder.
    target
        True counts.
    where_BT
        True at the places that count; no place gives the loss 0.

    Raises
    ------
    ValueError
        When the distribution is not one of the genes of `target`, or lacks its dispersion.
    """
    if distribution.log_mean_BT.shape != target.values_BT.shape:
        msg = (
            f"the model predicts counts of shape {tuple(distribution.log_mean_BT.shape)}, the cells have "
            f"{tuple(target.values_BT.shape)}: another task has only some genes asked for ('discrete_noise'); train "
            "tasks on counts in a run of their own."
        )
        raise ValueError(msg)
    if distribution.kind == "mse":
        loss_BT = (distribution.log_mean_BT - torch.log2(1 + target.values_BT)) ** 2
    else:
        if distribution.log_theta_BT is None:
            msg = f"a distribution of kind {distribution.kind!r} needs log_theta_BT."
            raise ValueError(msg)
        loss_BT = zinb_nll(
            target.values_BT, distribution.log_mean_BT, distribution.log_theta_BT, distribution.zero_logit_BT
        )
    return masked_mean(loss_BT, where_BT)


def uniform(like: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draws from Uniform(0, 1) of the shape and on the device of `like`, made where the generator lives."""
    return torch.rand(like.shape, generator=generator, device=generator.device).to(like.device)
