"""What happens around the steps of a run: learning rate, average, validation, logs, saved states, the end."""

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from grnlab._provenance import versions
from grnlab.training.averaging import WeightAverage
from grnlab.training.bad_batch import bad_loss_error
from grnlab.training.batches import Batch, CellStream
from grnlab.training.config import PretrainConfig
from grnlab.training.curve import LossCurve, MeanLosses
from grnlab.training.distributed import Agreement, whole
from grnlab.training.interrupt import InterruptWatch
from grnlab.training.module import PretrainModule
from grnlab.training.progress import Progress
from grnlab.training.states import State, StateFolder, capture, restore

logger = logging.getLogger(__name__)

_BAR = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
_LOOK_EVERY = 16  # steps between looks at the losses of a device that computes on while Python waits for it


class Loop(L.Callback):
    """Runs everything of a run but its steps, in a fixed order after each step.

    Nothing here is random and nothing depends on when the process was started, so a run that goes on from a saved state
    is the run that was never stopped. Losses are looked at before a validation or a saved state: neither is ever made
    of weights that a loss that is not finite has touched.

    Parameters
    ----------
    config
        Settings.
    names
        Names of the objectives.
    stream
        Training batches, to draw a bad one again.
    held_out, n_held_out
        Validation batches of this process, and the number of batches that count.
    run
        Folder of the run; None: nothing is saved.
    identity
        What the state belongs to, see :func:`grnlab.training.identity.run_identity`.
    resumed
        State to go on from; its weights are in the model already.
    bar
        Show a progress bar.

    Attributes
    ----------
    progress, curve
        Where the run is and has been.
    interrupted
        Whether Ctrl-C or SIGTERM ended it.
    weights
        Whole weights of the trained model, where the model itself does not hold them; None: it does.
    """

    def __init__(
        self,
        config: PretrainConfig,
        names: list[str],
        *,
        stream: CellStream,
        held_out: Iterable[Batch],
        n_held_out: int,
        run: Path | None,
        identity: dict[str, Any],
        resumed: State | None = None,
        bar: bool = False,
    ) -> None:
        self.config, self.stream, self.held_out, self.n_held_out = config, stream, held_out, n_held_out
        self.run, self.identity, self.resumed = run, identity, resumed
        self.states = None if run is None else StateFolder(run / "state")
        self.progress, self.curve, self.interrupted = Progress(), LossCurve(names), False
        self.since_point, self.since_log = MeanLosses(np.zeros(len(names))), MeanLosses(np.zeros(len(names)))
        if resumed is not None:
            self.progress = Progress(**resumed.values["progress"])
            self.curve.points = resumed.values["curve"]
        self.first_step = self.saved_step = self.logged_step = self.progress.step
        self.saved_minutes, self.rate = self.progress.minutes, 0.0
        self.started = self.logged = time.monotonic()
        self.average: WeightAverage | None = None
        self.weights: dict[str, Tensor] | None = None
        self.interrupt, self.bar = InterruptWatch(), bar
        self.agreement: Agreement
        self.shown: tqdm

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take up the saved state and start the clock."""
        module = _module(pl_module)
        self.agreement = Agreement(trainer.world_size)
        if self.config.average is not None:
            self.average = WeightAverage(dict(module.model.named_parameters()), self.config.average)
        if self.resumed is not None:
            restore(self.resumed, trainer, module, self.average)
            if trainer.is_global_zero:  # the sums of all processes were saved
                sums = self.resumed.values["sums"]
                self.since_point, self.since_log = (MeanLosses(np.array(total), n) for total, n in sums)
            self.resumed = None
        self.started = time.monotonic() - 60 * self.progress.minutes
        self.logged = time.monotonic()
        self.interrupt.start()
        show = self.bar and trainer.is_global_zero
        self.shown = tqdm(total=1.0, initial=self.progress.share(self.config), bar_format=_BAR, disable=not show)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Set the learning rate."""
        self.rate = _module(pl_module).set_rate(self.progress.rate(self.config))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Do what is due after a step."""
        if self.first_step + trainer.global_step == self.progress.step:  # more batches make up this step
            return
        module, config, progress = _module(pl_module), self.config, self.progress
        progress.step += 1
        if self.average is not None:
            self.average.update(progress.step)
        minutes = (time.monotonic() - self.started) / 60
        signal, progress.minutes = self.agreement.largest([self.interrupt.seen, minutes])
        self.shown.update(progress.share(config) - self.shown.n)
        self.interrupted = bool(signal) and not progress.ended(config)  # what is done is done
        ends = self.interrupted or progress.ended(config)
        logs = progress.step % config.log_every == 0
        validates = progress.step % config.val_every == 0 or progress.ended(config)
        saves = ends or self._state_is_due()
        if module.device.type == "cpu" or progress.step % _LOOK_EVERY == 0 or logs or validates or saves:
            self._look(module)
        if logs:
            self._log_training(trainer)
        if validates:
            self._validate(trainer, module)
        ends = ends or progress.ended(config)  # validation may have ended it
        if saves or ends:
            self._save(trainer, module, must=ends)
        trainer.should_stop = trainer.should_stop or ends

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the averaged weights in the model; put a sharded one together."""
        self._close()
        if self.interrupted:
            return
        if self.average is not None:
            self.average.to_model()
        if self.config.strategy == "fsdp":
            self.weights = {name: whole(x) for name, x in _module(pl_module).losses.model.state_dict().items()}

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give signals and terminal back."""
        self._close()

    def _close(self) -> None:
        self.interrupt.stop()
        if hasattr(self, "shown"):
            self.shown.close()

    def _state_is_due(self) -> bool:
        config, progress = self.config, self.progress
        by_steps = config.checkpoint_every is not None and progress.step % config.checkpoint_every == 0
        minutes = progress.minutes - self.saved_minutes
        return by_steps or (config.checkpoint_minutes is not None and minutes >= config.checkpoint_minutes)

    def _look(self, module: PretrainModule) -> None:
        """Add up the losses since the last look; one that is not finite, in any process, ends the run."""
        numbers = [number for number, _ in module.recent]
        losses = torch.stack([of_batch for _, of_batch in module.recent]).cpu().double().numpy()
        module.recent.clear()
        finite = np.isfinite(losses).all(axis=1)
        bad = None if finite.all() else int(finite.argmin())
        if self.agreement.largest([bad is not None])[0]:
            found = None if bad is None else (numbers[bad], losses[bad])
            raise bad_loss_error(
                found, self.curve.names,
                stream=self.stream, config=self.config, run=self.run, saved_step=self.saved_step,
            )  # fmt: skip
        for of_batch in losses:
            self.since_point.add(of_batch)
            self.since_log.add(of_batch)

    def _log_training(self, trainer: L.Trainer) -> None:
        config, progress, now = self.config, self.progress, time.monotonic()
        means = dict(zip(self.curve.names, self.since_log.mean().tolist(), strict=True))
        self.since_log.clear()
        metrics = {f"train/{name}": value for name, value in means.items()}
        metrics |= {
            "train/loss": sum(means.values()),
            "lr": self.rate,
            "minutes": progress.minutes,
            "cells/s": config.cells_per_step * (progress.step - self.logged_step) / max(now - self.logged, 1e-9),
        }
        self.logged, self.logged_step = now, progress.step
        said = {"step": progress.step, "loss": f"{metrics['train/loss']:.4f}", "cells/s": f"{metrics['cells/s']:.3g}"}
        self.shown.set_postfix(said)
        self._log(trainer, metrics)

    def _log(self, trainer: L.Trainer, metrics: dict[str, float]) -> None:
        for one in trainer.loggers:
            one.log_metrics(metrics, step=self.progress.step)
            one.save()

    def _validate(self, trainer: L.Trainer, module: PretrainModule) -> None:
        """Add a point to the curve."""
        if self.average is None:
            val = self._validation_losses(trainer, module)
        else:
            with self.average.in_place():
                val = self._validation_losses(trainer, module)
        *total, n = self.agreement.total([*self.since_point.total, self.since_point.n])
        self.since_point.clear()
        step, cells = self.progress.step, self.progress.step * self.config.cells_per_step
        point = self.curve.add_point(step=step, cells=cells, train=np.array(total) / max(n, 1), val=val)
        self.progress.validated(point["val/loss"], self.config)
        logger.info("%s", {name: round(value, 5) for name, value in point.items()})
        self._log(trainer, {name: value for name, value in point.items() if name.startswith("val/")})

    @torch.no_grad()
    def _validation_losses(self, trainer: L.Trainer, module: PretrainModule) -> np.ndarray:
        """Mean over the held-out cells of all processes, one value per objective."""
        sums = np.zeros(len(self.curve.names) + 1)
        module.losses.eval()
        for batch in self.held_out:
            with trainer.precision_plugin.val_step_context():
                moved = batch.to(module.device)
                losses = module.losses(moved.seen, moved.target).cpu().double().numpy()
            if batch.number < self.n_held_out:
                sums += len(batch.target) * np.append(losses, 1.0)
        module.losses.train()
        *total, n_cells = self.agreement.total(sums.tolist())
        mean = np.array(total) / n_cells
        if not np.isfinite(mean).all():
            found = dict(zip(self.curve.names, mean.tolist(), strict=True))
            msg = f"the validation loss is not finite at step {self.progress.step}: {found}. Lower lr or clip."
            raise RuntimeError(msg)
        return mean

    def _save(self, trainer: L.Trainer, module: PretrainModule, *, must: bool) -> None:
        """Save the state; when that fails and the run goes on, say so and go on."""
        progress = self.progress
        if self.states is None:
            return
        sums = [self.agreement.total([*mean.total, mean.n]) for mean in (self.since_point, self.since_log)]
        tensors, scaler = capture(trainer, module, self.average)
        values = {
            "identity": self.identity,
            "progress": progress.to_dict(),
            "curve": self.curve.points,
            "sums": [[total, n] for *total, n in sums],
            "scaler": scaler,
            "versions": versions(),
        }
        self.saved_minutes = progress.minutes
        if not trainer.is_global_zero:
            return
        try:
            self.states.save(progress.step, tensors, values)
            self.saved_step = progress.step
        except OSError as error:
            kept = f"that of step {self.saved_step} is kept." if self.states.steps() else "there is no earlier one."
            msg = f"the state of step {progress.step} could not be saved ({error}); {kept}"
            if must:
                raise OSError(error.errno, msg) from error
            logger.error("%s Training goes on; make room on the disk.", msg)


def _module(module: L.LightningModule) -> PretrainModule:
    if not isinstance(module, PretrainModule):
        msg = f"Loop runs a PretrainModule, not {type(module).__name__}."
        raise TypeError(msg)
    return module
