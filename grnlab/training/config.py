"""Settings of a pretraining run."""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEDULES = ("linear", "plateau", "constant")
STRATEGIES = ("auto", "ddp", "fsdp")
LOGS = ("csv", "tensorboard")
GENE_VECTORS = ("random", "coexpression")


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of a pretraining run.

    One optimizer step reads ``batch_size · accumulate`` cells, whatever the number of processes: they share the
    `accumulate` batches of a step, and its loss is the mean of the losses of these batches.

    Attributes
    ----------
    objectives
        Names or mappings, see :func:`grnlab.objectives.build_objectives`.
    n_tokens, batch_size
        Genes per cell, and cells that one process reads at a time.
    accumulate
        Batches per step, over all processes; a multiple of ``devices · nodes``.
    cells_at_once
        Cells of a batch whose activations are held at a time, at the price of one more forward pass (see
        :mod:`grnlab.objectives.divide`); the losses of these parts are averaged, those across cells are of the whole
        batch. None: all.
    lr, weight_decay, warmup
        AdamW, and the steps over which the learning rate rises to `lr`.
    schedule
        After that, ``"linear"``: to zero at the end of the run, by steps or minutes, whichever is further;
        ``"plateau"``: times `plateau_factor` whenever `plateau_patience` validations in a row were not better than the
        best; ``"constant"``.
    clip
        Norm at which gradients are clipped; None leaves them.
    average
        Decay of an exponential moving average of the weights, for example 0.999 (less in the first steps: at step t at
        most (1 + t) / (10 + t)). Validation and the finished model use the average, training goes on from the weights
        themselves; a run that is resumed has kept both. None: no average.
    early_stop
        The run ends after so many validations in a row that were not better than the best; None: never.
    max_steps, max_minutes
        The run ends at whichever comes first. The minutes of a resumed run count from its first start; time between
        does not.
    val_fraction, val_every
        Share of the cells held out, and steps between validations.
    gene_vectors
        Start of the gene embeddings: ``"random"``; ``"coexpression"`` (of the training cells); or a file of
        interactions, for example ``"networks/mine.csv"``: the same, hidden and predicted from the neighbours in this
        graph, see :func:`grnlab.training.graph_vectors.graph_vectors`. What overlaps with the graph is no test of the
        model then.
    precision
        Lightning's: ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``.
    matmul
        Of float32 matrix products, see :func:`torch.set_float32_matmul_precision`: ``"highest"``; ``"high"``, TF32 on
        CUDA; ``"medium"``, bfloat16 inside, also on CPUs.
    seed
        Of weights, sampling, corruption and dropout.
    label
        Labels whose combinations weigh the sampling, see :meth:`grnlab.data.CellCollection.sampling_weights`.
    devices, nodes
        Processes per machine (one per GPU), and machines.
    strategy
        ``"ddp"``: every process holds the model; ``"fsdp"``: each holds a part (Lightning's ModelParallelStrategy);
        ``"auto"``: the first, where there is more than one process.
    workers
        Processes that prepare batches, per training process; 0 prepares them in the training process.
    checkpoint_every, checkpoint_minutes
        Steps and minutes between saved states; None: not by these. The state is saved on an interrupt as well.
    log, log_every
        ``"csv"``, ``"tensorboard"`` or both, and the steps between their entries.
    """

    objectives: tuple[str | Mapping[str, Any], ...] = ("denoise", "mask", "mvc")
    n_tokens: int = 512
    batch_size: int = 32
    accumulate: int = 1
    cells_at_once: int | None = None
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 200
    schedule: str = "linear"
    plateau_factor: float = 0.6
    plateau_patience: int = 2
    clip: float | None = 1.0
    average: float | None = None
    early_stop: int | None = None
    max_steps: int = 5_000
    max_minutes: float | None = None
    val_fraction: float = 0.02
    val_every: int = 500
    gene_vectors: str = "random"
    precision: str = "32-true"
    matmul: str = "highest"
    seed: int = 0
    label: str | tuple[str, ...] = "cell_type"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    workers: int = 0
    checkpoint_every: int | None = None
    checkpoint_minutes: float | None = 10.0
    log: tuple[str, ...] = ("csv",)
    log_every: int = 50

    def __post_init__(self) -> None:
        for name in ("objectives", "log"):  # a YAML file has lists, or one name
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if not isinstance(self.label, str):
            object.__setattr__(self, "label", tuple(self.label))
        self._check_kinds()
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                msg = f"{name}={value} must be above 0."
                raise ValueError(msg)
        for name, known in _KNOWN.items():
            value = getattr(self, name)
            values = (value,) if isinstance(value, str) else value
            if unknown := [x for x in values if x not in known and not (name == "gene_vectors" and Path(x).suffix)]:
                msg = f"{name}={unknown[0]!r} is unknown; choose among {', '.join(map(repr, known))}."
                raise ValueError(msg)
        for name in ("seed", "lr", "weight_decay", "warmup"):
            if not getattr(self, name) >= 0:
                msg = f"{name}={getattr(self, name)} must be 0 or above."
                raise ValueError(msg)
        for name in ("average", "plateau_factor"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                msg = f"{name}={value} must lie between 0 and 1."
                raise ValueError(msg)
        if self.accumulate % self.world_size:
            msg = (
                f"accumulate={self.accumulate} batches of a step cannot be shared evenly by devices × nodes = "
                f"{self.world_size} processes; choose a multiple of {self.world_size}."
            )
            raise ValueError(msg)

    def _check_kinds(self) -> None:
        for name, (kind, said) in _KINDS.items():
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
                msg = f"{name}={value!r} must be {said}."
                raise ValueError(msg)

    @property
    def world_size(self) -> int:
        """Number of training processes."""
        return self.devices * self.nodes

    @property
    def cells_per_step(self) -> int:
        """Cells read for one optimizer step."""
        return self.batch_size * self.accumulate


# Where and how a run is carried out and watched; all other settings decide what comes out of it.
NO_INFLUENCE = (
    "devices", "nodes", "strategy", "workers", "checkpoint_every", "checkpoint_minutes", "log", "log_every"
)  # fmt: skip
_POSITIVE = (
    "n_tokens", "batch_size", "accumulate", "cells_at_once", "clip", "early_stop", "plateau_patience", "max_steps",
    "max_minutes", "val_every", "devices", "nodes", "checkpoint_every", "checkpoint_minutes", "log_every",
)  # fmt: skip
_WHOLE = (
    "n_tokens", "batch_size", "accumulate", "cells_at_once", "early_stop", "plateau_patience", "max_steps", "val_every",
    "devices", "nodes", "workers", "checkpoint_every", "log_every", "seed", "warmup",
)  # fmt: skip
_NUMBERS = (
    "lr", "weight_decay", "average", "plateau_factor", "clip", "max_minutes", "val_fraction", "checkpoint_minutes",
)  # fmt: skip
_KINDS = dict.fromkeys(_NUMBERS, (numbers.Real, "a number")) | dict.fromkeys(
    _WHOLE, (numbers.Integral, "a whole number")
)
_KNOWN = {
    "schedule": SCHEDULES,
    "strategy": STRATEGIES,
    "log": LOGS,
    "gene_vectors": GENE_VECTORS,
    "precision": ("32-true", "bf16-mixed", "16-mixed"),  # counts and totals need more digits than a half type has
    "matmul": ("highest", "high", "medium"),
}
