"""From the tokens of the genes to one signed value each: an LSTM along the panel, or an MLP gene by gene.

Shape suffixes: B signatures of a batch, T gene tokens, M model dimension.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

DECODERS = ("mlp", "lstm")


class SequenceDecoder(nn.Module):
    """Values of genes from their tokens.

    ``"lstm"`` reads the genes in the order of the vocabulary, both ways, so that a value may depend on those before and
    behind it; whichever order they come in changes nothing. ``"mlp"`` reads each gene alone.

    Parameters
    ----------
    d_model
        Model dimension.
    kind
        ``"mlp"`` or ``"lstm"``.
    d_hidden
        Width of the hidden layer; of the LSTM, half of it each way.

    Raises
    ------
    ValueError
        For another kind, or an odd width of an LSTM.

    Examples
    --------
    >>> decoder = SequenceDecoder(8, kind="lstm", d_hidden=4)
    >>> decoder(torch.zeros(2, 3, 8), torch.tensor([[0, 1, 2], [2, 0, 1]])).shape
    torch.Size([2, 3])
    """

    def __init__(self, d_model: int, *, kind: str = "mlp", d_hidden: int = 64) -> None:
        super().__init__()
        if kind not in DECODERS:
            msg = f"decoder {kind!r} is unknown; choose one of {DECODERS}."
            raise ValueError(msg)
        if kind == "lstm" and d_hidden % 2:
            msg = f"d_hidden={d_hidden} must be even: half of an LSTM reads the genes forwards, half backwards."
            raise ValueError(msg)
        self.kind = kind
        self.lstm = nn.LSTM(d_model, d_hidden // 2, batch_first=True, bidirectional=True) if kind == "lstm" else None
        first = [] if kind == "lstm" else [nn.Linear(d_model, d_hidden), nn.GELU()]
        self.mlp = nn.Sequential(*first, nn.Linear(d_hidden, 1))

    def forward(self, x_BTM: Tensor, genes_BT: Tensor, *, pad_BT: Tensor | None = None) -> Tensor:
        """Values of shape (B, T), float32; those of padded places mean nothing.

        Parameters
        ----------
        x_BTM
            Tokens.
        genes_BT
            Number of each gene in the vocabulary, which is the order an LSTM reads in.
        pad_BT
            True where there is no gene.
        """
        if self.lstm is not None:
            x_BTM = self._read(x_BTM, genes_BT, pad_BT)
        return self.mlp(x_BTM).squeeze(-1).float()

    def _read(self, x_BTM: Tensor, genes_BT: Tensor, pad_BT: Tensor | None) -> Tensor:
        assert self.lstm is not None
        last = genes_BT.new_tensor(torch.iinfo(torch.int64).max)
        order_BT = (genes_BT if pad_BT is None else torch.where(pad_BT, last, genes_BT)).argsort(dim=1, stable=True)
        sorted_BTM = x_BTM.gather(1, order_BT.unsqueeze(-1).expand_as(x_BTM))
        if pad_BT is None:
            read_BTM = self.lstm(sorted_BTM)[0]
        else:
            lengths = (~pad_BT).sum(1).clamp(min=1).cpu()
            packed = pack_padded_sequence(sorted_BTM, lengths, batch_first=True, enforce_sorted=False)
            read_BTM = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x_BTM.shape[1])[0]
        back_BT = order_BT.argsort(dim=1)
        return read_BTM.gather(1, back_BT.unsqueeze(-1).expand(-1, -1, read_BTM.shape[-1]))
