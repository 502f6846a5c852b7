"""Profiles of the whole genome from the embeddings of cells, by the model's cell decoder.

Shape suffixes: B cells, G genes, M model dimension.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch

from grnlab.attention.prepare import check_backbone
from grnlab.backbones.base import Encoded
from grnlab.nn.decoders import CountDistribution
from grnlab.tasks._cells import AlignedCells, open_cells
from grnlab.tasks._stream import batches, run_cells

CELLS_PER_DECODE = 64
_CELL = "cell"
Embeddings = Mapping[str, np.ndarray]


def embed_to_decode(
    adata: ad.AnnData, model: Any, *, layer: str | None, out: str | Path | None
) -> tuple[AlignedCells, dict[str, np.ndarray]]:
    """Cells, and all their embeddings: ``"cell"`` and ``"class:<name>"``.

    Raises
    ------
    ValueError
        When the model has no decoder of cells, or as :func:`grnlab.tl.embed`.
    """
    check_decoder(model)
    cells = open_cells(adata, model, layer=layer)

    def of_block(counts: sp.csr_matrix, rows: slice) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        for within, tokens in batches(model, counts, cells.tokens, cells.totals[rows]):
            encoded = model.encode(tokens)
            found = {_CELL: encoded.cell_BM} | {f"class_{name}": x_BM for name, x_BM in encoded.classes_BM.items()}
            yield within, {name: values.float().cpu().numpy() for name, values in found.items()}

    return cells, run_cells(cells, of_block, desc="embed", settings={"for": "decoding"}, out=out)


def check_decoder(model: Any) -> None:
    """Refuse a model that cannot make counts of the embedding of a cell.

    Raises
    ------
    ValueError
        When it lacks one, or is no model.
    """
    check_backbone(model)
    decoder = getattr(model, "cell_decoder", None)
    if not (hasattr(model, "decode_from_cell") and hasattr(model, "gene_embedding") and decoder is not None):
        msg = (
            f"{getattr(model, 'name', model)!r:.80} has no decoder from cells to counts; load a model trained with "
            "mvc, such as 'grnlab-small'."
        )
        raise ValueError(msg)
    if getattr(decoder, "kind", "") not in ("zinb", "nb"):
        msg = f"{model.name!r} predicts no counts (decoder {decoder.kind!r}); a model with 'zinb' or 'nb' is needed."
        raise ValueError(msg)


class ProfileDecoder:
    """Shares of the counts of a cell, gene by gene, for all genes at once.

    The queries of the genes are made once; the mean is a softmax over all `tokens`, so no panels are needed.

    Parameters
    ----------
    model
        A backbone with ``decode_from_cell``.
    tokens
        Genes to decode.
    """

    def __init__(self, model: Any, tokens: np.ndarray) -> None:
        self.model = model
        self._device = getattr(model, "device", torch.device("cpu"))
        with torch.inference_mode():
            genes_G = torch.from_numpy(np.asarray(tokens, dtype=np.int64)).to(self._device)
            self._gene_1GM = model.gene_embedding(genes_G).unsqueeze(0)

    def __call__(self, embeddings: Embeddings) -> CountDistribution:
        """Distribution for a total of 1; what it gives broadcasts to (B, G)."""
        tensors = {name: torch.from_numpy(np.array(x_BM)).to(self._device) for name, x_BM in embeddings.items()}
        cell_BM = tensors.pop(_CELL)
        classes = {name.removeprefix("class_"): x_BM for name, x_BM in tensors.items()}
        with torch.inference_mode():
            encoded = Encoded(cell_BM.unsqueeze(1)[:, :0], cell_BM, classes, self._gene_1GM)
            return self.model.decode_from_cell(encoded, cell_BM.new_ones(len(cell_BM)))


def rows_of(embeddings: Embeddings, rows: np.ndarray | slice) -> dict[str, np.ndarray]:
    """Embeddings of some cells."""
    return {name: x_BM[rows] for name, x_BM in embeddings.items()}


def chunks(rows: slice) -> Iterator[np.ndarray]:
    """Cell numbers, so many at a time as are decoded at once."""
    for start in range(rows.start, rows.stop, CELLS_PER_DECODE):
        yield np.arange(start, min(start + CELLS_PER_DECODE, rows.stop))
