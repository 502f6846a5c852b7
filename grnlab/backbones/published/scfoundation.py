"""The encoder of scFoundation (Hao et al. 2024, doi:10.1038/s41592-024-02305-7): softmax attention, continuous values.

The weights are for non-commercial use only. Checked against PyTorch's own ``TransformerEncoderLayer``, which the
publisher's encoder is made of, and the formulas of its value embedding; there is no package to run, and the published
weights were not at hand. Of ``models.ckpt`` the part ``cell`` is read, or the only one. The decoder, whose attention
is a kernel and no softmax, is :mod:`grnlab.backbones.published.scfoundation_decoder`.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from grnlab.backbones.config import ModelConfig
from grnlab.backbones.published.base import PublishedModel, by_token
from grnlab.data.tokens import CellTokens, expressed_context
from grnlab.genes import GeneVocab
from grnlab.nn.discretize import AutoDiscretization
from grnlab.nn.post_norm import PostNormStack

_TARGET_SUM = 1e4


@dataclass(frozen=True)
class ScFoundationConfig(ModelConfig):
    """Sizes of :class:`ScFoundation`; the defaults are the published model.

    Attributes
    ----------
    n_layers, d_model, n_heads
        Sizes of the encoder; its hidden layers are 4 times as wide.
    n_bins
        Vectors that the embedding of a value is a mixture of.
    bin_alpha
        Weight of the first layer of the mixture beside the second.
    target
        Token T, the total to make, as log10. 4 is the publisher's setting for single cells.
    """

    n_layers: int = 12
    d_model: int = 768
    n_heads: int = 12
    n_bins: int = 100
    bin_alpha: float = 1.0
    target: float = 4.0


class ScFoundation(PublishedModel):
    """The encoder: expressed genes with log1p of counts per 10,000; S (total) and T (total to make) as special tokens.

    Totals are those of the genes the model knows, as the publisher computes them.

    Parameters
    ----------
    vocab, config, name
        See :class:`PublishedModel`.
    """

    whole_cells = True

    def __init__(
        self, vocab: GeneVocab, config: ScFoundationConfig | None = None, *, name: str = "scfoundation"
    ) -> None:
        config = config or ScFoundationConfig()
        super().__init__(vocab, config, name=name)
        self.target = config.target
        self.special = nn.Parameter(torch.zeros(2, config.d_model))  # S, T
        self.value_encoder = AutoDiscretization(config.n_bins, config.d_model, alpha=config.bin_alpha)
        self.stack = PostNormStack(config.n_layers, config.d_model, config.n_heads, 4 * config.d_model)
        self.final_norm = nn.LayerNorm(config.d_model)

    @property
    def n_prefix(self) -> int:
        """Two special tokens."""
        return 2

    def tokenize(self, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, *, context: str) -> CellTokens:
        """Expressed genes and log1p of their counts per 10,000 of those shown.

        Raises
        ------
        ValueError
            For another context than ``"expressed"``.
        """
        if context != "expressed":
            msg = f'context={context!r}: the encoder of scFoundation sees no zeros; use context="expressed".'
            raise ValueError(msg)
        return log_values(by_token(expressed_context(counts, tokens, known_totals(counts))))

    def embed(self, tokens: CellTokens) -> tuple[Tensor, Tensor]:
        """Gene and value, summed."""
        gene_BTM = self.gene_embedding(tokens.genes_BT)
        source_B = tokens.totals_B.clamp(min=1).log10()
        values_BP = torch.stack([source_B, torch.full_like(source_B, self.target)], dim=1)
        values_BT = torch.cat([values_BP, tokens.values_BT], dim=1)
        x_BTM = torch.cat([self.special.expand(len(tokens), -1, -1), gene_BTM], dim=1)
        return gene_BTM, x_BTM + self.value_encoder(values_BT)


def log_values(cells: CellTokens) -> CellTokens:
    """Counts per 10,000 of the total, and log1p of that, as the publisher shows them."""
    scaled_BT = cells.values_BT / cells.totals_B.clamp(min=1).unsqueeze(-1) * _TARGET_SUM
    return CellTokens(cells.genes_BT, scaled_BT.log1p(), cells.totals_B, cells.pad_BT)


def known_totals(counts: sp.csr_matrix) -> np.ndarray:
    """Totals of the genes shown."""
    return np.asarray(counts.sum(axis=1)).ravel()
