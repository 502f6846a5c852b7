"""Values as mixtures of learned vectors (auto-discretisation of scFoundation, doi:10.1038/s41592-024-02305-7).

Shape suffixes: B cells, T tokens, K vectors, M model dimension.
"""

import torch
from torch import Tensor, nn


class AutoDiscretization(nn.Module):
    """A value as a mixture of `n_bins` learned vectors, whose weights two layers make of the value.

    ``h = leaky_relu(W₁ v)``, weights ``softmax(W₂ h + α h)``.

    Parameters
    ----------
    n_bins, d_model
        Number and size of the vectors.
    alpha
        Weight α of the first layer beside the second.
    learn_alpha
        Whether training changes α.
    slope
        Of the leaky ReLU below zero.
    bias
        Whether the layers have biases.
    """

    alpha: Tensor | float

    def __init__(
        self,
        n_bins: int,
        d_model: int,
        *,
        alpha: float,
        learn_alpha: bool = False,
        slope: float = 0.1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, n_bins, bias=bias), nn.Linear(n_bins, n_bins, bias=bias)
        self.bins = nn.Embedding(n_bins, d_model)
        self.slope = slope
        self.alpha = nn.Parameter(torch.tensor(float(alpha))) if learn_alpha else alpha

    def forward(self, values_BT: Tensor) -> Tensor:
        """Embeddings of shape (B, T, M)."""
        first_BTK = nn.functional.leaky_relu(self.first(values_BT.unsqueeze(-1)), self.slope)
        return (self.alpha * first_BTK + self.second(first_BTK)).softmax(-1) @ self.bins.weight
