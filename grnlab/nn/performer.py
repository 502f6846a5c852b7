"""FAVOR+ attention (Choromanski et al. 2021, https://openreview.net/forum?id=Ua6zuk0WRH): linear in the tokens.

Queries and keys become positive random features whose products estimate ``exp(q · k / √d_head)``,

    φ(x) = (exp(ω · x' − ‖x'‖² / 2 − c) + ε) / √R,   x' = x / d_head^¼,

ω one of R random directions, orthogonal in blocks of d_head. c keeps the exponential in range: for a query the largest
ω · x' of its features, for keys that of all real tokens and heads of the cell; it would cancel, were it not for ε. The
attention of token i to token j is ``φ(q_i) · φ(k_j) / Σ_j φ(q_i) · φ(k_j)``: the **kernel map**. It is what these
layers use, and no softmax: report it as what it is.

Shape suffixes: B cells, T tokens, H heads, D head dimension, R random features, M model dimension.
"""

import math

import torch
from torch import Tensor, nn

from grnlab.nn.attention import Recorder
from grnlab.nn.blocks import BlockStack, drop


def orthogonal_features(n_features: int, d_head: int, *, generator: torch.Generator) -> Tensor:
    """Random directions ω, each of them standard normal, orthogonal in blocks of `d_head`; shape (R, D).

    Parameters
    ----------
    n_features, d_head
        Number R of directions, and their size.
    generator
        Source of randomness.

    Examples
    --------
    >>> omega = orthogonal_features(8, 4, generator=torch.Generator().manual_seed(0))
    >>> products = omega[:4] @ omega[:4].T
    >>> bool((products - products.diag().diag()).abs().max() < 1e-5)
    True
    """
    blocks = []
    for _ in range(-(-n_features // d_head)):
        q_DD, r_DD = torch.linalg.qr(torch.randn(d_head, d_head, generator=generator))
        blocks.append((q_DD * r_DD.diagonal().sign()).T)  # with these signs every rotation is equally likely
    length_R = torch.randn(n_features, d_head, generator=generator).norm(dim=1)
    return length_R.unsqueeze(1) * torch.cat(blocks)[:n_features]


def favor_features(
    x_BTHD: Tensor, projection_RD: Tensor, *, is_query: bool, pad_BT: Tensor | None = None, eps: float = 1e-4
) -> Tensor:
    """Positive features φ of queries or of keys, shape (B, T, H, R); those of padded keys are 0.

    Parameters
    ----------
    x_BTHD
        Queries or keys.
    projection_RD
        Directions ω.
    is_query
        Which of them.
    pad_BT
        True where a token is padding.
    eps
        What is added to each exponential.
    """
    n_features, d_head = projection_RD.shape
    scaled_BTHD = x_BTHD * d_head**-0.25
    logit_BTHR = scaled_BTHD @ projection_RD.T.to(scaled_BTHD.dtype)
    half_BTH1 = scaled_BTHD.square().sum(-1, keepdim=True) / 2
    if is_query:
        largest = logit_BTHR.amax(-1, keepdim=True)
    else:
        seen = logit_BTHR
        if pad_BT is not None:
            seen = seen.masked_fill(pad_BT[:, :, None, None], -torch.inf)
        largest = seen.amax((1, 2, 3), keepdim=True)
    features_BTHR = ((logit_BTHR - half_BTH1 - largest).exp() + eps) * n_features**-0.5
    if is_query or pad_BT is None:
        return features_BTHR
    return features_BTHR.masked_fill(pad_BT[:, :, None, None], 0.0)


def linear_attention(q_BTHR: Tensor, k_BTHR: Tensor, v_BTHD: Tensor) -> Tensor:
    """``φ(q) (φ(k)ᵀ v) / (φ(q) · Σ φ(k))``, shape (B, T, H, D): never a map of tokens by tokens."""
    context_BHRD = torch.einsum("bthr,bthd->bhrd", k_BTHR, v_BTHD)
    total_BTH = torch.einsum("bthr,bhr->bth", q_BTHR, k_BTHR.sum(1))
    return torch.einsum("bthr,bhrd->bthd", q_BTHR, context_BHRD) / total_BTH.unsqueeze(-1)


def as_recorded(q_BTHR: Tensor, k_BTHR: Tensor, pad_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Features scaled so that ``q · k`` **is** the attention the layer uses, and the mean key feature of a cell is 1.

    The constants c, which have no meaning, are gone then (but for ε), and every cell counts alike in a mean over cells.
    """
    n_real_B = k_BTHR.new_full((len(k_BTHR),), k_BTHR.shape[1]) if pad_BT is None else (~pad_BT).sum(1)
    mean_BH = k_BTHR.mean(-1).sum(1) / n_real_B.unsqueeze(-1)
    k_BTHR = k_BTHR / mean_BH[:, None, :, None]
    total_BTH = torch.einsum("bthr,bhr->bth", q_BTHR, k_BTHR.sum(1))
    return q_BTHR / total_BTH.unsqueeze(-1), k_BTHR


def take_rows(x_BTK: Tensor, place_BN: Tensor) -> Tensor:
    """Rows of each cell, in the order given, shape (B, N, ...)."""
    return x_BTK[torch.arange(len(x_BTK), device=x_BTK.device).unsqueeze(1), place_BN]


def rows_of(record: Recorder, place_BN: Tensor) -> Recorder:
    """Recorder that hands on only some tokens of each cell.

    Features of these tokens still have the attention the layer used as their products: what is missing of 1 in a row
    went to tokens that are not handed on.

    Parameters
    ----------
    record
        Receives queries, keys, values and outputs of these tokens.
    place_BN
        Their places.
    """

    def keep(layer: int, q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor | None, out_BTHD: Tensor | None) -> None:
        v_BNHD, out_BNHD = (None if x is None else take_rows(x, place_BN) for x in (v_BTHD, out_BTHD))
        record(layer, take_rows(q_BTHD, place_BN), take_rows(k_BTHD, place_BN), v_BNHD, out_BNHD)

    return keep


class FavorAttention(nn.Module):
    """Multi-head FAVOR+ self-attention with biases; O(T) in time and memory.

    Parameters
    ----------
    d_model, n_heads
        Model dimension M and number of heads H.
    d_head
        Size of a head; ``d_model // n_heads`` by default.
    n_features
        Random features R of a head; ``d_head · ln d_head`` by default. More are closer to softmax attention.
    eps
        See :func:`favor_features`; 0 makes the estimate of the softmax kernel unbiased.
    seed
        Of the random features, which are part of the weights; see :meth:`redraw`.

    Raises
    ------
    ValueError
        When `d_model` is no multiple of `n_heads` and `d_head` is not given.
    """

    projection_RD: Tensor

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        d_head: int | None = None,
        n_features: int | None = None,
        eps: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if d_head is None and d_model % n_heads:
            msg = f"d_model={d_model} must be a multiple of n_heads={n_heads}, or give d_head."
            raise ValueError(msg)
        d_head = d_head or d_model // n_heads
        self.n_heads, self.d_head, self.eps = n_heads, d_head, eps
        self.qkv = nn.Linear(d_model, 3 * n_heads * d_head)
        self.out = nn.Linear(n_heads * d_head, d_model)
        n_features = n_features or max(1, int(d_head * math.log(d_head)))
        self.register_buffer("projection_RD", torch.zeros(n_features, d_head))
        self.redraw(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def redraw(self, generator: torch.Generator) -> None:
        """Draw new random features: now and then while training, so that no weight fits itself to one draw."""
        self.projection_RD.copy_(orthogonal_features(*self.projection_RD.shape, generator=generator))

    def forward(
        self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, layer: int = 0, record: Recorder | None = None
    ) -> Tensor:
        """Attend among the tokens of each cell, (B, T, M); `record` receives :func:`as_recorded` features."""
        q_BTHD, k_BTHD, v_BTHD = self.qkv(x_BTM).unflatten(-1, (3, self.n_heads, self.d_head)).unbind(2)
        q_BTHR, k_BTHR = self._features(q_BTHD, k_BTHD, pad_BT)
        out_BTHD = linear_attention(q_BTHR, k_BTHR, v_BTHD)
        if record is not None:
            record(layer, *as_recorded(q_BTHR, k_BTHR, pad_BT), v_BTHD, out_BTHD)
        return self.out(out_BTHD.flatten(-2))

    def record_qk(self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, layer: int, record: Recorder) -> None:
        """Compute and record the features only: all that a network needs of the last layer."""
        n_rows = 2 * self.n_heads * self.d_head
        qk = nn.functional.linear(x_BTM, self.qkv.weight[:n_rows], self.qkv.bias[:n_rows])
        q_BTHD, k_BTHD = qk.unflatten(-1, (2, self.n_heads, self.d_head)).unbind(2)
        record(layer, *as_recorded(*self._features(q_BTHD, k_BTHD, pad_BT), pad_BT), None, None)

    def _features(self, q_BTHD: Tensor, k_BTHD: Tensor, pad_BT: Tensor | None) -> tuple[Tensor, Tensor]:
        q_BTHR = favor_features(q_BTHD, self.projection_RD, is_query=True, eps=self.eps)
        return q_BTHR, favor_features(k_BTHD, self.projection_RD, is_query=False, pad_BT=pad_BT, eps=self.eps)


class PerformerBlock(nn.Module):
    """Pre-norm: ``x = x + attention(norm(x))``, then ``x = x + mlp(norm(x))``.

    Parameters
    ----------
    d_model, n_heads, d_head, n_features, eps, seed
        See :class:`FavorAttention`.
    d_hidden
        Width of the hidden layer; ``4 · d_model`` by default.
    dropout
        Of what attention and MLP add, while training.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        d_head: int | None = None,
        n_features: int | None = None,
        d_hidden: int | None = None,
        dropout: float = 0.0,
        eps: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        d_hidden = d_hidden or 4 * d_model
        self.norm1 = nn.LayerNorm(d_model)
        self.attention = FavorAttention(d_model, n_heads, d_head=d_head, n_features=n_features, eps=eps, seed=seed)
        self.norm2 = nn.LayerNorm(d_model)
        self.mlp = nn.Sequential(nn.Linear(d_model, d_hidden), nn.GELU(), nn.Linear(d_hidden, d_model))

    def forward(
        self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, layer: int = 0, record: Recorder | None = None
    ) -> Tensor:
        """Output of shape (B, T, M)."""
        x_BTM = x_BTM + self._branch(self.attention(self.norm1(x_BTM), pad_BT=pad_BT, layer=layer, record=record))
        return x_BTM + self._branch(self.mlp(self.norm2(x_BTM)))

    def record_qk(self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, layer: int = 0, record: Recorder) -> None:
        """Record features, and compute nothing beyond them."""
        self.attention.record_qk(self.norm1(x_BTM), pad_BT=pad_BT, layer=layer, record=record)

    def _branch(self, x_BTM: Tensor) -> Tensor:
        return drop(x_BTM, self.dropout) if self.training else x_BTM


class PerformerStack(BlockStack):
    """Performer blocks in a row, without a norm at the end.

    Parameters
    ----------
    n_layers
        Number of blocks.
    d_model, n_heads, d_head, n_features, d_hidden, dropout, eps
        As in :class:`PerformerBlock`.
    seed
        Of the random features; every layer has its own.
    """

    def __init__(
        self,
        n_layers: int,
        d_model: int,
        n_heads: int,
        *,
        d_head: int | None = None,
        n_features: int | None = None,
        d_hidden: int | None = None,
        dropout: float = 0.0,
        eps: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(
            PerformerBlock(
                d_model, n_heads, d_head=d_head, n_features=n_features, d_hidden=d_hidden, dropout=dropout, eps=eps
            )
            for _ in range(n_layers)
        )
        self.redraw(seed)

    def redraw(self, seed: int) -> None:
        """Draw the random features of every layer anew; the same seed gives the same."""
        generator = torch.Generator().manual_seed(seed)
        for block in self.layers:
            block.attention.redraw(generator)
