"""Cells at another depth: counts enhanced, cells and genes embedded, by a model that is told two totals (xTrimoGene).

Shape suffixes: B cells, T gene tokens.
"""

import json
from collections.abc import Collection, Iterator

import anndata as ad
import numpy as np
import torch
from numpy.typing import ArrayLike

from grnlab._progress import progress
from grnlab.backbones import XTrimoGene
from grnlab.backbones.xtrimogene import PER
from grnlab.backbones.xtrimogene_tokens import POOLINGS, DepthTokens, pool
from grnlab.data.tokens import expressed_context, like_lengths, shared_context
from grnlab.tasks._cells import AlignedCells, open_cells
from grnlab.tasks._slots import check_slots

_TOKENS_PER_BATCH = 16_384


def enhance_depth(
    adata: ad.AnnData,
    model: XTrimoGene,
    *,
    target_total: ArrayLike,
    layer: str | None = None,
    key_added: str = "enhanced",
) -> None:
    """Predict the counts cells would have, were they sequenced to another total; writes ``adata.layers[key_added]``.

    The layer is dense, and holds predicted counts, not integers. Trained with a lower ``zero_rate`` than ``rate`` (see
    :class:`grnlab.objectives.ReadDepth`), as the released model was, they are nearer to what a gene is in cells that
    express it than to its mean, and do not add up to the total. Genes the model does not know are scaled to the new
    total and not predicted; ``adata.var[key_added]`` says which were.

    Parameters
    ----------
    adata
        Counts.
    model
        An :class:`grnlab.backbones.XTrimoGene`; what it was trained on, it should resemble.
    target_total
        Total counts (over all genes of the data) to predict: a number, or one for each cell; none below the total that
        a cell has.
    layer
        Layer that holds the counts; ``X`` by default.
    key_added
        Layer to write; it must be free, or written by this verb.

    Raises
    ------
    ValueError
        When `adata` holds no counts, its genes are unknown, a cell has no counts, the target is below the total of a
        cell, 0 or no number, the layer is taken, or the model knows no depth.

    Examples
    --------
    >>> import grnlab as gl
    >>> from grnlab.backbones import XTrimoGeneConfig
    >>> data = gl.datasets.planted(n_cells=60)
    >>> untrained = XTrimoGeneConfig(n_layers=1, d_model=16, n_heads=2, d_decoder=16)
    >>> model = gl.tl.adapt(data.adata, architecture=untrained, objectives=("read_depth",), max_steps=2,
    ...     progress=False)
    >>> gl.tl.enhance_depth(data.adata, model, target_total=1e5)
    >>> data.adata.layers["enhanced"].shape == data.adata.shape
    True
    """
    _check_model(model)
    check_slots(adata, key_added, task="enhance_depth", layers=[key_added], counts=layer, argument="key_added")
    cells = open_cells(adata, model, layer=layer)
    targets = _targets(target_total, cells, adata)
    folds = (targets / cells.totals).astype(np.float32)
    counts = np.empty(adata.shape, dtype=np.float32)
    for block in cells.blocks():
        part = cells.matrix[block]
        counts[block] = (part.toarray() if hasattr(part, "toarray") else np.asarray(part)) * folds[block, None]
    for rows, tokens in _batches(cells, targets, every_gene=True):
        with torch.inference_mode():
            values_BT = model.values(model.encode(tokens.to(model.device))).clamp(min=0)
        scaled = values_BT.expm1().cpu().numpy() * (targets[rows, None] / PER)
        counts[np.ix_(rows, cells.columns)] = scaled
    adata.layers[key_added] = counts
    adata.var[key_added] = np.isin(np.arange(adata.n_vars), cells.columns)
    adata.uns[key_added] = {"provenance": _provenance(cells, targets, task="enhance_depth")}


def embed_at_depth(
    adata: ad.AnnData,
    model: XTrimoGene,
    *,
    pooling: str = "all",
    target_total: ArrayLike | None = None,
    layer: str | None = None,
    key_added: str = "X_depth",
) -> None:
    """Embed cells by the encoder, told the total it should see them at; writes ``adata.obsm[key_added]``.

    Parameters
    ----------
    adata
        Counts.
    model
        An :class:`grnlab.backbones.XTrimoGene`.
    pooling
        ``"max"`` or ``"mean"`` over the expressed genes, the special token of the total seen (``"S"``) or asked for
        (``"T"``), or ``"all"`` of them side by side, as the paper has it.
    target_total
        As in :func:`enhance_depth`; by default the totals of the cells.
    layer
        Layer that holds the counts; ``X`` by default.
    key_added
        Slot to write; it must be free, or written by this verb.

    Raises
    ------
    ValueError
        As :func:`enhance_depth`, and for an unknown `pooling`.

    Examples
    --------
    >>> import grnlab as gl
    >>> from grnlab.backbones import XTrimoGene, XTrimoGeneConfig
    >>> adata = gl.datasets.pbmc68k()[:20].copy()
    >>> config = XTrimoGeneConfig(n_layers=1, d_model=16, n_heads=2)
    >>> gl.tl.embed_at_depth(adata, XTrimoGene(gl.load_model().vocab, config), target_total=1e4)
    >>> adata.obsm["X_depth"].shape
    (20, 64)
    """
    _check_model(model)
    if pooling not in POOLINGS:
        msg = f"pooling={pooling!r} is unknown; choose one of {POOLINGS}."
        raise ValueError(msg)
    check_slots(adata, key_added, task="embed_at_depth", obsm=[key_added], argument="key_added")
    cells = open_cells(adata, model, layer=layer)
    targets = cells.totals if target_total is None else _targets(target_total, cells, adata)
    width = model.config.d_model * (4 if pooling == "all" else 1)
    found = np.empty((adata.n_obs, width), dtype=np.float32)
    for rows, tokens in _batches(cells, targets, every_gene=False):
        with torch.inference_mode():
            found[rows] = pool(model.encode(tokens.to(model.device)), pooling).float().cpu().numpy()
    adata.obsm[key_added] = found
    adata.uns[key_added] = {"provenance": _provenance(cells, targets, task="embed_at_depth", pooling=pooling)}


def gene_contexts(
    adata: ad.AnnData,
    model: XTrimoGene,
    genes: Collection[str],
    *,
    target_total: ArrayLike | None = None,
    layer: str | None = None,
) -> np.ndarray:
    """Embeddings of genes in the context of each cell, from the decoder, which is shown all genes of the data.

    Parameters
    ----------
    adata
        Counts.
    model
        An :class:`grnlab.backbones.XTrimoGene`.
    genes
        Symbols of the vocabulary of the model; in the data, too.
    target_total
        As in :func:`embed_at_depth`.
    layer
        Layer that holds the counts; ``X`` by default.

    Returns
    -------
    float32, shape (n_cells, n_genes, d_decoder), genes in the order given.

    Raises
    ------
    ValueError
        As :func:`enhance_depth`, and when the data lack a gene.

    Examples
    --------
    >>> import grnlab as gl
    >>> from grnlab.backbones import XTrimoGene, XTrimoGeneConfig
    >>> config = XTrimoGeneConfig(n_layers=1, d_model=16, n_heads=2, d_decoder=8)
    >>> model = XTrimoGene(gl.load_model().vocab, config)
    >>> gene_contexts(gl.datasets.pbmc68k()[:5], model, ["CD3D", "LYZ"]).shape
    (5, 2, 8)
    """
    _check_model(model)
    cells = open_cells(adata, model, layer=layer)
    targets = cells.totals if target_total is None else _targets(target_total, cells, adata)
    place = {symbol: number for number, symbol in enumerate(model.vocab.symbols[cells.tokens])}
    if missing := [gene for gene in genes if gene not in place]:
        msg = f"genes names {len(missing)} that the data or the vocabulary of the model lack, as {missing[:3]}."
        raise ValueError(msg)
    places = torch.tensor([place[gene] for gene in genes], dtype=torch.int64)
    found = np.empty((adata.n_obs, len(places), model.config.d_decoder), dtype=np.float32)
    for rows, tokens in _batches(cells, targets, every_gene=True):
        with torch.inference_mode():
            contexts_BTM = model.contexts(model.encode(tokens.to(model.device)))
        found[rows] = contexts_BTM[:, places.to(contexts_BTM.device)].float().cpu().numpy()
    return found


def _check_model(model: object) -> None:
    if not isinstance(model, XTrimoGene):
        name = getattr(model, "name", model)
        msg = f"model={name!r:.60} is told no total to predict at; train or load an XTrimoGene, see docs/xtrimogene.md."
        raise ValueError(msg)


def _targets(target_total: ArrayLike, cells: AlignedCells, adata: ad.AnnData) -> np.ndarray:
    """Total of each cell, checked."""
    try:
        targets = np.asarray(target_total, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"target_total={target_total!r:.60} must be a number, or one for each cell."
        raise ValueError(msg) from error
    if targets.ndim > 1 or (targets.ndim == 1 and len(targets) != len(cells)):
        msg = f"target_total has shape {targets.shape}; expected a number, or one for each of {len(cells)} cells."
        raise ValueError(msg)
    if not (np.isfinite(targets) & (targets > 0)).all():
        msg = f"target_total={targets.min()} must be above 0 and finite: it is a number of counts."
        raise ValueError(msg)
    targets = np.broadcast_to(targets, len(cells)).astype(np.float32)
    if (below := targets < cells.totals).any():
        first = int(below.argmax())
        msg = (
            f"target_total={targets[first]:g} is below the total {cells.totals[first]:g} of the cell "
            f"{adata.obs_names[first]!r} ({int(below.sum())} such cells): depth is enhanced, not reduced. Raise it to "
            f"{cells.totals.max():g}, or give np.maximum(target, totals)."
        )
        raise ValueError(msg)
    return targets


def _batches(cells: AlignedCells, targets: np.ndarray, *, every_gene: bool) -> Iterator[tuple[np.ndarray, DepthTokens]]:
    """Rows, and these cells with all genes of the data, or with those they express; like lengths together."""
    context, least = (shared_context, len(cells.tokens)) if every_gene else (expressed_context, 1)
    with progress(total=len(cells), desc="cells", unit="cell") as bar:
        for block in cells.blocks():
            counts = cells.read(block)
            for within in like_lengths(np.diff(counts.indptr), least=least, tokens=_TOKENS_PER_BATCH):
                rows = block.start + within
                shown = context(counts[within], cells.tokens, cells.totals[rows])
                targets_B = torch.from_numpy(targets[rows])
                yield (
                    rows,
                    DepthTokens(shown.genes_BT, shown.values_BT, shown.totals_B, shown.pad_BT, target_B=targets_B),
                )
                bar.update(len(within))


def _provenance(cells: AlignedCells, targets: np.ndarray, **settings: str) -> str:
    asked = {"target_total": [float(targets.min()), float(targets.max())]}
    return json.dumps(cells.provenance | settings | asked)
