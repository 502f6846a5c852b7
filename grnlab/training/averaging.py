"""Moving average of the weights of a run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """Exponential moving average of parameters.

    After step t (counted from 1) it is ``d · average + (1 − d) · weights`` with ``d = min(decay, (1 + t) / (10 + t))``:
    the low start keeps the random first weights from weighing on the average of a short run. It is kept beside the
    weights, and sharded as they are.

    Parameters
    ----------
    weights
        Name → parameter.
    decay
        Between 0 and 1.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.weights, self.decay = dict(weights), decay
        self.averages = {name: weight.detach().clone() for name, weight in self.weights.items()}

    def update(self, step: int) -> None:
        """Take in the weights after a step."""
        average = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        average(list(self.averages.values()), [weight.detach() for weight in self.weights.values()], step)

    @torch.no_grad()
    def to_model(self) -> None:
        """Put the averages in place of the weights."""
        for name, weight in self.weights.items():
            weight.copy_(self.averages[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages in place of the weights for the length of a block."""
        kept = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(kept[name])
