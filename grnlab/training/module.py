"""The Lightning module: corrupt, encode once, add the losses."""

import time
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from grnlab.backbones.scprint import ScPrint
from grnlab.data import CellTokens
from grnlab.objectives import Objective
from grnlab.training.batches import seeded


class PretrainModule(L.LightningModule):
    """Trains a backbone on a sum of objectives.

    The learning rate warms up linearly and falls linearly to zero; progress is the larger of the share of steps and
    the share of minutes used, so a run with a time limit ends its schedule in time.

    Parameters
    ----------
    model
        The backbone.
    objectives
        Tasks.
    lr, weight_decay, warmup
        Of AdamW; `warmup` in steps.
    max_steps, max_minutes
        End of the schedule, whichever comes first.
    seed
        Of the corruptions.
    """

    def __init__(
        self,
        model: ScPrint,
        objectives: Sequence[Objective],
        *,
        lr: float,
        weight_decay: float,
        warmup: int,
        max_steps: int,
        max_minutes: float | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.model, self.objectives = model, objectives
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.max_steps, self.max_minutes, self.seed = max_steps, max_minutes, seed
        self.started = time.monotonic()
        self.cells_seen = 0

    def losses(self, target: CellTokens, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss of each objective on a batch."""
        seen = target
        for objective in self.objectives:
            seen = objective.corrupt(seen, generator=generator)
        encoded = self.model.encode(seen)
        return {
            type(objective).__name__.lower(): objective.weight
            * objective.loss(self.model, encoded, seen=seen, target=target)
            for objective in self.objectives
        }

    def training_step(self, batch: CellTokens, batch_idx: int) -> Tensor:
        """Sum of the losses; a loss that is not finite stops the run."""
        losses = self.losses(batch, generator=seeded(self.seed, self.global_step))
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            msg = f"the loss is not finite at step {self.global_step}: { {k: v.item() for k, v in losses.items()} }."
            raise RuntimeError(msg)
        self.cells_seen += len(batch)
        self.log_dict({f"train/{name}": loss.detach() for name, loss in losses.items()}, batch_size=len(batch))
        self.log("loss", total.detach(), prog_bar=True, logger=False, batch_size=len(batch))
        return total

    def validation_step(self, batch: CellTokens, batch_idx: int) -> None:
        """Losses on held-out cells, with the same corruption at every validation."""
        losses = self.losses(batch, generator=seeded(self.seed + 1, batch_idx))
        self.log_dict({f"val/{name}": loss for name, loss in losses.items()}, batch_size=len(batch))
        self.log("val/loss", torch.stack(list(losses.values())).sum(), prog_bar=True, batch_size=len(batch))

    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        share = self.global_step / self.max_steps
        if self.max_minutes is not None:
            share = max(share, (time.monotonic() - self.started) / 60 / self.max_minutes)
        return min(share, 1.0)

    def on_train_start(self) -> None:
        """Start the clock when training starts, not when the module is made."""
        self.started = time.monotonic()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step, and stop when the time is over."""
        progress = self.progress()
        factor = min((self.global_step + 1) / self.warmup, 1.0) * (1.0 - progress)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.lr * factor
        if progress >= 1.0:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW without decay on biases, norms and embeddings."""
        decayed = {id(p) for m in self.model.modules() if isinstance(m, torch.nn.Linear) for p in [m.weight]}
        groups = [
            {"params": [p for p in self.model.parameters() if id(p) in decayed], "weight_decay": self.weight_decay},
            {"params": [p for p in self.model.parameters() if id(p) not in decayed], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.98), foreach=True)

    def transfer_batch_to_device(self, batch: CellTokens, device: torch.device, dataloader_idx: int) -> CellTokens:
        """Batches know how to move themselves."""
        return batch.to(device)
