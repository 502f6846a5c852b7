"""Post-norm transformer blocks, as BERT and most published single-cell models have them."""

from torch import Tensor, nn

from grnlab.nn.attention import Recorder, SelfAttention
from grnlab.nn.blocks import BlockStack

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

    def record_qk(self, x_BTM: Tensor, *, pad_BT: Tensor | None = None, layer: int = 0, record: Recorder) -> None:
        """Record queries and keys, and compute nothing beyond them."""
        self.attention.record_qk(x_BTM, layer=layer, record=record)


class PostNormStack(BlockStack):
    """Post-norm blocks in a row.

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
        super().__init__(
            PostNormBlock(d_model, n_heads, d_hidden, activation=activation, eps=eps) for _ in range(n_layers)
        )
