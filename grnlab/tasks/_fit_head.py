"""Train a head, and with it a backbone, through Lightning."""

import copy
import datetime as dt
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from grnlab.training.batches import no_collate
from grnlab.training.interrupt import Interrupted
from grnlab.training.logs import quiet_lightning

_WARMUP = 0.1  # share of the steps over which the learning rate rises

Draw = Callable[[np.ndarray], Any]


class Epochs(IterableDataset[Any]):
    """Batches of one epoch after the other; with a seed in a new order each time, else in the order given.

    Parameters
    ----------
    draw
        From cell numbers to what the module reads, a tensor or tokens.
    targets
        Target of each cell.
    rows
        Cells of an epoch.
    batch_size
        Cells of a batch.
    lengths
        Size of each cell: those of a batch are of like size, so that little is padded.
    seed
        Of the order; None: no shuffling.
    """

    def __init__(
        self, draw: Draw, targets: Tensor, rows: np.ndarray, *, batch_size: int, lengths: np.ndarray, seed: int | None
    ) -> None:
        self.draw, self.targets, self.rows = draw, targets, rows
        self.batch_size, self.lengths, self.seed, self.epoch = batch_size, lengths, seed, 0

    @property
    def n_batches(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def batches(self) -> list[np.ndarray]:
        """Cell numbers of each batch of the epoch at hand."""
        rows, many = self.rows, 8 * self.batch_size
        if self.seed is None:
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            return [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        rng = np.random.default_rng([self.seed, self.epoch])
        rows = rng.permutation(rows)
        blocks = [rows[start : start + many] for start in range(0, len(rows), many)]
        rows = np.concatenate([block[np.argsort(self.lengths[block], kind="stable")] for block in blocks])
        found = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        return [found[place] for place in rng.permutation(len(found))]

    def __iter__(self) -> Iterator[Any]:
        batches = self.batches()
        self.epoch += 1
        for rows in batches:
            yield self.draw(rows), self.targets[torch.from_numpy(rows)]


class HeadModule(L.LightningModule):
    """Cross-entropy or squared error of a network, AdamW with a rate per group of weights.

    Parameters
    ----------
    network
        The head, or the backbone with its head.
    groups
        Groups of weights for AdamW.
    class_weights
        Of the classes; None where every cell counts the same.
    n_steps
        Steps until the rate has fallen to zero.

    Attributes
    ----------
    history
        Training and validation loss of each epoch.
    best
        Weights of the epoch with the least validation loss.
    """

    def __init__(
        self, network: nn.Module, groups: list[dict[str, Any]], *, class_weights: Tensor | None, n_steps: int
    ) -> None:
        super().__init__()
        self.network, self.groups, self.n_steps = network, groups, n_steps
        self.register_buffer("class_weights", class_weights)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] | None = None
        self.sums = {"train": [0.0, 0.0], "val": [0.0, 0.0]}

    def _loss(self, batch: tuple[Any, Tensor], part: str) -> Tensor:
        seen, target = batch
        output = self.network(seen)
        if target.is_floating_point():
            each, weight = F.mse_loss(output[:, 0], target, reduction="none"), torch.ones_like(target)
        else:
            each = F.cross_entropy(output, target, reduction="none")
            weight = torch.ones_like(each) if self.class_weights is None else self.class_weights[target]  # type: ignore[index]
        total, mass = (each * weight).sum(), weight.sum()
        self.sums[part][0] += float(total.detach())
        self.sums[part][1] += float(mass)
        return total / mass

    def training_step(self, batch: tuple[Any, Tensor], batch_idx: int) -> Tensor:
        """Loss of a batch.

        Raises
        ------
        RuntimeError
            When it is not finite.
        """
        loss = self._loss(batch, "train")
        if not torch.isfinite(loss):
            msg = f"the loss of step {self.global_step} is {float(loss)}; lower lr and backbone_lr."
            raise RuntimeError(msg)
        return loss

    def validation_step(self, batch: tuple[Any, Tensor], batch_idx: int) -> None:
        """Add up the loss of a batch."""
        self._loss(batch, "val")

    def close_epoch(self) -> dict[str, float]:
        """Mean losses since the last call, added to the history."""
        row = {"epoch": float(len(self.history) + 1)}
        row |= {f"{part}_loss": total / mass if mass else np.nan for part, (total, mass) in self.sums.items()}
        self.history.append(row)
        self.sums = {"train": [0.0, 0.0], "val": [0.0, 0.0]}
        return row

    def configure_optimizers(self) -> Any:
        """AdamW; the rates rise over the first steps and fall to zero."""
        rise = max(1, round(_WARMUP * self.n_steps))
        optimizer = torch.optim.AdamW(self.groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min((step + 1) / rise, max(0.0, (self.n_steps - step) / max(1, self.n_steps - rise))),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Tokens know how to move themselves."""
        return tuple(part.to(device) for part in batch)


class KeepBest(L.Callback):
    """Keeps the weights of the best epoch, and ends a run that has not become better for some epochs.

    Parameters
    ----------
    patience
        Epochs to wait.
    bar
        Shows the epochs.
    """

    def __init__(self, patience: int, bar: tqdm) -> None:
        self.patience, self.bar, self.least, self.waited = patience, bar, np.inf, 0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare this epoch with the best: Lightning has validated before."""
        assert isinstance(pl_module, HeadModule)
        row = pl_module.close_epoch()
        self.bar.update()
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in row.items() if name != "epoch"})
        if np.isnan(row["val_loss"]):  # nothing is held out: the last weights are kept
            return
        if row["val_loss"] < self.least:
            self.least, self.waited = row["val_loss"], 0
            pl_module.best = copy.deepcopy(pl_module.network.state_dict())
        else:
            self.waited += 1
            trainer.should_stop = self.waited >= self.patience


def fit_head(
    network: nn.Module,
    groups: list[dict[str, Any]],
    train: Epochs,
    val: Epochs,
    *,
    class_weights: Tensor | None,
    max_epochs: int,
    max_minutes: float | None,
    patience: int,
    bar: tqdm,
) -> list[dict[str, float]]:
    """Train a network in place and leave it with the weights of its best epoch.

    Parameters
    ----------
    network, groups, class_weights
        See :class:`HeadModule`.
    train, val
        Batches; no validation when `val` has no rows.
    max_epochs, max_minutes, patience
        When to end.
    bar
        Progress.

    Returns
    -------
    Losses of each epoch.

    Raises
    ------
    RuntimeError
        When a loss is not finite.
    grnlab.training.interrupt.Interrupted
        After Ctrl-C.
    """
    module = HeadModule(network, groups, class_weights=class_weights, n_steps=max_epochs * train.n_batches)
    with quiet_lightning():
        warnings.filterwarnings("ignore", message="You defined a `validation_step`")  # val_fraction=0: none is wanted
        trainer = L.Trainer(
            max_epochs=max_epochs,
            max_time=None if max_minutes is None else dt.timedelta(minutes=max_minutes),
            accelerator="auto",
            devices=1,
            gradient_clip_val=1.0,
            callbacks=[KeepBest(patience, bar)],
            logger=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        held_out = DataLoader(val, batch_size=None, collate_fn=no_collate) if len(val.rows) else None
        try:
            trainer.fit(module, DataLoader(train, batch_size=None, collate_fn=no_collate), held_out)
        except SystemExit as error:  # what Lightning makes of Ctrl-C
            msg = f"fine-tuning was stopped after epoch {len(module.history)}; nothing was saved."
            raise Interrupted(msg) from error
    if module.best is not None:
        network.load_state_dict(module.best)
    return module.history
