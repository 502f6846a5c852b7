"""Pretrain a backbone on a collection of cells."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grnlab._optional import require
from grnlab._provenance import versions
from grnlab.backbones import ScPrint, ScPrintConfig, save_model
from grnlab.data import CellCollection
from grnlab.genes import GeneVocab
from grnlab.objectives import build_objectives
from grnlab.training.gene_vectors import coexpression_vectors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of a pretraining run.

    Attributes
    ----------
    objectives
        Names or mappings, see :func:`grnlab.objectives.build_objectives`.
    n_tokens, batch_size
        Genes per cell and cells per step.
    lr, weight_decay, warmup, clip
        AdamW, warm-up steps and the norm at which gradients are clipped.
    max_steps, max_minutes
        The run ends at whichever comes first.
    val_fraction, val_every
        Share of the cells held out, and steps between validations.
    gene_vectors
        Start of the gene embeddings: ``"random"``, or ``"coexpression"`` (of the training cells).
    precision
        Lightning's, for example ``"32-true"`` or ``"bf16-mixed"``.
    seed
        Of weights, sampling and corruption.
    """

    objectives: tuple[str | Mapping[str, Any], ...] = ("denoise", "mask", "mvc")
    n_tokens: int = 512
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 200
    clip: float = 1.0
    max_steps: int = 5_000
    max_minutes: float | None = None
    val_fraction: float = 0.02
    val_every: int = 500
    gene_vectors: str = "random"
    precision: str = "32-true"
    seed: int = 0
    label: str = field(default="cell_type", metadata={"doc": "class whose counts weigh the sampling"})


def pretrain(
    vocab: GeneVocab,
    cells: CellCollection,
    *,
    model: ScPrintConfig | None = None,
    config: PretrainConfig | None = None,
    name: str = "model",
    out: str | Path | None = None,
    progress: bool = True,
) -> ScPrint:
    """Train a new backbone.

    Parameters
    ----------
    vocab, cells
        Genes and cells.
    model, config
        Architecture and settings of the run.
    name
        Name of the model.
    out
        Checkpoint folder to write (must not exist); with None nothing is written.
    progress
        Show a progress bar.

    Returns
    -------
    The trained model in evaluation mode; ``provenance`` holds data, settings and loss curve.

    Raises
    ------
    FileExistsError
        When `out` exists: checked before anything is trained.
    ImportError
        When Lightning is not installed.
    """
    if config is not None and (config.max_steps < 1 or (config.max_minutes is not None and config.max_minutes <= 0)):
        msg = f"max_steps={config.max_steps} and max_minutes={config.max_minutes} must be above 0."
        raise ValueError(msg)
    require("lightning", install="grnlab[train]", purpose="to pretrain a model")
    if out is not None and Path(out).exists():
        msg = f"out={str(out)!r} exists already; choose another folder."
        raise FileExistsError(msg)
    config = config or PretrainConfig()
    torch.manual_seed(config.seed)
    backbone = ScPrint(vocab, model, name=name)
    train_rows, val_rows = cells.split(config.val_fraction, seed=config.seed)
    if config.gene_vectors == "coexpression":
        vectors = coexpression_vectors(cells.counts[train_rows], backbone.config.d_model, seed=config.seed)
        with torch.no_grad():
            backbone.gene_embedding.weight.copy_(torch.from_numpy(vectors))
    elif config.gene_vectors != "random":
        msg = f"gene_vectors={config.gene_vectors!r} is unknown; choose 'random' or 'coexpression'."
        raise ValueError(msg)
    started = time.monotonic()
    curve, cells_seen, steps = _fit(backbone, cells, train_rows, val_rows, config, progress=progress)
    backbone.eval().cpu()
    backbone.provenance = {
        "data": {
            "datasets": {name: int((cells.datasets == number).sum()) for number, name in enumerate(cells.names)},
            "n_cells_train": len(train_rows),
            "n_cells_validation": len(val_rows),
        },
        "settings": asdict(config),
        "cells_seen": cells_seen,
        "steps": steps,
        "minutes": round((time.monotonic() - started) / 60, 2),
        "hardware": f"CPU, threads: {torch.get_num_threads()}" if not torch.cuda.is_available() else "CUDA device",
        "loss_curve": curve,
        "versions": versions(),
    }
    if out is not None:
        save_model(backbone, out, provenance=backbone.provenance, half=True)
        logger.info("wrote %s", out)
    return backbone


def _fit(
    backbone: ScPrint,
    cells: CellCollection,
    train_rows: np.ndarray,
    val_rows: np.ndarray,
    config: PretrainConfig,
    *,
    progress: bool,
) -> tuple[list[dict[str, float]], int, int]:
    import lightning as L
    from torch.utils.data import DataLoader

    from grnlab.training.batches import CellStream, FixedBatches, no_collate
    from grnlab.training.curve import LossCurve
    from grnlab.training.module import PretrainModule

    module = PretrainModule(
        backbone,
        build_objectives(config.objectives),
        lr=config.lr,
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        max_steps=config.max_steps,
        max_minutes=config.max_minutes,
        seed=config.seed,
    )
    weights = cells.sampling_weights(config.label)[train_rows]
    sizes = {"batch_size": config.batch_size, "n_tokens": config.n_tokens, "seed": config.seed}
    stream = DataLoader(CellStream(cells, train_rows, weights, **sizes), batch_size=None, collate_fn=no_collate)
    held_out = DataLoader(FixedBatches(cells, val_rows, **sizes), batch_size=None, collate_fn=no_collate)
    curve = LossCurve()
    trainer = L.Trainer(
        max_steps=config.max_steps,
        precision=config.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.clip,
        val_check_interval=min(config.val_every, config.max_steps),
        check_val_every_n_epoch=None,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        callbacks=[curve],
        accelerator="auto",
        devices=1,
    )
    trainer.fit(module, stream, held_out)
    return curve.points, module.cells_seen, trainer.global_step
