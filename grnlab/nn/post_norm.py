"""Post-norm transformer blocks, as BERT and most published single-cell models have them."""

from torch import Tensor, nn

from grnlab.nn.attention import Recorder, SelfAttention

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


class PostNormBlock(nn.Module):
    """``x = norm(x + attention(x))``, then ``x = norm(x + mlp(x))``; without dropout.

    Parameters
    ----------
    d_model, n_heads
        Sizes.
    d_hidden
        Width of the hidden layer.
    activation
        ``"relu"`` or ``"gelu"`` (exact).
    eps
        Of the norms.

    Raises
    ------
    ValueError
        For an unknown activation.
    """

    def __init__(
        self, d_model: int, n_heads: int, d_hidden: int, *, activation: str = "relu", eps: float = 1e-5
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            msg = f"activation={activation!r} is unknown; choose one of {list(ACTIVATIONS)}."
            raise ValueError(msg)
        self.attention = SelfAttention(d_model, n_heads)
        self.norm1 = nn.LayerNorm(d_model, eps=eps)
        self.mlp = nn.Sequential(nn.Linear(d_model, d_hidden), ACTIVATIONS[activation](), nn.Linear(d_hidden, d_model))
        self.norm2 = nn.LayerNorm(d_model, eps=eps)

    def forward(
        self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, layer: int = 0, record: Recorder | None = None
    ) -> Tensor:
        """Output of shape (B, T, M)."""
        x_BTM = self.norm1(x_BTM + self.attention(x_BTM, pad_BT=pad_BT, layer=layer, record=record))
        return self.norm2(x_BTM + self.mlp(x_BTM))


class PostNormStack(nn.Module):
    """Blocks in a row.

    Parameters
    ----------
    n_layers
        Number of blocks.
    d_model, n_heads, d_hidden, activation, eps
        As in :class:`PostNormBlock`.
    """

    def __init__(
        self,
        n_layers: int,
        d_model: int,
        n_heads: int,
        d_hidden: int,
        *,
        activation: str = "relu",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            PostNormBlock(d_model, n_heads, d_hidden, activation=activation, eps=eps) for _ in range(n_layers)
        )

    @property
    def layers(self) -> list[PostNormBlock]:
        """The blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, PostNormBlock)]

    def forward(self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, record: Recorder | None = None) -> Tensor:
        """Output of shape (B, T, M)."""
        for layer, block in enumerate(self.layers):
            x_BTM = block(x_BTM, pad_BT=pad_BT, layer=layer, record=record)
        return x_BTM

    def record_qk(self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, record: Recorder) -> None:
        """Record queries and keys of every layer and stop: the rest of the last block feeds no attention."""
        *earlier, last = self.layers
        for layer, block in enumerate(earlier):
            x_BTM = block(x_BTM, pad_BT=pad_BT, layer=layer, record=record)
        last.attention.record_qk(x_BTM, layer=len(earlier), record=record)
