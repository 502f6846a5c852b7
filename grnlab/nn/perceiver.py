"""Perceiver IO (Jaegle et al. 2021, https://openreview.net/forum?id=fILj7WpI-g): tokens are read by a few latents.

Latents attend to the tokens, then to each other, then whoever is asked for attends to the latents: cost grows linearly
with the number of tokens, and of queries.

Shape suffixes: B cells, T tokens, Q queries, N latents, H heads, D head dimension, M model dimension.
"""

import torch
from torch import Tensor, nn

from grnlab.nn.blocks import TransformerStack, drop


class CrossAttention(nn.Module):
    """Multi-head softmax attention of queries to other tokens, with biases and scale 1/√d_head.

    Parameters
    ----------
    d_model, n_heads
        Model dimension M, a multiple of the number of heads H.

    Raises
    ------
    ValueError
        When it is not.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        if d_model % n_heads:
            msg = f"d_model={d_model} must be a multiple of n_heads={n_heads}."
            raise ValueError(msg)
        self.n_heads = n_heads
        self.q = nn.Linear(d_model, d_model)
        self.kv = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def project(self, x_BQM: Tensor, y_BTM: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of `x`, keys and values of `y`: (B, Q, H, D) and twice (B, T, H, D)."""
        k_BTHD, v_BTHD = self.kv(y_BTM).unflatten(-1, (2, self.n_heads, -1)).unbind(2)
        return self.q(x_BQM).unflatten(-1, (self.n_heads, -1)), k_BTHD, v_BTHD

    def forward(self, x_BQM: Tensor, y_BTM: Tensor, *, blind_BT: Tensor | None = None) -> Tensor:
        """Attend from `x` to the tokens `y` that are not blind, (B, Q, M); with none to attend to, only the bias."""
        q_BQHD, k_BTHD, v_BTHD = self.project(x_BQM, y_BTM)
        return self.out(cross_attend(q_BQHD, k_BTHD, v_BTHD, blind_BT=blind_BT).flatten(-2))


def cross_attend(q_BQHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor, *, blind_BT: Tensor | None = None) -> Tensor:
    """``softmax(q kᵀ / √d_head) v``, shape (B, Q, H, D); 0 where every token is blind.

    The map is made: latents are few, and on CPUs this is the faster way in bfloat16.

    Parameters
    ----------
    q_BQHD, k_BTHD, v_BTHD
        Queries, keys and values.
    blind_BT
        True where nothing may attend to.
    """
    map_BHQT = attention_map(q_BQHD, k_BTHD, blind_BT=blind_BT)
    return (map_BHQT.to(v_BTHD.dtype) @ v_BTHD.transpose(1, 2)).transpose(1, 2)


def attention_map(q_BQHD: Tensor, k_BTHD: Tensor, *, blind_BT: Tensor | None = None) -> Tensor:
    """The map that :func:`cross_attend` uses, shape (B, H, Q, T); rows of 0 where every token is blind.

    Parameters
    ----------
    q_BQHD, k_BTHD, blind_BT
        As there.
    """
    logits_BHQT = (q_BQHD * q_BQHD.shape[-1] ** -0.5).transpose(1, 2) @ k_BTHD.permute(0, 2, 3, 1)
    if blind_BT is None:
        return logits_BHQT.softmax(dim=-1)
    nothing_B = blind_BT.all(dim=1)
    blind_BT = blind_BT & ~nothing_B.unsqueeze(1)
    map_BHQT = logits_BHQT.masked_fill(blind_BT[:, None, None, :], -torch.inf).softmax(dim=-1)
    return map_BHQT.masked_fill(nothing_B[:, None, None, None], 0.0)


class CrossBlock(nn.Module):
    """``x + attention(norm(x), y)``, then ``x + mlp(norm(x))``; exact GELU, hidden width 4 M.

    What is attended to is **not** normalised: a norm would take away the factor a token is scaled by, and with it all
    that scaled embeddings tell of expression.

    Parameters
    ----------
    d_model, n_heads
        Sizes.
    dropout
        Of what attention and MLP add.
    """

    def __init__(self, d_model: int, n_heads: int, *, dropout: float = 0.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d_model, eps=eps)
        self.attention = CrossAttention(d_model, n_heads)
        self.norm2 = nn.LayerNorm(d_model, eps=eps)
        self.mlp = nn.Sequential(nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model))
        self.dropout = dropout

    def forward(self, x_BQM: Tensor, y_BTM: Tensor, *, blind_BT: Tensor | None = None) -> Tensor:
        """Output of shape (B, Q, M)."""
        return self.after(x_BQM, self.attention(self.norm1(x_BQM), y_BTM, blind_BT=blind_BT))

    def after(self, x_BQM: Tensor, attended_BQM: Tensor) -> Tensor:
        """All that follows the attention."""
        p = self.dropout if self.training else 0.0
        x_BQM = x_BQM + drop(attended_BQM, p)
        return x_BQM + drop(self.mlp(self.norm2(x_BQM)), p)


class Perceiver(nn.Module):
    """Encoder, latent process and decoder.

    Parameters
    ----------
    n_latents
        Number of latents N.
    n_layers
        Self-attention blocks of the latents; a norm follows the last.
    d_model, n_heads, dropout
        As in :class:`CrossBlock`.
    """

    def __init__(self, n_latents: int, n_layers: int, d_model: int, *, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(n_latents, d_model))
        self.encoder = CrossBlock(d_model, n_heads, dropout=dropout)
        self.process = TransformerStack(n_layers, d_model, n_heads, dropout=dropout)
        self.decoder = CrossBlock(d_model, n_heads, dropout=dropout)

    def encode(self, y_BTM: Tensor, *, blind_BT: Tensor | None = None) -> Tensor:
        """Latents of each cell, (B, N, M)."""
        return self.process(self.encoder(self.latents.expand(len(y_BTM), -1, -1), y_BTM, blind_BT=blind_BT))

    def decode(self, query_BQM: Tensor, latents_BNM: Tensor) -> Tensor:
        """What the latents answer each query, (B, Q, M)."""
        return self.decoder(query_BQM, latents_BNM)

    def hops(
        self, query_BQM: Tensor, y_BTM: Tensor, *, blind_BT: Tensor | None = None, mixing: bool = True
    ) -> "TwoHops":
        """Run up to the last attention, and give the attention on both sides of the latents.

        Parameters
        ----------
        query_BQM
            Who asks.
        y_BTM, blind_BT
            Tokens, and which of them nothing attends to.
        mixing
            Whether latents pass on what they read from each other, see :class:`TwoHops`.
        """
        x_BNM = self.latents.expand(len(y_BTM), -1, -1)
        q_BNHD, k_BTHD, v_BTHD = self.encoder.attention.project(self.encoder.norm1(x_BNM), y_BTM)
        read_BHNT = attention_map(q_BNHD, k_BTHD, blind_BT=blind_BT)
        mixed_BNN: Tensor | None = None

        def follow(layer: int, q: Tensor, k: Tensor, *_: Tensor | None) -> None:
            nonlocal mixed_BNN
            step_BNN = attention_map(q, k).mean(1)
            step_BNN = (step_BNN + torch.eye(step_BNN.shape[-1], device=step_BNN.device)) / 2
            mixed_BNN = step_BNN if mixed_BNN is None else step_BNN @ mixed_BNN

        out_BNHD = cross_attend(q_BNHD, k_BTHD, v_BTHD, blind_BT=blind_BT)
        x_BNM = self.encoder.after(x_BNM, self.encoder.attention.out(out_BNHD.flatten(-2)))
        x_BNM = self.process(x_BNM, record=follow if mixing else None)
        ask_BQHD, answer_BNHD, _ = self.decoder.attention.project(self.decoder.norm1(query_BQM), x_BNM)
        asked_BHQN = attention_map(ask_BQHD, answer_BNHD)
        return TwoHops(asked_BHQN, mixed_BNN, read_BHNT, v_BTHD, (ask_BQHD, answer_BNHD, out_BNHD))


class TwoHops:
    """Attention of queries to tokens by way of the latents: ``asked · mixing · read``, a map for each pair of heads.

    *asked* is the decoder's attention of a query over the latents, *read* the encoder's attention of a latent over the
    tokens; rows of both sum to 1. *mixing* is the rollout of the latents' self-attention (Abnar & Zuidema 2020,
    doi:10.18653/v1/2020.acl-main.385): the product over layers of ``(I + mean over heads of the attention) / 2``, or
    nothing. Not included: value projections, MLPs and norms between the hops, and the query's own residual. So rows sum
    to 1 and nothing is negative; a pair of heads (a of the decoder, b of the encoder) is head ``a · H + b``.

    Parameters
    ----------
    asked_BHQN, mixed_BNN, read_BHNT
        Attentions.
    v_BTHD
        Values of the encoder.
    modules
        Queries and keys of the decoder, and attention times values of the encoder, as the modules make them.
    """

    def __init__(
        self,
        asked_BHQN: Tensor,
        mixed_BNN: Tensor | None,
        read_BHNT: Tensor,
        v_BTHD: Tensor,
        modules: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        self.asked_BHQN, self.mixed_BNN, self.read_BHNT = asked_BHQN, mixed_BNN, read_BHNT
        self.v_BTHD, self.modules = v_BTHD, modules

    def features(self) -> tuple[Tensor, Tensor]:
        """Features of queries and of tokens whose product is the map: (B, Q, H · H, N) and (B, T, H · H, N)."""
        n_heads = self.asked_BHQN.shape[1]
        asked_BHQN = self.asked_BHQN if self.mixed_BNN is None else self.asked_BHQN @ self.mixed_BNN[:, None]
        q_BQPN = asked_BHQN.transpose(1, 2).repeat_interleave(n_heads, dim=2)
        k_BTPN = self.read_BHNT.permute(0, 3, 1, 2).repeat(1, 1, n_heads, 1)
        return q_BQPN, k_BTPN

    def values(self) -> tuple[Tensor, Tensor]:
        """Values of each pair of heads, (B, T, H · H, D), and what becomes of them the long way, (B, Q, H · H, D).

        The long way: the encoder's own output, mixed, as the values of the decoder's own attention.
        """
        ask_BQHD, answer_BNHD, out_BNHD = self.modules
        n_heads = out_BNHD.shape[2]
        if self.mixed_BNN is not None:
            out_BNHD = torch.einsum("bnm,bmhd->bnhd", self.mixed_BNN.to(out_BNHD.dtype), out_BNHD)
        long_BQPD = torch.cat(
            [
                cross_attend(ask_BQHD, answer_BNHD, out_BNHD[:, :, [head] * n_heads]).unsqueeze(3)
                for head in range(n_heads)
            ],
            dim=3,
        )
        return self.v_BTHD.repeat(1, 1, n_heads, 1), long_BQPD.flatten(2, 3)
