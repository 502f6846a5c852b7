"""Ctrl-C and SIGTERM end a run after the step at hand, so that its state can be saved whole."""

import os
import signal
import threading
from types import FrameType
from typing import Any


def _signals() -> list[signal.Signals]:
    """Ctrl-C, SIGTERM, and under Slurm the warning it can be told to send (``--signal=USR1@300``)."""
    slurm = "SLURM_JOB_ID" in os.environ and hasattr(signal, "SIGUSR1")
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if slurm else [])]


class Interrupted(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or SIGTERM; the message says where its state is and how to go on."""


class InterruptWatch:
    """Notes the first Ctrl-C or SIGTERM; a second one acts at once, as without a watch.

    Attributes
    ----------
    seen
        Whether there was one.
    """

    def __init__(self) -> None:
        self.seen = False
        self._before: dict[signal.Signals, Any] = {}

    def start(self) -> None:
        """Begin to watch; signals reach the main thread alone, so elsewhere this does nothing."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _signals()}

    def stop(self) -> None:
        """Put back the handlers that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
