"""Settings of a run of :mod:`tasks`, and what its parts share."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import grnlab as gl
from grnlab.benchmark.task import untrained_like

HERE = Path(__file__).parent
SEED = 0
MODEL = "grnlab-small"


@dataclass(frozen=True)
class Context:
    """Settings of a run."""

    data: Path
    quick: bool
    peer: str | None
    scprint: str | None
    folder: Path

    @property
    def n_cells(self) -> int:
        """Cells of a data set."""
        return 150 if self.quick else 400

    @cached_property
    def models(self) -> dict[str, Any]:
        """The built-in model, and one of the same shape with new weights."""
        model = gl.load_model(MODEL)
        return {MODEL: model, "untrained": untrained_like(model, SEED)}

    def ask(self, task: str, **arrays: Any) -> dict[str, np.ndarray] | None:
        """Run a peer; None where there is none."""
        if self.peer is None:
            return None
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
            np.savez(source, **arrays)
            script = HERE / "peers" / "cell_tasks.py"
            run = subprocess.run([self.peer, script, task, source, target], capture_output=True, text=True, check=False)
            if run.returncode:
                print(f"{task} failed: {run.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                return None
            with np.load(target, allow_pickle=False) as content:
                return {name: content[name] for name in content.files}


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and its CPU seconds."""
    started = time.process_time()
    found = function()
    return found, time.process_time() - started
