"""Score pairs of genes by one of several read-outs of a model, streaming over cells."""

import zlib
from collections.abc import Collection
from dataclasses import asdict

import anndata as ad
import numpy as np
import pandas as pd

from grnlab._progress import progress
from grnlab._provenance import versions
from grnlab.attention.config import ReadOutConfig
from grnlab.attention.group_scores import GroupCells, Pairs, score_group
from grnlab.attention.pair_scores import PairScores
from grnlab.attention.pool import CONTEXTS
from grnlab.attention.prepare import check_backbone, expressed_enough, prepare_cells
from grnlab.backbones.base import Backbone

READOUTS = {
    "attention": "attention of mean queries and keys, mean over heads, symmetrised",
    "attention_directed": "the same, not symmetrised: what the target listens to",
    "attention_apc": "the same, symmetrised, with average product correction",
    "attention_cells": "true mean over cells of each cell's attention, symmetrised",
    "value_norm": "attention times the norm of the projected value, mean over heads, layers and cells",
    "attention_gradient": "positive part of attention times the gradient of the likelihood of hidden counts",
    "integrated_gradients": "integrated gradients of the prediction of a hidden target by the counts of others; signed",
    "jacobian": "derivative of the prediction of a hidden target by the count of a regulator; signed",
    "perturbation": "slope of the prediction of a hidden target as a regulator is set to several counts; signed",
    "cosine": "cosine of the gene embeddings: no cell is read",
    "cosine_centred": "the same without what a gene shares with all: embeddings of length 1, less their mean",
    "consensus": "mean rank of attention and cosine_centred",
}
"""Name of each read-out → what it is."""

SIGNED = ("integrated_gradients", "jacobian", "perturbation")
_NEEDS = {  # beyond the protocol of a backbone: the attributes, and what they are for
    "value_norm": (("output_projections",), "gives the output projections of its attention"),
    "attention_gradient": (("decode",), "predicts counts"),
    "integrated_gradients": (("decode",), "predicts counts"),
    "jacobian": (("decode",), "predicts counts"),
    "perturbation": (("decode",), "predicts counts"),
    **dict.fromkeys(("cosine", "cosine_centred", "consensus"), (("gene_embedding",), "has one embedding per gene")),
}


def read_out(
    adata: ad.AnnData,
    model: Backbone,
    method: str = "attention",
    *,
    groupby: str | None = None,
    genes: int | str | Collection[str] = 2_000,
    regulators: str | Collection[str] = "tf",
    targets: str | Collection[str] = "all",
    layer: str | None = None,
    context: str = "expressed",
    max_cells: int | None = 200,
    min_fraction: float = 0.02,
    min_cells: int = 5,
    skip_small: bool = False,
    seed: int = 0,
    config: ReadOutConfig | None = None,
) -> PairScores:
    """Score every pair (regulator, target) of each group of cells by one read-out of a model.

    A prediction is no cause: which of two genes is the regulator, a model tells poorly, and the mean of both directions
    finds more true edges. The attentions but ``"attention_directed"``, the cosines and ``"consensus"`` are the same in
    both directions; for the others read out with ``regulators="all"``, then
    ``scores.symmetrised().on(factors, targets=genes)``.

    Parameters
    ----------
    adata
        Counts. Genes are matched to the model by name; their order has no effect.
    model
        A backbone, see :func:`grnlab.load_model`.
    method
        One of ``grnlab.attention.READOUTS``. Forwards per cell: 1 for ``"attention…"`` and ``"value_norm"``; a forward
        and a backward per mask for ``"attention_gradient"``; 2 per visible regulator and mask for ``"jacobian"``; one
        per level, visible regulator and mask for ``"perturbation"``; `n_steps` forwards and backwards per hidden target
        for ``"integrated_gradients"``.
    groupby, genes, layer, context, min_cells, skip_small
        As in :func:`grnlab.tl.attention`.
    regulators, targets
        ``"tf"``, the transcription factors of the vocabulary; ``"all"``; or gene names.
    max_cells
        Cells read per group, drawn at random; None for all.
    min_fraction
        Genes expressed in a smaller share of a group's cells, or in fewer than five of them, are not scored there: NaN.
    seed
        Of the choice of cells and of hidden genes. A group's result does not depend on the other groups.
    config
        Settings of the read-out, see :class:`grnlab.attention.ReadOutConfig`.

    Returns
    -------
    Scores, a pair being the mean over the cells that show it. Memory is O(groups · regulators · targets) beyond the
    counts and one cell.

    Raises
    ------
    ValueError
        When the model cannot serve the method (the message says why, and which can), names are unknown, or as
        :func:`grnlab.tl.attention`.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40]
    >>> gl.tl.read_out(adata, gl.load_model("grnlab-small"), "value_norm", genes=50, max_cells=10)
    PairScores('value_norm': 25 regulators × 50 targets; all (10 cells))
    """
    config = config or ReadOutConfig()
    _check_model(model, method)
    if context not in CONTEXTS:
        msg = f"context={context!r} is unknown; choose one of {CONTEXTS}."
        raise ValueError(msg)
    if max_cells is not None and (not isinstance(max_cells, int | np.integer) or max_cells < 1):
        msg = f"max_cells={max_cells!r} must be a whole number of at least 1, or None for all cells."
        raise ValueError(msg)
    if not isinstance(seed, int | np.integer) or seed < 0:
        msg = f"seed={seed!r} must be a whole number of at least 0."
        raise ValueError(msg)
    if not 0 <= min_fraction <= 1:
        msg = f"min_fraction={min_fraction} must lie between 0 and 1."
        raise ValueError(msg)
    cells = prepare_cells(
        adata, model, groupby=groupby, genes=genes, layer=layer, min_cells=min_cells, skip_small=skip_small
    )
    asked = cells.genes.iloc[cells.chosen]
    sources, ends = _rows(asked, regulators, "regulators"), _rows(asked, targets, "targets")
    pairs = Pairs(cells.chosen[sources], cells.chosen[ends])
    is_asked = np.isin(np.arange(len(cells.genes)), cells.chosen)
    expression, scores = cells.expression(), {}
    chosen = {name: _sample(rows, max_cells, seed, name) for name, rows in cells.groups.items()}
    with progress(total=sum(map(len, chosen.values())), desc=method, unit="cell") as bar:
        for name, rows in chosen.items():
            bar.set_postfix_str(name)
            enough = is_asked & expressed_enough(expression[name], len(cells.groups[name]), min_fraction)
            group = GroupCells(model, cells, name, rows, enough, context=context, seed=seed, on_cells=bar.update)
            scores[name] = score_group(group, pairs, method, config)
    provenance = cells.provenance | {
        "readout": method,
        "context": context,
        "cells_read": {name: len(rows) for name, rows in chosen.items()},
        "min_fraction": min_fraction,
        "seed": seed,
        "config": asdict(config),
        "direction": "source=regulator=key, target=query",
        "versions": versions(),
    }
    return PairScores(
        asked,
        sources,
        ends,
        scores,
        {name: len(rows) for name, rows in chosen.items()},
        method=method,
        signed=method in SIGNED,
        provenance=provenance,
        expression={name: table.iloc[cells.chosen] for name, table in expression.items()},
    )


def _sample(rows: np.ndarray, max_cells: int | None, seed: int, name: str) -> np.ndarray:
    if max_cells is None or len(rows) <= max_cells:
        return rows
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return np.sort(rng.choice(rows, max_cells, replace=False))


def _rows(genes: pd.DataFrame, wanted: str | Collection[str], argument: str) -> np.ndarray:
    if not isinstance(wanted, str):
        if not len(wanted):
            msg = f"{argument} is empty; give gene names, 'tf' or 'all'."
            raise ValueError(msg)
        rows = genes.index.get_indexer(pd.Index(list(dict.fromkeys(wanted)), dtype=object))
        if (rows < 0).any():
            unknown = [name for name, row in zip(dict.fromkeys(wanted), rows, strict=True) if row < 0]
            msg = f"{argument} holds {len(unknown)} names that are not among the genes shown: {unknown[:3]}."
            raise ValueError(msg)
        return np.sort(rows)
    if wanted == "all":
        return np.arange(len(genes))
    if wanted != "tf":
        msg = f"{argument}={wanted!r} is unknown; choose 'tf' or 'all', or give gene names in a list."
        raise ValueError(msg)
    rows = np.flatnonzero(genes["is_tf"].to_numpy(dtype=bool))
    if len(rows) == 0:
        msg = f"{argument}='tf', but none of the genes shown is a known transcription factor; give names, or 'all'."
        raise ValueError(msg)
    return rows


def _check_model(model: Backbone, method: str) -> None:
    if method not in READOUTS:
        msg = f"method={method!r} is unknown; choose one of {list(READOUTS)}."
        raise ValueError(msg)
    check_backbone(model)
    if getattr(model, "training", False):
        msg = f"{model.name} is in training mode, in which dropout makes its output random; call model.eval() first."
        raise ValueError(msg)
    able = [name for name in READOUTS if not _lacks(model, name)]
    if method not in able:
        lacks, does = _lacks(model, method), _NEEDS[method][1]
        msg = f"method={method!r} needs a model that {does}; {model.name!r} has no {lacks}. It can serve {able}."
        raise ValueError(msg)


def _lacks(model: Backbone, method: str) -> str:
    """What the model has not got, in words; empty when it can serve the method."""
    if method == "attention_gradient" and not getattr(model, "maps_of_hidden", True):
        return "maps that its predictions of hidden genes flow through"
    return " and ".join(name for name in _NEEDS.get(method, ((), ""))[0] if not hasattr(model, name))
