"""Set up Lightning for a run and go through the steps that are left."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from grnlab.data import CellCollection
from grnlab.objectives import Objective
from grnlab.training.batches import CellStream, FixedBatches, no_collate
from grnlab.training.config import PretrainConfig
from grnlab.training.distributed import make_strategy
from grnlab.training.logs import make_loggers, quiet_lightning
from grnlab.training.loop import Loop
from grnlab.training.module import PretrainModule, Trainable
from grnlab.training.states import State


def fit(
    backbone: Trainable,
    objectives: Sequence[Objective],
    cells: CellCollection,
    split: tuple[np.ndarray, np.ndarray],
    config: PretrainConfig,
    *,
    run: Path | None,
    identity: dict[str, Any],
    state: State | None,
    loggers: Sequence[Any],
    bar: bool,
) -> tuple[L.Trainer, Loop]:
    """Train a backbone in place.

    Parameters
    ----------
    backbone, objectives, cells, config
        As in :func:`grnlab.training.pretrain`.
    split
        Cell numbers to train on and to validate on.
    run
        Folder of states and logs; None: there are none.
    identity
        What saved states belong to.
    state
        To go on from; its weights are in the backbone already.
    loggers
        Lightning loggers besides those of the config.
    bar
        Show a progress bar.

    Returns
    -------
    The trainer, and the loop, which knows how far the run came.
    """
    first_step = 0 if state is None else state.values["progress"]["step"]
    logs = [] if run is None else make_loggers(config.log, run / "logs", first_step=first_step)
    module = PretrainModule(
        backbone,
        objectives,
        lr=config.lr,
        weight_decay=config.weight_decay,
        seed=config.seed,
        at_once=config.cells_at_once,
    )
    with quiet_lightning(), _matmul_precision(config.matmul):
        trainer = L.Trainer(
            max_steps=config.max_steps - first_step,
            accelerator="auto",
            devices=config.devices,
            num_nodes=config.nodes,
            strategy=make_strategy(config),
            precision=config.precision,  # type: ignore[arg-type]
            gradient_clip_val=config.clip,
            accumulate_grad_batches=config.accumulate // config.world_size,
            logger=[*logs, *loggers],
            default_root_dir=run,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        stream, held_out = _batches(trainer, objectives, cells, split, config, first_step=first_step)
        loop = Loop(
            config, module.losses.names, stream=stream, held_out=_loader(held_out, config),
            n_held_out=held_out.n_batches, run=run, identity=identity, resumed=state, bar=bar,
        )  # fmt: skip
        if loop.progress.ended(config):  # it was stopped between its last step and the writing of the model
            loop.weights = None if state is None else state.part("model") | state.part("average")
            return trainer, loop
        trainer.callbacks.append(loop)  # type: ignore[attr-defined]
        try:
            trainer.fit(module, _loader(stream, config))
        except SystemExit as error:  # what Lightning makes of a second Ctrl-C
            raise KeyboardInterrupt from error
    return trainer, loop


def _batches(
    trainer: L.Trainer,
    objectives: Sequence[Objective],
    cells: CellCollection,
    split: tuple[np.ndarray, np.ndarray],
    config: PretrainConfig,
    *,
    first_step: int,
) -> tuple[CellStream, FixedBatches]:
    """Share of this process of the training and validation batches."""
    train_rows, val_rows = split
    options: dict[str, Any] = {
        "objectives": objectives,
        "batch_size": config.batch_size,
        "n_tokens": config.n_tokens,
        "rank": trainer.global_rank,
        "world_size": trainer.world_size,
    }
    weights = cells.sampling_weights(config.label)[train_rows]
    stream = CellStream(
        cells, train_rows, weights, seed=config.seed, first_step=first_step, accumulate=config.accumulate, **options
    )
    return stream, FixedBatches(cells, val_rows, seed=config.seed + 1, **options)


def _loader(batches: CellStream | FixedBatches, config: PretrainConfig) -> DataLoader[Any]:
    return DataLoader(
        batches,
        batch_size=None,
        collate_fn=no_collate,
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        worker_init_fn=_ignore_interrupts,
    )


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; a worker ends when its run does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
