"""Go on training a backbone, or start a small one, on the very cells whose network is wanted.

Self-supervised: no label and no gold standard takes part. What the weights learn is this data set alone, so an adapted
model is for these cells, not for others. Measured (``benchmarks/adapt.py``): a new model finds simulated networks that
no model has seen; a hundred steps of the built-in model on the cells of pbmc3k lowered its loss on held-out cells, but
its attention did not find more known edges. Score an adapted model beside the one it came from.
"""

import copy
import hashlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from grnlab._optional import require
from grnlab._provenance import versions
from grnlab.backbones import ModelConfig, ScPrintConfig, save_model
from grnlab.backbones.published.base import PublishedModel
from grnlab.backbones.registry import Pretrained, build_model
from grnlab.data import CellCollection
from grnlab.data.counts import counts_of, totals_of
from grnlab.data.names import align_genes
from grnlab.data.select import select_genes
from grnlab.genes import Alignment, GeneVocab
from grnlab.objectives import build_objectives, check_objectives
from grnlab.training.config import PretrainConfig
from grnlab.training.interrupt import Interrupted

logger = logging.getLogger(__name__)

_FEWEST_CELLS = 10
_LARGEST_BATCH = 1_024  # cells, where there are fewer in all
_UNTIL_THE_CLOCK = 1_000_000  # steps of a run that ends by its minutes


def adapt(
    adata: ad.AnnData,
    model: Pretrained | None = None,
    *,
    max_steps: int | None = None,
    max_minutes: float | None = None,
    genes: int | str | Collection[str] = 2_000,
    layer: str | None = None,
    objectives: tuple[str | Mapping[str, Any], ...] | None = None,
    lr: float | None = None,
    batch_size: int = 32,
    n_tokens: int = 384,
    tfs: Collection[str] = (),
    architecture: ModelConfig | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> Any:
    """Adapt a model to the cells at hand by self-supervised training; without a model, train a small one on them.

    Nothing but the counts is used. A tenth of the cells is held out for the validation losses in the provenance.

    Parameters
    ----------
    adata
        Counts. For measurements that are no counts see :func:`grnlab.pp.pseudo_counts`.
    model
        A backbone, which is left as it is; or None: a new small one that knows the genes of `adata` by their own names,
        for species or simulations no model has seen.
    max_steps, max_minutes
        The run ends at whichever comes first; by default after 1,000 steps, or 3,000 for a new model. With the same
        steps and `seed` the weights come out the same on one machine; minutes depend on its speed.
    genes
        Genes to train on, as in :func:`grnlab.tl.attention`: best the same ones whose network is wanted.
    layer
        Layer that holds the counts; ``X`` by default.
    objectives
        See :func:`grnlab.objectives.build_objectives`. By default ``model.objectives`` where it has such, else
        ``("mask", "mvc")``, or for a new model masking of half the genes alone, which on simulated networks makes its
        attention and Jacobian find more edges than masking less or the cell embedding beside it.
    lr
        Learning rate after a short warm-up, from where it falls to zero: 3e-4 by default, 3e-3 for a new model.
    batch_size, n_tokens
        Cells of a step, and genes shown of each.
    tfs
        For a new model: which genes are regulators; none are marked by default.
    architecture
        For a new model: a configuration of any registered architecture; by default scPRINT's, sized by the number
        of genes.
    seed
        Of new weights, sampling and corruption.
    out
        Checkpoint folder to write (must not exist).
    progress
        Show a progress bar.

    Returns
    -------
    A new model in evaluation mode, on the CPU. ``provenance["adapted"]`` says from which weights, on which cells (their
    number and hash), on which genes, with which losses.

    Raises
    ------
    ValueError
        When `adata` holds no counts or cells without any, its genes are unknown to the model, or an argument does not
        fit.
    FileExistsError
        When `out` exists: checked before anything is trained.
    RuntimeError
        When a loss is not finite.
    grnlab.training.Interrupted
        After Ctrl-C or SIGTERM; nothing is written.
    ImportError
        When Lightning is not installed.

    Examples
    --------
    >>> import grnlab as gl
    >>> data = gl.datasets.planted(n_cells=60)
    >>> model = gl.tl.adapt(data.adata, tfs=data.tfs, max_steps=2, progress=False)
    >>> model.provenance["adapted"]["n_cells"], model.provenance["adapted"]["from"]
    (60, 'random weights')
    """
    require("lightning", install="grnlab[train]", purpose="to adapt a model")
    from grnlab.training.fit import fit

    _check_arguments(model, out, tfs, architecture)
    counts = counts_of(adata, layer=layer)
    totals = totals_of(counts, adata.obs_names)
    if len(totals) < _FEWEST_CELLS:
        msg = f"adata has {len(totals)} cells; at least {_FEWEST_CELLS} are needed to train on."
        raise ValueError(msg)
    backbone, found, source = _start(model, adata, tfs=tfs, architecture=architecture, seed=seed)
    if getattr(backbone, "reads", "counts") != "counts":
        msg = f"{backbone.name!r} reads {backbone.reads}, not counts; train it with grnlab.tl.fit_responses."
        raise ValueError(msg)
    cells, report = _cells(counts, totals, found, backbone.vocab, genes)
    if max_steps is None:
        max_steps = _UNTIL_THE_CLOCK if max_minutes is not None else 3_000 if model is None else 1_000
    usual = ({"name": "mask", "rate": 0.5},) if model is None else ("mask", "mvc")
    tasks = getattr(backbone, "objectives", usual) if objectives is None else objectives
    if isinstance(batch_size, int) and batch_size > max(_LARGEST_BATCH, len(cells.totals)):
        msg = (
            f"batch_size={batch_size:,} is more than the {len(cells.totals):,} cells there are, and would take that "
            f"much memory; choose at most {max(_LARGEST_BATCH, len(cells.totals)):,}."
        )
        raise ValueError(msg)
    config = PretrainConfig(
        objectives=tasks,
        n_tokens=min(n_tokens, len(cells.available[0])),
        batch_size=batch_size,
        lr=lr if lr is not None else (3e-3 if model is None else 3e-4),
        weight_decay=0.0,  # genes outside these data keep their weights
        warmup=20,
        max_steps=max_steps,
        max_minutes=max_minutes,
        val_fraction=0.1,
        val_every=max(1, min(max_steps, 1_000) // 10),
        seed=seed,
        label="dataset",
    )
    losses = build_objectives(config.objectives)
    check_objectives(losses, backbone)
    split = cells.split(config.val_fraction, seed=seed)
    if model is None and hasattr(backbone, "fit_statistics"):
        backbone.fit_statistics(cells, split[0])
    with torch.random.fork_rng(devices=()):  # dropout seeds the global generator
        _, loop = fit(
            backbone.train(), losses, cells, split, config,
            run=None, identity={}, state=None, loggers=(), bar=progress,
        )  # fmt: skip
    if loop.interrupted:
        msg = f"adaptation was stopped after step {loop.progress.step}; nothing was saved."
        raise Interrupted(msg)
    backbone.eval().cpu()
    adapted = {
        "from": source,
        "n_cells": counts.shape[0],
        "cells_sha256": _hash(counts, adata),
        "genes": report,
        "settings": asdict(config),
        "steps": loop.progress.step,
        "cells_seen": loop.progress.step * config.cells_per_step,
        "minutes": round(loop.progress.minutes, 2),
        "loss_curve": loop.curve.rounded(),
        "versions": versions(),
    }
    backbone.provenance = {**backbone.provenance, "adapted": adapted}
    if out is not None:
        save_model(backbone, out, provenance=backbone.provenance)
    return backbone


def _check_arguments(
    model: Any, out: str | Path | None, tfs: Collection[str], architecture: ModelConfig | None
) -> None:
    if out is not None and Path(out).exists():
        msg = f"out={str(out)!r} exists already; choose another folder."
        raise FileExistsError(msg)
    if model is not None and (len(tfs) or architecture is not None):
        msg = "tfs and architecture belong to a new model; with model given, leave them out (or pass model=None)."
        raise ValueError(msg)
    if model is not None and not isinstance(model, torch.nn.Module):
        msg = f"model must be a backbone, see grnlab.load_model, or None; got {type(model).__name__}."
        raise ValueError(msg)
    if isinstance(model, PublishedModel) and not hasattr(model, "decode"):
        msg = f"{model.name!r} is a published model that is read without its decoder, so it cannot be trained here."
        raise ValueError(msg)


def _start(
    model: Any, adata: ad.AnnData, *, tfs: Collection[str], architecture: ModelConfig | None, seed: int
) -> tuple[Any, Alignment, str]:
    """Copy of the model, or a new one; where its vocabulary has the genes; where its weights come from."""
    if model is not None:
        backbone = copy.deepcopy(model)
        backbone.name = f"{model.name}, adapted"
        backbone.heads = {}  # head sets are of other weights
        backbone.weights_hash = ""
        return backbone, align_genes(adata, model.vocab), f"{model.name} {model.weights_hash}".strip()
    vocab = vocab_of(adata, tfs=tfs)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        backbone = build_model(vocab, architecture or small_architecture(len(vocab)), name="new, adapted")
    return backbone, align_genes(adata, vocab), "random weights"


def vocab_of(adata: ad.AnnData, *, tfs: Collection[str] = ()) -> GeneVocab:
    """Vocabulary of the genes of an AnnData under their own names.

    Parameters
    ----------
    adata
        Only ``var_names`` is read.
    tfs
        Which of them are regulators.

    Raises
    ------
    ValueError
        When a name occurs twice, or one of `tfs` does not occur.

    Examples
    --------
    >>> vocab_of(ad.AnnData(np.ones((2, 2)), var=pd.DataFrame(index=["G1", "G2"])), tfs=["G2"])
    GeneVocab(2 genes, 1 transcription factors, as named in the data)
    """
    names = adata.var_names.astype(str)
    if unknown := sorted(set(map(str, tfs)) - set(names)):
        msg = f"tfs names {len(unknown)} genes that adata does not have, for example {unknown[:3]}."
        raise ValueError(msg)
    if not names.is_unique:
        msg = (
            f"adata.var_names holds {list(names[names.duplicated()][:3])} more than once; each gene needs one column. "
            "Add the columns of a name up with gl.pp.sum_duplicate_genes(adata)."
        )
        raise ValueError(msg)
    table = {"symbol": names, "ensembl_id": "", "aliases": "", "position": np.arange(len(names))}
    return GeneVocab(pd.DataFrame(table | {"species": "as named in the data", "is_tf": names.isin(list(tfs))}))


def small_architecture(n_genes: int) -> ScPrintConfig:
    """Sizes of a model that learns a data set in minutes on a CPU, larger for more genes.

    One layer up to 200 genes: on simulated networks of that size its attention finds more edges than that of two.

    Parameters
    ----------
    n_genes
        Genes of the data set.
    """
    d_model = 48 if n_genes <= 200 else 64 if n_genes <= 5_000 else 128
    n_layers = 1 if n_genes <= 200 else 2
    return ScPrintConfig(
        n_layers=n_layers, d_model=d_model, n_heads=4, decoder="mse", positions=False, dropout=0.0, drop_path=0.0
    )


def _cells(
    counts: sp.csr_matrix, totals: np.ndarray, found: Alignment, vocab: GeneVocab, genes: int | str | Collection[str]
) -> tuple[CellCollection, dict[str, Any]]:
    """Cells over the vocabulary, of the chosen genes only; and what became of the genes."""
    if len(found.report.missing):
        logger.warning("genes unknown to the model take no part: %s", found.report)
    aligned = sp.csr_matrix(counts[:, found.columns])
    chosen = select_genes(aligned, vocab.symbols[found.tokens], vocab.is_tf[found.tokens], genes)
    tokens = found.tokens[chosen]
    cells = CellCollection.from_columns(aligned, chosen, tokens, n_vocab=len(vocab), name="adata", totals=totals)
    report = {"alignment": str(found.report), "n_genes": len(tokens), "unknown": found.report.missing[:50]}
    return cells, report


def _hash(counts: sp.csr_matrix, adata: ad.AnnData) -> str:
    """SHA-256 of the counts and of the names of cells and genes."""
    counts = counts.copy()
    counts.sort_indices()
    digest = hashlib.sha256()
    for part in (counts.indptr.astype(np.int64), counts.indices.astype(np.int64), counts.data.astype(np.float32)):
        digest.update(np.ascontiguousarray(part).tobytes())
    for names in (adata.obs_names, adata.var_names):
        digest.update("\0".join(map(str, names)).encode())
    return digest.hexdigest()
