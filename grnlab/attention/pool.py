"""Run a backbone over the cells of a group and average its queries and keys gene by gene: a meta-cell.

Shape suffixes: L layers, H heads, G genes, D head dimension, B cells of a batch, T tokens.
"""

from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp
import torch
from grnlab_kernels import add_by_gene
from torch import Tensor

from grnlab.attention.maps import GroupMaps
from grnlab.backbones.base import AttentionSpec, Backbone
from grnlab.data.tokens import TOKENS_PER_BATCH, CellTokens, like_lengths

CONTEXTS = ("shared", "expressed")
READOUT_OF_MAPS = {
    "softmax": "softmax of mean queries and keys over the cells of a group",
    "kernel": "kernel map (linear attention, no softmax) of mean features over the cells of a group",
    "two_hop": "two-hop map (gene → latents → gene, no softmax between genes) of mean attentions to and of the latents "
    "over the cells of a group",
}
"""Kind of attention → what a pooled map is, for provenance."""


class QKSum:
    """Running sums of queries and keys per layer and gene; a :class:`grnlab.nn.Recorder`.

    Special tokens are cut off here, before anything is normalised over genes. Sums are additive: shards of cells,
    pooled apart, add up.

    Parameters
    ----------
    spec
        Sizes of the attention.
    n_genes
        Genes G of the context; every batch numbers its genes in [0, G).
    device
        Where the sums are kept.
    """

    def __init__(self, spec: AttentionSpec, n_genes: int, *, device: torch.device | str = "cpu") -> None:
        self.spec = spec
        shape = (spec.n_layers, n_genes, spec.n_heads * spec.d_head)
        self.q_LGK = torch.zeros(shape, device=device)
        self.k_LGK = torch.zeros(shape, device=device)
        self.count_G = torch.zeros(n_genes, dtype=torch.int64, device=device)
        self._genes_BT: Tensor | None = None
        self._pad_BT: Tensor | None = None

    def of(self, genes_BT: Tensor | None, pad_BT: Tensor | None, n_cells: int) -> "QKSum":
        """Say which genes the next batch holds, None when every cell has all G genes in order, and where none is."""
        self._genes_BT, self._pad_BT = genes_BT, pad_BT
        if genes_BT is None:
            self.count_G += n_cells
        return self

    def __call__(
        self, layer: int, q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor | None, out_BTHD: Tensor | None
    ) -> None:
        """Add a batch of one layer."""
        n_prefix = self.spec.n_prefix
        for total_LGK, x_BTHD in ((self.q_LGK, q_BTHD), (self.k_LGK, k_BTHD)):
            x_BTK = x_BTHD[:, n_prefix:].flatten(-2)
            if self._genes_BT is None:
                total_LGK[layer] += x_BTK.float().sum(0)
                continue
            real_BT = ... if self._pad_BT is None else ~self._pad_BT
            genes_N, rows_NK = self._genes_BT[real_BT].reshape(-1), x_BTK[real_BT].reshape(-1, x_BTK.shape[-1])
            first = layer == 0 and total_LGK is self.q_LGK  # a gene is counted once per cell, not per layer
            count_G = self.count_G if first else torch.zeros_like(self.count_G)
            add_by_gene(total_LGK[layer], count_G, rows_NK, genes_N)


def pool_queries_keys(
    model: Backbone,
    counts: sp.csr_matrix,
    tokens: np.ndarray,
    totals: np.ndarray,
    *,
    name: str = "all",
    context: str = "shared",
    keep: np.ndarray | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> GroupMaps:
    """Meta-cell queries and keys of a group of cells; features, where the attention of the model is a kernel.

    Parameters
    ----------
    model
        Backbone in evaluation mode.
    counts
        Shape (n_cells, G), columns in the order of `tokens`.
    tokens
        Vocabulary tokens of the G genes.
    totals
        Total counts of each cell over all genes of the data set.
    name
        Name of the group.
    context
        ``"shared"``: every cell is shown all G genes, zeros included. ``"expressed"``: every cell is shown the genes
        it expresses, and a gene is averaged over the cells that express it. Which of these a model can read, its
        ``tokenize`` says.
    keep
        Columns of the genes that are pooled, increasing; the model is shown the others too. All by default.
    on_batch
        Called with the number of cells done after each batch.

    Raises
    ------
    ValueError
        For an unknown context, or a number of genes that does not fit.
    """
    if context not in CONTEXTS:
        msg = f"context={context!r} is unknown; choose one of {CONTEXTS}."
        raise ValueError(msg)
    if counts.shape[1] != len(tokens) or counts.shape[0] != len(totals):
        msg = f"counts has shape {counts.shape}; expected ({len(totals)}, {len(tokens)}), as totals and tokens say."
        raise ValueError(msg)
    device = getattr(model, "device", torch.device("cpu"))
    pooled_tokens = tokens if keep is None else tokens[keep]
    place = np.full(len(model.vocab), -1, dtype=np.int64)
    place[pooled_tokens] = np.arange(len(pooled_tokens))
    place_G = torch.from_numpy(place).to(device)
    pooled = QKSum(model.attention, len(pooled_tokens), device=device)
    with torch.inference_mode():
        for batch in _batches(model, counts, tokens, totals, context):
            on_device = batch.to(device)
            genes_BT, out_BT = None, on_device.pad_BT
            if context != "shared" or keep is not None:
                genes_BT = place_G[on_device.genes_BT]
            if genes_BT is not None and keep is not None:
                out_BT = genes_BT < 0 if out_BT is None else out_BT | (genes_BT < 0)
            model.record_qk(on_device, record=pooled.of(genes_BT, out_BT, len(batch)))
            if on_batch is not None:
                on_batch(len(batch))
    spec = model.attention
    return GroupMaps(
        name=name,
        q_sum_LHGD=pooled.q_LGK.unflatten(-1, (spec.n_heads, spec.d_head)).transpose(1, 2).contiguous().cpu(),
        k_sum_LHGD=pooled.k_LGK.unflatten(-1, (spec.n_heads, spec.d_head)).transpose(1, 2).contiguous().cpu(),
        count_G=pooled.count_G.cpu(),
        n_cells=counts.shape[0],
    )


def _batches(
    model: Backbone, counts: sp.csr_matrix, tokens: np.ndarray, totals: np.ndarray, context: str
) -> Iterator[CellTokens]:
    lengths, least = np.diff(counts.indptr), getattr(model, "tokens_per_cell", 1)
    if context == "shared":
        size = max(1, TOKENS_PER_BATCH // max(len(tokens), least))
        for start in range(0, counts.shape[0], size):
            rows = slice(start, start + size)
            yield model.tokenize(counts[rows], tokens, totals[rows], context=context)
        return
    seen = np.flatnonzero(lengths)
    for places in like_lengths(lengths[seen], least=least, tokens=TOKENS_PER_BATCH):
        rows = seen[places]
        yield model.tokenize(counts[rows], tokens, totals[rows], context=context)
