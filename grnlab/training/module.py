"""The Lightning module: corrupted cells through the backbone once, the losses of all objectives added."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from grnlab.backbones.base import Encoded
from grnlab.data import CellTokens
from grnlab.objectives import Objective, objective_name
from grnlab.objectives.divide import split_cells
from grnlab.training.batches import Batch, seed_dropout


class Trainable(Protocol):
    """What training needs of a backbone, besides being a :class:`torch.nn.Module`.

    An objective may call further methods, such as ``decode`` or ``classify``; a backbone has those that the objectives
    it is trained on call. Blocks in a :class:`torch.nn.ModuleList` are what the ``"fsdp"`` strategy shards one by one.
    """

    def encode(self, tokens: CellTokens) -> Encoded:
        """Run the model."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and values of the weights."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything a checkpoint holds."""
        ...


class WeightedLosses(nn.Module):
    """The losses of a model as one module, so that whatever wraps modules (sharding, compilation) wraps all of it.

    Parameters
    ----------
    model
        The backbone.
    objectives
        Tasks.
    at_once
        Cells whose activations are held at a time while training; None: those of the whole batch.
    """

    def __init__(self, model: Trainable, objectives: Sequence[Objective], *, at_once: int | None = None) -> None:
        super().__init__()
        self.at_once = at_once
        self.model, self.objectives = model, list(objectives)
        self.names = [objective_name(objective) for objective in objectives]

    def forward(self, seen: CellTokens, target: CellTokens) -> Tensor:
        """Weighted loss of each objective, float32 of shape (n_objectives,)."""
        size = self.at_once
        if size is None or len(seen) <= size or not torch.is_grad_enabled():
            return self._losses(self.objectives, self.model.encode(seen), seen, target)
        found: dict[int, Tensor] = {}
        across = [number for number, x in enumerate(self.objectives) if getattr(x, "across_cells", False)]
        within = [number for number in range(len(self.objectives)) if number not in across]

        def of_part(some: CellTokens, true: CellTokens) -> Tensor:
            tasks = [self.objectives[number] for number in within]
            return self._losses(tasks, self.model.encode(some), some, true) * (len(some) / len(seen))

        if within:
            parts = zip(split_cells(seen, size), split_cells(target, size), strict=True)
            losses = torch.stack([checkpoint(of_part, *part, use_reentrant=False) for part in parts]).sum(0)
            found = dict(zip(within, losses.unbind(), strict=True))
        for number in across:
            found[number] = self._losses([self.objectives[number]], None, seen, target)[0]
        return torch.stack([found[number] for number in range(len(self.objectives))])

    def _losses(self, objectives: Sequence[Objective], encoded: Any, seen: CellTokens, target: CellTokens) -> Tensor:
        losses = [x.weight * x.loss(self.model, encoded, seen=seen, target=target) for x in objectives]
        return torch.stack([loss.float() for loss in losses])


class PretrainModule(L.LightningModule):
    """Trains a backbone on a sum of objectives; :class:`grnlab.training.loop.Loop` does all that is not the step.

    Parameters
    ----------
    model
        The backbone.
    objectives
        Tasks.
    lr, weight_decay
        Of AdamW.
    seed
        Of dropout.
    at_once
        See :class:`WeightedLosses`.

    Attributes
    ----------
    losses
        The objectives applied to the model.
    recent
        Number and losses of each batch since the list was last emptied.
    """

    def __init__(
        self,
        model: Trainable,
        objectives: Sequence[Objective],
        *,
        lr: float,
        weight_decay: float,
        seed: int,
        at_once: int | None = None,
    ) -> None:
        super().__init__()
        self.losses = WeightedLosses(model, objectives, at_once=at_once)
        self.lr, self.weight_decay, self.seed = lr, weight_decay, seed
        self.recent: list[tuple[int, Tensor]] = []

    @property
    def model(self) -> Trainable:
        """The backbone."""
        return self.losses.model

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum of the losses. Nothing is read back from the device here."""
        seed_dropout(self.seed, batch.number, self.device)
        losses = self.losses(batch.seen, batch.target)
        self.recent.append((batch.number, losses.detach()))
        return losses.sum()

    def configure_model(self) -> None:
        """Shard the model over the processes, where Lightning has laid out a mesh of them."""
        if self.device_mesh is None or hasattr(self.losses, "unshard"):
            return
        from torch.distributed.fsdp import fully_shard

        mesh = self.device_mesh["data_parallel"]
        for blocks in [module for module in self.losses.modules() if isinstance(module, nn.ModuleList)]:
            for block in blocks:
                fully_shard(block, mesh=mesh)
        fully_shard(self.losses, mesh=mesh)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW without decay on biases, norms and embeddings."""
        decayed = {id(m.weight) for m in self.losses.modules() if isinstance(m, nn.Linear)}
        weights = [p for p in self.losses.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in weights if id(p) in decayed], "weight_decay": self.weight_decay},
            {"params": [p for p in weights if id(p) not in decayed], "weight_decay": 0.0},
        ]
        # not fused: Lightning's clipping refuses fused optimizers under mixed precision
        return torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.98), foreach=True)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Batches know how to move themselves."""
        return batch.to(device)

    def set_rate(self, factor: float) -> float:
        """Set the learning rate of the next step to `factor` times `lr`; returns it."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        for group in optimizer.param_groups:
            group["lr"] = self.lr * factor
        return self.lr * factor
