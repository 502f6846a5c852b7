"""Processes that share the cells of a run, and add up what they found: started by ``torchrun``, on CPUs or GPUs."""

import numpy as np
import torch
import torch.distributed as dist


class Ranks:
    """The processes of this run; one process is alone and exchanges nothing.

    Made by all of them at the same time. Sums go over CPUs (gloo) in the type they come in.

    Parameters
    ----------
    alone
        This process works for itself, whether or not there are others.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self.number, self.count, self._group = 0, 1, None
        if alone or not dist.is_available():
            return
        if dist.is_torchelastic_launched() and not dist.is_initialized():
            dist.init_process_group("gloo")
        if dist.is_initialized() and dist.get_world_size() > 1:
            self.number, self.count = dist.get_rank(), dist.get_world_size()
            self._group = dist.new_group(backend="gloo")

    def add(self, values: np.ndarray) -> np.ndarray:
        """Sum of an array over all processes, known to each."""
        if self._group is None:
            return values
        shared = torch.from_numpy(np.ascontiguousarray(values).copy())
        dist.all_reduce(shared, group=self._group)
        return shared.numpy()

    def all_true(self, value: bool) -> bool:
        """Whether something holds in every process."""
        return int(self.add(np.array([not value], dtype=np.int64))[0]) == 0

    def wait(self) -> None:
        """Wait for the others."""
        self.add(np.zeros(1, dtype=np.int64))


def first_of_processes() -> bool:
    """Whether this process is the one that writes what all have found; ends the exchange, where there was one."""
    if not (dist.is_available() and dist.is_initialized()):
        return True
    first = dist.get_rank() == 0
    if dist.is_torchelastic_launched():
        dist.destroy_process_group()
    return first
