"""Logs of a run, and a quiet Lightning."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grnlab._optional import require


def make_loggers(names: tuple[str, ...], folder: Path, *, first_step: int) -> list[Any]:
    """Lightning loggers that write below a folder.

    Parameters
    ----------
    names
        ``"csv"``: ``csv/from_step_<n>/metrics.csv``, a new folder each time the run goes on; ``"tensorboard"``.
    folder
        Where to write.
    first_step
        Step the run goes on from: what TensorBoard was told of later steps is taken back.
    """
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    made: list[Any] = []
    if "csv" in names:
        version = f"from_step_{first_step:09d}"
        made.append(CSVLogger(folder, name="csv", version=version))
    if "tensorboard" in names:
        require("tensorboard", install="tensorboard", purpose='for log="tensorboard"')
        made.append(TensorBoardLogger(folder, name="tensorboard", version="", purge_step=first_step + 1))
    return made


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning from telling what a run tells itself, or what does not apply to it."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for text in (".*does not have many workers", ".*exists and is not empty", ".*LeafSpec"):
                warnings.filterwarnings("ignore", message=text)
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
