"""What makes a run the run it is: settings, architecture, vocabulary and cells. A run is resumed with the same only."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from grnlab.data import CellCollection
from grnlab.genes import GeneVocab
from grnlab.training.config import NO_INFLUENCE, PretrainConfig


def run_identity(
    config: PretrainConfig,
    model: Mapping[str, Any],
    vocab: GeneVocab,
    cells: CellCollection,
    split: tuple[np.ndarray, np.ndarray],
) -> dict[str, Any]:
    """Describe a run by plain values; arrays by their hashes.

    Parameters
    ----------
    config
        Settings; those that do not change what comes out are left out.
    model
        Architecture and its configuration.
    vocab, cells
        Genes and cells.
    split
        Cell numbers to train on and to validate on.
    """
    settings = {name: value for name, value in asdict(config).items() if name not in NO_INFLUENCE}
    described = {
        "settings": settings,
        "model": dict(model),
        "vocabulary": vocab.hash,
        "data": {
            "n_cells": len(cells),
            "cells of": cells_of(cells),
            "genes of": {name: array_hash(x) for name, x in zip(cells.names, cells.available, strict=True)},
            "total counts": array_hash(cells.totals),
            "labels": {name: array_hash(codes) for name, codes in cells.labels.items()},
            "training cells": array_hash(split[0]),
            "validation cells": array_hash(split[1]),
        },
    }
    return dict(json.loads(json.dumps(described)))


def cells_of(cells: CellCollection) -> dict[str, int]:
    """Data set → number of its cells."""
    return dict(zip(cells.names, np.bincount(cells.datasets, minlength=len(cells.names)).tolist(), strict=True))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, one text each.

    Examples
    --------
    >>> differences({"settings": {"lr": 0.1, "seed": 0}}, {"settings": {"lr": 0.2, "seed": 0}})
    ['settings.lr: 0.1 in the run, now 0.2']
    """
    first, second = dict(_leaves(before)), dict(_leaves(now))
    return [
        f"{name}: {first.get(name, 'nothing')!r} in the run, now {second.get(name, 'nothing')!r}"
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]


def array_hash(values: np.ndarray) -> str:
    """Hash of an array by values, whatever its integer or float type; 16 hexadecimal digits."""
    wide = np.ascontiguousarray(values, dtype=np.float64 if values.dtype.kind == "f" else np.int64)
    return hashlib.sha256(wide.tobytes()).hexdigest()[:16]


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
