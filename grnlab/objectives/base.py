"""What an objective is."""

from typing import Protocol

import torch
from grnlab_kernels import zinb_nll
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.backbones.scprint import ScPrint
from grnlab.data.tokens import CellTokens
from grnlab.nn.decoders import CountDistribution


class Objective(Protocol):
    """A pretraining task.

    The corruptions of all tasks are applied one after the other, the model runs once, and the losses are added.
    """

    weight: float

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Return what the model may see; pure."""
        ...

    def loss(self, model: ScPrint, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Scalar loss of one batch, before `weight`."""
        ...


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
    """
    if distribution.kind == "mse":
        loss_BT = (distribution.log_mean_BT - torch.log2(1 + target.values_BT)) ** 2
    else:
        if distribution.log_theta_BT is None:
            msg = f"a distribution of kind {distribution.kind!r} needs log_theta_BT."
            raise ValueError(msg)
        loss_BT = zinb_nll(
            target.values_BT, distribution.log_mean_BT, distribution.log_theta_BT, distribution.zero_logit_BT
        )
    return torch.where(where_BT, loss_BT, 0.0).sum() / where_BT.sum().clamp(min=1)
