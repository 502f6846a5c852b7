"""Cells as xTrimoGene sees them, two totals and only genes with a visible count in the encoder; and embeds them.

Shape suffixes: B cells, T gene tokens, K visible genes of the longest cell, P special tokens, M model dimension.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens, keep_tokens

POOLINGS = ("max", "mean", "S", "T", "all")


@dataclass(frozen=True)
class DepthTokens(CellTokens):
    """Tokens with a second total, ``totals_B`` being that of the counts seen (S).

    Attributes
    ----------
    target_B
        Total asked for (T); None where it is S.
    asked_BT
        True where a loss looks at the prediction; None where there is no loss.
    measured_G
        Tokens of every gene of the data set, increasing: a decoder is shown those that the tokens do not name as zeros.
        None: the tokens name all.
    """

    target_B: Tensor | None = None
    asked_BT: Tensor | None = None
    measured_G: Tensor | None = None


def target_of(tokens: CellTokens) -> Tensor:
    """Total asked for; that of the counts where the tokens name no other."""
    target_B = getattr(tokens, "target_B", None)
    return tokens.totals_B if target_B is None else target_B


def visible(tokens: CellTokens) -> Tensor:
    """True at genes with a count above zero that the model may see, shape (B, T)."""
    visible_BT = tokens.real_BT & (tokens.values_BT > 0)
    return visible_BT if tokens.hidden_BT is None else visible_BT & ~tokens.hidden_BT


def visible_only(tokens: CellTokens) -> tuple[CellTokens, Tensor]:
    """Only the visible genes of each cell, in their order, padded to the longest; and where they stood, (B, K)."""
    return keep_tokens(replace(tokens, hidden_BT=None), visible(tokens))


@dataclass(frozen=True, kw_only=True)
class DepthEncoded(Encoded):
    """What the encoder made of the cells.

    Attributes
    ----------
    special_BPM
        S and T after the last layer.
    tokens
        What was encoded. Genes that the encoder does not see have the embedding of zero or of the mask.
    """

    special_BPM: Tensor
    tokens: CellTokens


def pool(encoded: DepthEncoded, pooling: str = "all") -> Tensor:
    """Embeddings of the cells, (B, M); of ``"all"`` (B, 4 M).

    Parameters
    ----------
    encoded
        Output of the encoder.
    pooling
        ``"max"`` or ``"mean"`` over the visible genes, the special token ``"S"`` or ``"T"``, or ``"all"`` of them side
        by side.

    Raises
    ------
    ValueError
        For another `pooling`.
    """
    if pooling not in POOLINGS:
        msg = f"pooling={pooling!r} is unknown; choose one of {POOLINGS}."
        raise ValueError(msg)
    if pooling == "all":
        return torch.cat([pool(encoded, one) for one in POOLINGS[:-1]], dim=-1)
    if pooling in ("S", "T"):
        return encoded.special_BPM[:, "ST".index(pooling)]
    visible_BT1 = visible(encoded.tokens).unsqueeze(-1)
    if pooling == "mean":
        return (encoded.genes_BTM * visible_BT1).sum(1) / visible_BT1.sum(1).clamp(min=1)
    largest_BM = encoded.genes_BTM.masked_fill(~visible_BT1, -torch.inf).amax(1)
    return torch.where(visible_BT1.any(1), largest_BM, 0.0)
