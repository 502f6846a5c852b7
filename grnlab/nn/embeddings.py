"""Encoders of what enters a token: the count, the sequencing depth, the place in the genome."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

VALUE_SCALES = ("log2", "fraction", "asinh")


def scale_values(values_BT: Tensor, scale: str, real_BT: Tensor | None = None) -> Tensor:
    """Bring values to the scale the encoder reads: ``log2(1 + x)``, the fraction of the context's counts, or asinh."""
    if scale == "log2":
        return torch.log2(1 + values_BT)
    if scale == "asinh":
        return torch.asinh(values_BT)
    values = values_BT if real_BT is None else values_BT * real_BT
    return values / values.sum(-1, keepdim=True).clamp(min=1e-12)


class ValueEncoder(nn.Module):
    """Embed a count: Linear → LayerNorm → ReLU → Linear on its scaled value; a vector of its own when hidden.

    Parameters
    ----------
    d_model
        Model dimension.
    scale
        ``"log2"`` as in the scPRINT paper, ``"fraction"`` as in its released v1 checkpoints, ``"asinh"`` for values
        with a sign.
    """

    def __init__(self, d_model: int, *, scale: str = "log2") -> None:
        super().__init__()
        if scale not in VALUE_SCALES:
            msg = f"value scale {scale!r} is unknown; choose one of {VALUE_SCALES}."
            raise ValueError(msg)
        self.scale = scale
        self.mlp = nn.Sequential(nn.Linear(1, d_model), nn.LayerNorm(d_model), nn.ReLU(), nn.Linear(d_model, d_model))
        self.hidden = nn.Parameter(torch.zeros(d_model))

    def forward(self, values_BT: Tensor, *, hidden_BT: Tensor | None = None, real_BT: Tensor | None = None) -> Tensor:
        """Embeddings of shape (B, T, M)."""
        if hidden_BT is not None:  # the count of a hidden gene must not leak through the sum of a fraction either
            values_BT = values_BT.masked_fill(hidden_BT, 0.0)
        x_BTM = self.mlp(scale_values(values_BT, self.scale, real_BT).unsqueeze(-1))
        return x_BTM if hidden_BT is None else torch.where(hidden_BT.unsqueeze(-1), self.hidden.to(x_BTM.dtype), x_BTM)


class DepthEncoder(nn.Module):
    """Embed the total counts of a cell: an MLP of ``log2(1 + total)``."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(1, d_model), nn.LayerNorm(d_model), nn.ReLU(), nn.Linear(d_model, d_model))

    def forward(self, totals_B: Tensor) -> Tensor:
        """Embeddings of shape (B, M)."""
        return self.mlp(torch.log2(1 + totals_B).unsqueeze(-1))


class GenomePosition(nn.Module):
    """Sine and cosine of the rank of a gene along the genome (base 10,000), for each gene of the vocabulary.

    Parameters
    ----------
    ranks
        Genome rank of each gene, int64, shape (n_genes,).
    d_model
        Model dimension, even.

    Raises
    ------
    ValueError
        When `d_model` is odd.
    """

    def __init__(self, ranks: np.ndarray, d_model: int) -> None:
        super().__init__()
        if d_model % 2:
            msg = f"d_model={d_model} must be even: half of the genome position code is sines, half cosines."
            raise ValueError(msg)
        frequency = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
        angle = torch.as_tensor(ranks, dtype=torch.float32).unsqueeze(-1) * frequency
        code_GM = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        self.register_buffer("code_GM", code_GM, persistent=False)  # rebuilt from the vocabulary, no weight
        self.code_GM: Tensor

    def forward(self, genes_BT: Tensor) -> Tensor:
        """Encodings of shape (B, T, M)."""
        return F.embedding(genes_BT, self.code_GM)
