"""Sums over the cells read so far, of every group, and the file that keeps them so that a run can go on.

Shape suffixes: L layers, H heads, G genes, D head dimension.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from grnlab._files import atomic_file, to_disk
from grnlab._reading import parse_json
from grnlab.attention.maps import GroupMaps
from grnlab.attention.ranks import Ranks
from grnlab.backbones.base import AttentionSpec

FORMAT = 1
_LEAST_SECONDS = 5.0  # between two writes
_SHARE = 20  # of the time is spent writing, one part in so many


@dataclass
class GroupSums:
    """Sums over cells of one group, in float64: the order of chunks and of processes shows in no digit of a float32.

    Attributes
    ----------
    q_LHGD, k_LHGD
        Of queries and keys.
    count_G
        Cells summed for each gene.
    scaled_G, expressed_G
        Counts per 10,000, summed; cells that express each gene. Of all genes shown, kept or not.
    n_cells
        Cells summed.
    """

    q_LHGD: Tensor
    k_LHGD: Tensor
    count_G: Tensor
    scaled_G: np.ndarray
    expressed_G: np.ndarray
    n_cells: int = 0

    @classmethod
    def empty(cls, spec: AttentionSpec, n_genes: int, n_shown: int) -> "GroupSums":
        """Sums of no cells."""
        shape = (spec.n_layers, spec.n_heads, n_genes, spec.d_head)
        return cls(
            torch.zeros(shape, dtype=torch.float64),
            torch.zeros(shape, dtype=torch.float64),
            torch.zeros(n_genes, dtype=torch.int64),
            np.zeros(n_shown),
            np.zeros(n_shown, dtype=np.int64),
        )

    def add(self, maps: GroupMaps, counts: sp.csr_matrix, totals: np.ndarray) -> None:
        """Add a chunk of cells: their pooled queries and keys, and their expression."""
        self.q_LHGD += maps.q_sum_LHGD
        self.k_LHGD += maps.k_sum_LHGD
        self.count_G += maps.count_G
        self.scaled_G += np.asarray((sp.diags(1e4 / totals.astype(np.float64)) @ counts).sum(axis=0)).ravel()
        self.expressed_G += np.bincount(counts.indices, minlength=counts.shape[1])
        self.n_cells += maps.n_cells

    def merged(self, name: str, ranks: Ranks) -> tuple[GroupMaps, np.ndarray, np.ndarray]:
        """Maps of the group over all processes; mean counts per 10,000 and share of expressing cells of each gene."""
        n_cells = int(ranks.add(np.array([self.n_cells], dtype=np.int64))[0])
        maps = GroupMaps(
            name=name,
            q_sum_LHGD=torch.from_numpy(ranks.add(self.q_LHGD.numpy())).float(),
            k_sum_LHGD=torch.from_numpy(ranks.add(self.k_LHGD.numpy())).float(),
            count_G=torch.from_numpy(ranks.add(self.count_G.numpy())),
            n_cells=n_cells,
        )
        return maps, ranks.add(self.scaled_G) / n_cells, ranks.add(self.expressed_G) / n_cells

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps."""
        return {
            "q": self.q_LHGD,
            "k": self.k_LHGD,
            "count": self.count_G,
            "scaled": torch.from_numpy(self.scaled_G),
            "expressed": torch.from_numpy(self.expressed_G),
            "n_cells": torch.tensor([self.n_cells]),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "GroupSums":
        """Undo :meth:`tensors`."""
        arrays = tensors["scaled"].numpy(), tensors["expressed"].numpy()
        return cls(tensors["q"], tensors["k"], tensors["count"], *arrays, int(tensors["n_cells"][0]))


class SumsFile:
    """The sums of one process on disk: whole or not there, and only for the run they are of.

    Parameters
    ----------
    folder
        Folder of the state of the run; None keeps nothing.
    identity
        What makes the run the run it is.
    ranks
        Each process has a file of its own.
    """

    def __init__(self, folder: str | Path | None, identity: Mapping[str, Any], ranks: Ranks) -> None:
        self.folder = None if folder is None else Path(folder)
        self.identity = dict(json.loads(json.dumps({**identity, "format": FORMAT, "processes": ranks.count})))
        self.path = None if self.folder is None else self.folder / f"process-{ranks.number}.safetensors"
        self._next, self._started = 0.0, time.monotonic()
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            msg = f"state={str(self.folder)!r} is a file; name a folder, which is made when it does not exist."
            raise ValueError(msg)

    def load(self) -> tuple[np.ndarray, int, list[GroupSums]] | None:
        """Genes chosen, chunks done, and the sums of every group; None when nothing was kept yet.

        Raises
        ------
        ValueError
            When the file is damaged, or of another run: other data, model, settings or number of processes.
        """
        from safetensors import SafetensorError, safe_open

        if self.path is None or not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                about = file.metadata() or {}
                before, n_done = dict(parse_json(about["identity"])), int(about["n_done"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            n_groups = int(about["n_groups"])
            parts: list[dict[str, Tensor]] = [{} for _ in range(n_groups)]
            for name, tensor in tensors.items():
                if "/" in name:
                    number, part = name.split("/")
                    parts[int(number)][part] = tensor
            chosen, found = tensors["genes"].numpy(), [GroupSums.of(part) for part in parts]
        except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
            msg = f"{self.path} cannot be read ({error}); remove the folder {self.folder} to start anew."
            raise ValueError(msg) from error
        self._refuse_others(before)
        return chosen, n_done, found

    def _refuse_others(self, before: Mapping[str, Any]) -> None:
        if before == self.identity:
            return
        from grnlab.training.identity import differences

        msg = (
            f"state={str(self.folder)!r} is of another run: {'; '.join(differences(before, self.identity)[:3])}. "
            "Go on with the same data, model and settings, name another folder, or remove this one."
        )
        raise ValueError(msg)

    def keep(self, chosen: np.ndarray, n_done: int, sums: Sequence[GroupSums], *, last: bool = False) -> None:
        """Write the sums, unless they were written, or the run begun, a moment ago.

        Raises
        ------
        OSError
            When they cannot be written; the file before is as it was.
        """
        now = time.monotonic()
        if self.path is None or now < max(0.0 if last else self._next, self._started + _LEAST_SECONDS):
            return
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        tensors = {f"{number}/{name}": x for number, group in enumerate(sums) for name, x in group.tensors().items()}
        tensors["genes"] = torch.from_numpy(chosen)
        about = {"identity": json.dumps(self.identity), "n_done": str(n_done), "n_groups": str(len(sums))}
        assert self.folder is not None
        for left in self.folder.glob(f".{self.path.name}.*.partial"):  # of a process that was killed while it wrote
            left.unlink(missing_ok=True)
        try:
            with atomic_file(self.path, overwrite=True) as temporary:
                save_file(tensors, temporary, metadata=about)
                to_disk(temporary)
        except SafetensorError as error:  # what the library makes of an error of the file system
            msg = f"{self.path} cannot be written: {error}"
            raise OSError(msg) from error
        ended = time.monotonic()
        self._next = ended + max(_LEAST_SECONDS, _SHARE * (ended - now))
