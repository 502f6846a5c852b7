"""What is left of a batch whose loss is not finite: a file with its cells, and an error that names all there is."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grnlab._files import atomic_file
from grnlab.data import CellTokens
from grnlab.training.batches import Batch, CellStream
from grnlab.training.config import PretrainConfig


def bad_loss_error(
    bad: tuple[int, np.ndarray] | None,
    names: Sequence[str],
    *,
    stream: CellStream,
    config: PretrainConfig,
    run: Path | None,
    saved_step: int,
) -> RuntimeError:
    """Save the batch and make the error.

    Parameters
    ----------
    bad
        Number and losses of the batch; None when another process has it.
    names
        Names of the objectives.
    stream
        Where to draw the batch again.
    config
        Settings.
    run
        Folder to save in; None: nowhere.
    saved_step
        Step of the last state.
    """
    if bad is None:
        return RuntimeError("another training process met a loss that is not finite; its error names the batch.")
    number, losses = bad
    found = dict(zip(names, losses.tolist(), strict=True))
    culprits = [name for name, value in found.items() if not np.isfinite(value)]
    [batch] = stream.draw(number)
    datasets = sorted({stream.cells.names[number] for number in stream.cells.datasets[batch.rows]})
    where = "Its cells were not saved, for want of a folder (out)."
    if run is not None:
        where = f"Its cells are in {save_batch(batch, run / f'bad_batch_{number}.safetensors', datasets)}."
    msg = (
        f"the loss of {', '.join(culprits)} is not finite at step {number // config.accumulate}, batch {number}: "
        f"{found}. {where} They come from {', '.join(datasets)}. A lower lr or clip, or another precision, may help"
        + (f"; the state of step {saved_step} is kept." if run is not None and saved_step else ".")
    )
    return RuntimeError(msg)


def save_batch(batch: Batch, path: Path, datasets: Sequence[str]) -> Path:
    """Write the cells of a batch, before (``target.…``) and after (``seen.…``) the corruptions, with their numbers."""
    from safetensors.torch import save

    tensors = {"rows": torch.as_tensor(batch.rows)} | _tensors("target", batch.target) | _tensors("seen", batch.seen)
    metadata = {"number": str(batch.number), "datasets": json.dumps(list(datasets))}
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_bytes(save({name: tensor.clone() for name, tensor in tensors.items()}, metadata))
    return path


def _tensors(prefix: str, tokens: CellTokens) -> dict[str, Tensor]:
    values = {field.name: getattr(tokens, field.name) for field in fields(tokens)}
    values |= {f"labels.{name}": codes for name, codes in tokens.labels.items()}
    return {f"{prefix}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
