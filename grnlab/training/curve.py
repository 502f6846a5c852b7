"""Keep the loss curve of a run."""

import logging
from typing import Any

import lightning as L

logger = logging.getLogger(__name__)


class LossCurve(L.Callback):
    """Collects one point per validation: step, cells seen, and every loss (training losses averaged since the last).

    Attributes
    ----------
    points
        The curve.
    """

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []
        self._sums: dict[str, float] = {}
        self._n = 0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Add up the training losses."""
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train/"):
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._n += 1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a point."""
        if trainer.sanity_checking:
            return
        point: dict[str, float] = {"step": trainer.global_step}
        point |= {name: round(total / max(self._n, 1), 5) for name, total in self._sums.items()}
        point |= {
            name: round(float(value), 5) for name, value in trainer.callback_metrics.items() if name.startswith("val/")
        }
        logger.info("%s", point)
        self.points.append(point)
        self._sums, self._n = {}, 0
