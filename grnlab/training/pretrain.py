"""Pretrain a backbone on a collection of cells."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grnlab._optional import require
from grnlab._provenance import versions
from grnlab.backbones import ScPrintConfig, save_model
from grnlab.backbones.registry import architecture_of, build_model
from grnlab.data import CellCollection
from grnlab.evaluate import read_gold
from grnlab.genes import GeneVocab
from grnlab.objectives import build_objectives, check_objectives
from grnlab.training.config import PretrainConfig
from grnlab.training.gene_vectors import coexpression_vectors
from grnlab.training.graph_vectors import graph_vectors
from grnlab.training.identity import cells_of, differences, run_identity
from grnlab.training.interrupt import Interrupted
from grnlab.training.states import State, StateFolder

logger = logging.getLogger(__name__)

_CELLS_FOR_VECTORS = 50_000  # co-expression of so many cells hardly changes with more, and they fit into memory


def pretrain(
    vocab: GeneVocab,
    cells: CellCollection,
    *,
    model: Any = None,
    config: PretrainConfig | None = None,
    name: str = "model",
    out: str | Path | None = None,
    resume: bool = False,
    split: tuple[np.ndarray, np.ndarray] | None = None,
    loggers: Sequence[Any] = (),
    progress: bool = True,
) -> Any:
    """Train a new backbone.

    While it runs, ``<out>.run/`` holds ``state/`` (the last two states, see :mod:`grnlab.training.states`), ``logs/``
    and, after a loss that is not finite, the batch. A run that ends with all its steps writes `out` and removes the
    states. Ctrl-C and SIGTERM save the state after the step at hand.

    Started by ``torchrun`` with ``config.devices`` and ``config.nodes`` to match, or as a script that Lightning starts
    again for each process, it trains in several processes.

    Parameters
    ----------
    vocab, cells
        Genes and cells.
    model
        Configuration of the architecture, for example :class:`grnlab.backbones.ScPrintConfig`.
    config
        Settings of the run.
    name
        Name of the model.
    out
        Checkpoint folder to write (must not exist); with None nothing is written.
    resume
        Go on from the last state of a run that was stopped. Batches, corruptions, moments, averages, schedule and curve
        are those of a run that was never stopped; with ``max_minutes`` the time a step takes has its influence.
    split
        Cell numbers to train on and to validate on; by default ``cells.split(config.val_fraction, seed=config.seed)``.
    loggers
        Further Lightning loggers.
    progress
        Show a progress bar.

    Returns
    -------
    The trained model in evaluation mode; ``provenance`` holds data, settings and loss curve.

    Raises
    ------
    FileExistsError
        When `out` exists, or an unfinished run stands beside it and `resume` is False: checked before anything is
        trained.
    FileNotFoundError
        When there is nothing to resume.
    ValueError
        When the run to resume had other settings, architecture, genes or cells; the message names what differs.
    RuntimeError
        When a loss is not finite; the message names step, objective and batch.
    grnlab.training.Interrupted
        After Ctrl-C or SIGTERM.
    ImportError
        When Lightning is not installed.
    """
    require("lightning", install="grnlab[train]", purpose="to pretrain a model")
    from grnlab.training.fit import fit

    config = config or PretrainConfig()
    run = None if out is None else Path(out).with_name(Path(out).name + ".run")
    check_folders(out, run, resume=resume)
    objectives = build_objectives(config.objectives)
    torch.manual_seed(config.seed)
    backbone = build_model(vocab, model or ScPrintConfig(), name=name)
    check_objectives(objectives, backbone)
    train_rows, val_rows = split or cells.split(config.val_fraction, seed=config.seed)
    described = {"architecture": architecture_of(backbone), **backbone.config.to_dict()}
    identity = run_identity(config, described, vocab, cells, (train_rows, val_rows))
    state = _state_to_resume(run, identity) if resume and run is not None else None
    if state is None:
        _start_gene_vectors(backbone, cells, train_rows, config)
        if hasattr(backbone, "fit_statistics"):
            backbone.fit_statistics(cells, train_rows)
    else:
        backbone.load_state_dict(state.part("model"))
    trainer, loop = fit(
        backbone, objectives, cells, (train_rows, val_rows), config,
        run=run, identity=identity, state=state, loggers=loggers, bar=progress,
    )  # fmt: skip
    if loop.interrupted:
        raise Interrupted(_how_to_go_on(run, loop.progress.step))
    if loop.weights is not None:  # the weights of `backbone` itself are spread over processes, or not the averages
        backbone = build_model(vocab, backbone.config, name=name)
        backbone.load_state_dict(loop.weights)
    backbone.eval().cpu()
    backbone.provenance = {
        "data": {
            "datasets": cells_of(cells),
            "n_cells_train": len(train_rows),
            "n_cells_validation": len(val_rows),
        },
        "settings": asdict(config),
        "cells_seen": loop.progress.step * config.cells_per_step,
        "steps": loop.progress.step,
        "minutes": round(loop.progress.minutes, 2),
        "hardware": _hardware(config),
        "loss_curve": loop.curve.rounded(),
        "versions": versions(),
    }
    if out is not None and run is not None and trainer.is_global_zero:
        save_model(backbone, out, provenance=backbone.provenance, half=True)
        StateFolder(run / "state").clear()
        logger.info("wrote %s", out)
    trainer.strategy.barrier()  # whoever goes on finds the model written
    return backbone


def check_folders(out: str | Path | None, run: Path | None, *, resume: bool) -> None:
    """Refuse folders that a run must not or cannot go on with; errors as in :func:`pretrain`."""
    if out is None or run is None:
        if resume:
            msg = "resume=True needs out, the folder the run was to write."
            raise ValueError(msg)
        return
    if Path(out).exists():
        msg = (
            f"out={str(out)!r} holds a finished model: nothing to resume. Load it with grnlab.load_model."
            if resume
            else f"out={str(out)!r} exists already; choose another folder."
        )
        raise FileExistsError(msg)
    if resume and not run.is_dir():
        msg = f"there is no run to resume: {run} does not exist. Start it without resume."
        raise FileNotFoundError(msg)
    if not resume and (steps := StateFolder(run / "state").steps()):
        msg = (
            f"{run} holds a run that stopped after step {steps[-1]}; pass resume=True (--resume) to go on with it, or "
            "remove that folder."
        )
        raise FileExistsError(msg)


def _state_to_resume(run: Path, identity: dict[str, Any]) -> State | None:
    state = StateFolder(run / "state").latest()
    if state is None:
        logger.warning("%s holds no state yet; the run starts from the beginning", run)
        return None
    if changed := differences(state.values["identity"], identity):
        msg = f"{state.path} belongs to another run; resume with what it was started with. {'; '.join(changed)}."
        raise ValueError(msg)
    logger.info("resuming after step %d", state.values["progress"]["step"])
    return state


def _hardware(config: PretrainConfig) -> str:
    one = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, threads: {torch.get_num_threads()}"
    return one if config.world_size == 1 else f"{config.world_size} processes, each {one}"


def _how_to_go_on(run: Path | None, step: int) -> str:
    if run is None:
        return f"stopped after step {step}; nothing was saved, for want of a folder (out)."
    return f"stopped after step {step}; the state is in {run}. Go on with resume=True (--resume)."


def _start_gene_vectors(backbone: Any, cells: CellCollection, train_rows: np.ndarray, config: PretrainConfig) -> None:
    start = config.gene_vectors
    if start == "random":
        return
    if not hasattr(backbone, "gene_embedding"):
        msg = f"gene_vectors={start!r} needs a gene_embedding; {type(backbone).__name__} has none, use 'random'."
        raise ValueError(msg)
    if len(train_rows) > _CELLS_FOR_VECTORS:
        chosen = np.random.default_rng(config.seed).choice(train_rows, _CELLS_FOR_VECTORS, replace=False)
        train_rows = np.sort(chosen)
    graph = None if start == "coexpression" else read_gold(start)
    vectors = coexpression_vectors(cells.counts[train_rows], backbone.config.d_model, seed=config.seed)
    if graph is not None:
        vectors = graph_vectors(graph, backbone.vocab, backbone.config.d_model, features=vectors, seed=config.seed)
    with torch.no_grad():
        backbone.gene_embedding.weight.copy_(torch.from_numpy(vectors))
