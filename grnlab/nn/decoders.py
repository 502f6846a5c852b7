"""From tokens to a distribution of counts, and from cell embeddings to counts and classes.

Shape suffixes: B cells, T gene tokens, M model dimension, K leaf labels of a class, L labels of a class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

DISTRIBUTIONS = ("zinb", "nb", "mse")
_LOG_THETA_MAX = 15.0  # either way: beyond it a Poisson, or a gamma function that overflows


@dataclass(frozen=True)
class CountDistribution:
    """What a decoder says about the counts of a batch.

    Attributes
    ----------
    kind
        ``"zinb"``, ``"nb"`` or ``"mse"``.
    log_mean_BT
        Logarithm of the expected count; for ``"mse"`` the expected ``log2(1 + count)`` itself.
    log_theta_BT
        Logarithm of the inverse dispersion (``"zinb"``, ``"nb"``).
    zero_logit_BT
        Logit of the zero inflation (``"zinb"``).
    """

    kind: str
    log_mean_BT: Tensor
    log_theta_BT: Tensor | None = None
    zero_logit_BT: Tensor | None = None

    @property
    def mean_BT(self) -> Tensor:
        """Expected count before zero inflation, shape (B, T)."""
        return torch.exp2(self.log_mean_BT) - 1 if self.kind == "mse" else self.log_mean_BT.exp()


def _distribution(kind: str, raw_BTK: Tensor, depth_B: Tensor, pad_BT: Tensor | None) -> CountDistribution:
    raw_BTK = raw_BTK.float()
    if kind == "mse":
        return CountDistribution(kind, raw_BTK[..., 0])
    logits = raw_BTK[..., 0] if pad_BT is None else raw_BTK[..., 0].masked_fill(pad_BT, -torch.inf)
    log_mean = torch.log_softmax(logits, dim=-1) + depth_B.clamp(min=1e-6).log().unsqueeze(-1)
    if pad_BT is not None:  # a finite value in padded places keeps the gradient of a masked loss free of NaN
        log_mean = log_mean.masked_fill(pad_BT, 0.0)
    log_theta = raw_BTK[..., 1].clamp(-_LOG_THETA_MAX, _LOG_THETA_MAX)
    return CountDistribution(kind, log_mean, log_theta, raw_BTK[..., 2] if kind == "zinb" else None)


def _n_outputs(kind: str) -> int:
    if kind not in DISTRIBUTIONS:
        msg = f"decoder {kind!r} is unknown; choose one of {DISTRIBUTIONS}."
        raise ValueError(msg)
    return {"zinb": 3, "nb": 2, "mse": 1}[kind]


class ExpressionDecoder(nn.Module):
    """Counts from gene tokens: two hidden layers (Linear → LayerNorm → LeakyReLU), then the parameters.

    The mean is a softmax over the genes of the context times `depth`, the total counts the context should hold.

    Parameters
    ----------
    d_model
        Model dimension.
    kind
        ``"zinb"``, ``"nb"`` or ``"mse"``.
    """

    def __init__(self, d_model: int, *, kind: str = "zinb") -> None:
        super().__init__()
        self.kind = kind
        self.mlp = nn.Sequential(
            nn.Linear(d_model, d_model),
            nn.LayerNorm(d_model),
            nn.LeakyReLU(),
            nn.Linear(d_model, d_model),
            nn.LayerNorm(d_model),
            nn.LeakyReLU(),
            nn.Linear(d_model, _n_outputs(kind)),
        )

    def forward(self, x_BTM: Tensor, depth_B: Tensor, *, pad_BT: Tensor | None = None) -> CountDistribution:
        """Distribution of the counts of each gene token."""
        return _distribution(self.kind, self.mlp(x_BTM), depth_B, pad_BT)


class CellDecoder(nn.Module):
    """Counts from the cell embedding alone: bilinear in a query made of the gene and the embedding of the cell.

    The cheap form of bottleneck learning that scGPT calls MVC (Cui et al. 2024, doi:10.1038/s41592-024-02201-0); it
    needs no second pass through the transformer.

    Parameters
    ----------
    d_model, kind
        As in :class:`ExpressionDecoder`.
    """

    def __init__(self, d_model: int, *, kind: str = "zinb") -> None:
        super().__init__()
        self.kind = kind
        self.query = nn.Sequential(nn.Linear(d_model, d_model), nn.LayerNorm(d_model), nn.Sigmoid())
        self.cell = nn.Linear(d_model, _n_outputs(kind) * d_model)

    def forward(
        self, gene_BTM: Tensor, cell_BM: Tensor, depth_B: Tensor, *, pad_BT: Tensor | None = None
    ) -> CountDistribution:
        """Distribution of the counts of each gene, given embeddings of genes and cells."""
        cell_BKM = self.cell(cell_BM).unflatten(-1, (_n_outputs(self.kind), -1))
        raw_BTK = torch.einsum("btm,bkm->btk", self.query(gene_BTM), cell_BKM)
        return _distribution(self.kind, raw_BTK, depth_B, pad_BT)


class ClassDecoder(nn.Module):
    """Logits of the leaf labels of one class from its embedding: Linear → LayerNorm → ReLU → Linear.

    Parameters
    ----------
    d_model
        Model dimension.
    n_leaves
        Number of leaf labels K.
    groups
        For each coarse label, the numbers of its leaves.

    Attributes
    ----------
    members_LK
        True where a leaf belongs to a label: a row per leaf (itself), then a row per coarse label.
    """

    def __init__(self, d_model: int, n_leaves: int, *, groups: Sequence[Sequence[int]] = ()) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(d_model, d_model), nn.LayerNorm(d_model), nn.ReLU(), nn.Linear(d_model, n_leaves)
        )
        members_LK = torch.cat([torch.eye(n_leaves), torch.zeros(len(groups), n_leaves)]).bool()
        for row, leaves in enumerate(groups, start=n_leaves):
            members_LK[row, list(leaves)] = True
        self.register_buffer("members_LK", members_LK, persistent=False)  # rebuilt from the configuration
        self.members_LK: Tensor

    def forward(self, cell_BM: Tensor) -> Tensor:
        """Logits of shape (B, n_leaves)."""
        return self.mlp(cell_BM)


def log_prob_of_any(logits_BK: Tensor, members_BK: Tensor) -> Tensor:
    """Log-probability that the label is any of the marked leaves, ``LSE(marked logits) − LSE(all logits)``.

    Parameters
    ----------
    logits_BK
        Logits of the leaves; computed with in float32.
    members_BK
        True at the leaves that count, at least one in each row.

    Returns
    -------
    float32 of shape (B,).

    Examples
    --------
    >>> logits = torch.tensor([[1.0, 2.0, 3.0]]).log()  # probabilities 1/6, 2/6, 3/6
    >>> log_prob_of_any(logits, torch.tensor([[True, False, True]])).exp()  # 4/6
    tensor([0.6667])
    """
    logits_BK = logits_BK.float()
    marked_BK = logits_BK.masked_fill(~members_BK, -torch.inf)
    return torch.logsumexp(marked_BK, dim=-1) - torch.logsumexp(logits_BK, dim=-1)
