"""States of a run on disk, from which it can go on: tensors as safetensors, the rest as JSON, no pickle.

``<run>/state/step-000001500/`` holds ``tensors.safetensors`` (weights ``model/…``, moments ``optimizer/…``, averaged
weights ``average/…``; whole tensors, however the run shards them) and ``state.json``.
"""

import errno
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grnlab._files import atomic_directory, to_disk
from grnlab._reading import read_json
from grnlab.training.averaging import WeightAverage
from grnlab.training.distributed import like, whole

if TYPE_CHECKING:
    import lightning as L

    from grnlab.training.module import PretrainModule

logger = logging.getLogger(__name__)

FORMAT = 1
_TENSORS, _VALUES = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class State:
    """A state that was read.

    Attributes
    ----------
    path
        Its folder.
    tensors
        Name → tensor, on the CPU.
    values
        Plain values.
    """

    path: Path
    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Tensors of a part, for example ``"model"``, by their names in it."""
        return {
            key.removeprefix(f"{name}/"): x.clone() for key, x in self.tensors.items() if key.startswith(f"{name}/")
        }


class StateFolder:
    """The last states of a run. A state gets its name only when all of it is on disk, so a state with a name is whole.

    Parameters
    ----------
    path
        Folder of the states; made when the first is saved.
    keep
        How many states stay.
    """

    def __init__(self, path: str | Path, *, keep: int = 2) -> None:
        self.path, self.keep = Path(path), keep

    def steps(self) -> list[int]:
        """Steps of the states that are there, increasing."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.path.glob("step-*") if path.is_dir())

    def save(self, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> Path:
        """Save a state, then remove those that are older than the last `keep`.

        Raises
        ------
        OSError
            When it cannot be written, for example because the disk is full; earlier states are as they were.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        path = self._path(step)
        for left in self.path.glob(".step-*"):  # of a process that was killed while it saved
            shutil.rmtree(left, ignore_errors=True)
        try:
            with atomic_directory(path, overwrite=True) as folder:
                save_file(dict(tensors), folder / _TENSORS)
                text = json.dumps({"format": FORMAT, **values}, indent=1, allow_nan=False)
                (folder / _VALUES).write_text(text + "\n", encoding="utf-8")
                for name in (_TENSORS, _VALUES):
                    to_disk(folder / name)
                to_disk(folder)
        except SafetensorError as error:  # what the library makes of an error of the file system
            raise OSError(errno.EIO, str(error), str(path)) from error
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self._path(old), ignore_errors=True)
        return path

    def latest(self) -> State | None:
        """Read the last state that can be read; None when there is none.

        Raises
        ------
        ValueError
            When there are states and none can be read.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        steps = self.steps()
        for step in reversed(steps):
            path = self._path(step)
            try:
                values = dict(read_json(path / _VALUES))
                if values.pop("format", None) != FORMAT:
                    msg = f"this version reads states of format {FORMAT}"
                    raise ValueError(msg)
                return State(path, load_file(path / _TENSORS), values)
            except (OSError, SafetensorError, TypeError, ValueError) as error:
                logger.warning("the state %s cannot be read (%s)", path, error)
        if steps:
            msg = f"no state in {self.path} can be read; restore a folder step-… or start the run anew."
            raise ValueError(msg)
        return None

    def clear(self) -> None:
        """Remove all states."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _path(self, step: int) -> Path:
        return self.path / f"step-{step:09d}"


def capture(
    trainer: "L.Trainer", module: "PretrainModule", average: WeightAverage | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a run and the state of its loss scaler; all processes must call it, the first gets the tensors."""
    optimizer, model = trainer.optimizers[0], module.losses.model
    found = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    for name, weight in model.named_parameters():
        found |= {f"optimizer/{name}/{key}": value for key, value in optimizer.state.get(weight, {}).items()}
    if average is not None:
        found |= {f"average/{name}": tensor for name, tensor in average.averages.items()}
    tensors: dict[str, Tensor] = {}
    for name, tensor in found.items():
        full = whole(tensor)
        if trainer.is_global_zero:
            tensors[name] = full
    places = [tensor.data_ptr() for tensor in tensors.values()]
    shared = {name for name, place in zip(tensors, places, strict=True) if places.count(place) > 1}  # tied weights
    return tensors | {name: tensors[name].clone() for name in shared}, trainer.precision_plugin.state_dict()


@torch.no_grad()
def restore(state: State, trainer: "L.Trainer", module: "PretrainModule", average: WeightAverage | None) -> None:
    """Put back what :func:`capture` took, but for the weights: those are loaded before the model is distributed."""
    optimizer = trainer.optimizers[0]
    for name, weight in module.losses.model.named_parameters():
        if moments := state.part(f"optimizer/{name}"):
            optimizer.state[weight] = {key: x if x.ndim == 0 else like(x, weight) for key, x in moments.items()}
    if average is not None:
        for name, value in state.part("average").items():
            average.averages[name].copy_(like(value, average.averages[name]))
    trainer.precision_plugin.load_state_dict(state.values["scaler"])
