"""What a run will need, before anyone pays for it: parameters, memory and cells per second."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from grnlab.data import CellTokens
from grnlab.objectives import Objective, build_objectives
from grnlab.training.config import PretrainConfig

_MEASURED_TOKENS = 4_096  # on a CPU a small batch tells the speed of a large one
_COPIES = 4  # of every parameter, in float32: weight, gradient, and the two moments of AdamW


@dataclass(frozen=True)
class Estimate:
    """Needs of one training process.

    Attributes
    ----------
    n_parameters
        Trained numbers.
    parameter_mb
        Weights, gradients and optimizer state (and the average, where there is one).
    activation_mb
        What a batch keeps for its backward pass.
    cells_per_s
        Forward and backward pass, measured on `device`; loading comes on top where it is slower.
    cells_measured
        Cells of the measured step.
    device
        Where it was measured, with the number of threads on a CPU.
    """

    n_parameters: int
    parameter_mb: float
    activation_mb: float
    cells_per_s: float
    cells_measured: int
    device: str

    def __str__(self) -> str:
        return (
            f"{self.n_parameters / 1e6:.2f} M parameters\n"
            f"memory per process: {self.parameter_mb:,.0f} MB for parameters, {self.activation_mb:,.0f} MB for the "
            "activations of a batch\n"
            f"{self.cells_per_s:,.1f} cells/s on {self.device}, forward and backward (measured with a batch of "
            f"{self.cells_measured})"
        )


def estimate(model: Any, config: PretrainConfig, *, device: str | None = None) -> Estimate:
    """Measure one training step on random counts and scale it to the batch of a run.

    Parameters
    ----------
    model
        A model of a registered architecture, which is not changed but for its gradients.
    config
        Settings of the run.
    device
        By default CUDA where there is one.

    Notes
    -----
    Activations are the sizes of the tensors that PyTorch saves for the backward pass of the measured step, times the
    ratio of the batches; temporaries of single operations are not in it.

    Examples
    --------
    >>> from grnlab.backbones import ScPrint, ScPrintConfig, load_model
    >>> model = ScPrint(load_model("grnlab-small").vocab, ScPrintConfig(n_layers=1, d_model=16, n_heads=2))
    >>> estimate(model, PretrainConfig(n_tokens=64, batch_size=4, objectives=("mask",))).cells_per_s > 0
    True
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = model.to(place).train()
    objectives = build_objectives(config.objectives)
    n_tokens = min(config.n_tokens, len(model.vocab))
    n_cells = config.batch_size if place.type == "cuda" else min(config.batch_size, -(-_MEASURED_TOKENS // n_tokens))
    batch = _random_batch(model, n_cells, n_tokens, seed=config.seed).to(place)
    saved_bytes = _saved(model, objectives, batch, config)  # the first step also warms up
    started = time.perf_counter()
    _step(model, objectives, batch, config)
    seconds = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    n_parameters = sum(p.numel() for p in model.parameters())
    copies = _COPIES + (config.average is not None)
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return Estimate(
        n_parameters=n_parameters,
        parameter_mb=n_parameters * 4 * copies / 1e6,
        activation_mb=saved_bytes * config.batch_size / n_cells / 1e6,
        cells_per_s=n_cells / seconds,
        cells_measured=n_cells,
        device=name,
    )


def _random_batch(model: Any, n_cells: int, n_tokens: int, *, seed: int) -> CellTokens:
    generator = torch.Generator().manual_seed(seed)
    genes = torch.stack([torch.randperm(len(model.vocab), generator=generator)[:n_tokens] for _ in range(n_cells)])
    values = torch.poisson(torch.full((n_cells, n_tokens), 2.0), generator=generator)
    labels = {
        name: torch.randint(len(leaves), (n_cells,), generator=generator)
        for name, leaves in getattr(model.config, "classes", {}).items()
    }
    return CellTokens(genes, values, values.sum(-1), labels=labels)


def _step(model: Any, objectives: Sequence[Objective], batch: CellTokens, config: PretrainConfig) -> None:
    generator = torch.Generator(device=batch.genes_BT.device).manual_seed(config.seed)
    half = torch.float16 if config.precision.startswith("16") and batch.genes_BT.is_cuda else torch.bfloat16
    with torch.autocast(batch.genes_BT.device.type, dtype=half, enabled=config.precision.endswith("mixed")):
        seen = batch
        for objective in objectives:
            seen = objective.corrupt(seen, generator=generator)
        encoded = model.encode(seen)
        losses = [o.weight * o.loss(model, encoded, seen=seen, target=batch) for o in objectives]
    torch.stack(losses).sum().backward()
    if batch.genes_BT.is_cuda:
        torch.cuda.synchronize()


def _saved(model: nn.Module, objectives: Sequence[Objective], batch: CellTokens, config: PretrainConfig) -> int:
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _step(model, objectives, batch, config)
    return sum(saved.values())
