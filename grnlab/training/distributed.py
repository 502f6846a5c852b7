"""Several training processes: how the model lies on them, what they agree on, whole tensors from shards."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from grnlab.training.config import PretrainConfig


def make_strategy(config: PretrainConfig) -> Any:
    """Lightning strategy of a config.

    Raises
    ------
    ImportError
        When this version of torch cannot shard (``"fsdp"`` needs 2.6).
    ValueError
        When ``"fsdp"`` is asked for together with float16.
    """
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
    from torch.distributed import fsdp

    if config.strategy == "fsdp":
        if not hasattr(fsdp, "fully_shard"):
            msg = f"strategy='fsdp' needs torch 2.6 or newer; this is {torch.__version__}. Use 'ddp', or update torch."
            raise ImportError(msg)
        if config.precision.startswith("16-mixed"):
            msg = "strategy='fsdp' does not go with precision='16-mixed'; use 'bf16-mixed' or '32-true'."
            raise ValueError(msg)
        return ModelParallelStrategy(data_parallel_size=config.world_size, tensor_parallel_size=1)
    if config.strategy == "ddp" or config.world_size > 1:
        # a batch may leave weights without a gradient (no label of a class is known); buffers are constants here
        return DDPStrategy(find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True)
    return "auto"


class Agreement:
    """Values on which all processes agree, exchanged between CPUs so that no device waits; one process agrees alone.

    Parameters
    ----------
    world_size
        Number of processes. Made by all of them at the same time.
    """

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.group = dist.new_group(backend="gloo") if world_size > 1 else None

    def largest(self, values: Sequence[float]) -> list[float]:
        """Largest of each value over all processes."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def total(self, values: Sequence[float]) -> list[float]:
        """Sum of each value over all processes."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def _reduce(self, values: Sequence[float], operation: Any) -> list[float]:
        if self.world_size == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(shared, op=operation, group=self.group)
        return shared.tolist()


def whole(tensor: Tensor) -> Tensor:
    """Tensor on the CPU; one that is sharded is put together, which all processes must ask for at the same time."""
    tensor = tensor.detach()
    full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full.cpu().contiguous()


def like(value: Tensor, model: Any) -> Tensor:
    """Bring a whole tensor to where another one is, sharded as that is."""
    if hasattr(model, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(model.device), model.device_mesh, model.placements)
    return value.to(model.device)
