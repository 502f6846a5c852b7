"""Which cells lie outside what a model knows: their distance from cells of known labels, with a threshold held out.

Shape suffixes: B cells, K leaf labels, M dimension of the embedding.
"""

import logging
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from grnlab._files import atomic_file
from grnlab._reading import DAMAGED_ARRAYS, opened_archive, parse_json

logger = logging.getLogger(__name__)
_LEAST_CELLS = 10
_KEYS = ("labels", "means_KM", "precision_MM", "threshold", "weights_sha256", "class_name", "report")


@dataclass(frozen=True)
class KnownCells:
    """Where the labelled cells of a model lie among its class embeddings, and how far from them is far.

    The distance of a cell is the squared Mahalanobis distance to the nearest mean of a label, with one covariance for
    all labels (Lee et al. 2018, arXiv:1807.03888). The threshold is a quantile of the distances of cells that took no
    part in means and covariance.

    Attributes
    ----------
    class_name
        The class whose embedding and labels these are.
    labels
        Leaf labels that had enough cells.
    means_KM, precision_MM
        Mean embedding of each label, and the inverse of the pooled covariance.
    threshold
        Distances above it are outside.
    weights_sha256
        Of the model.
    report
        How it was made: cells, false alarms, and how many cells of each label were told when that label was held out.
    """

    class_name: str
    labels: tuple[str, ...]
    means_KM: np.ndarray
    precision_MM: np.ndarray
    threshold: float
    weights_sha256: str
    report: dict[str, Any]

    def distance(self, embeddings_BM: np.ndarray) -> np.ndarray:
        """Squared distance of each cell from the nearest label, shape (B,)."""
        return _distances(embeddings_BM, self.means_KM, self.precision_MM).min(axis=1)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a ``.npz`` file."""
        import json

        with atomic_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
            content = {name: getattr(self, name) for name in _KEYS} | {"report": json.dumps(self.report)}
            content["precision_MM"] = self.precision_MM.astype(np.float32)
            np.savez_compressed(file, **content)

    @classmethod
    def load(cls, path: str | Path) -> "KnownCells":
        """Read what :meth:`save` wrote; no pickle is read.

        Raises
        ------
        ValueError
            When the file is of another kind.
        """
        try:
            with opened_archive(Path(path)), np.load(path, allow_pickle=False) as content:
                found = {name: np.asarray(content[name]) for name in _KEYS}
            known = cls(
                class_name=str(found["class_name"]),
                labels=tuple(map(str, found["labels"])),
                means_KM=found["means_KM"].astype(np.float64),
                precision_MM=found["precision_MM"].astype(np.float64),
                threshold=float(found["threshold"]),
                weights_sha256=str(found["weights_sha256"]),
                report=parse_json(str(found["report"])),
            )
            n_labels, size = len(known.labels), known.means_KM.shape[-1]
            if known.means_KM.shape != (n_labels, size) or known.precision_MM.shape != (size, size):
                msg = f"means of shape {known.means_KM.shape} of {n_labels} labels"
                raise ValueError(msg)
        except (LookupError, OSError, TypeError, ValueError, *DAMAGED_ARRAYS) as error:
            msg = f"{path} is no file of known cells ({error}); make one with grnlab.tasks.fit_known."
            raise ValueError(msg) from error
        return known


def fit_known(
    embeddings_BM: np.ndarray,
    labels: np.ndarray,
    *,
    class_name: str,
    weights_sha256: str = "",
    false_alarms: float = 0.05,
    seed: int = 0,
) -> KnownCells:
    """Calibrate on labelled cells: half of those of a label fit, half set the threshold.

    Best are cells the model was trained on. Every label is then held out in turn: means, covariance and threshold are
    made of the others, and the share of its cells that are told to be outside is reported. That is what the threshold
    is worth on labels nobody knows, but for the model having seen their cells.

    Parameters
    ----------
    embeddings_BM
        Class embeddings, ``adata.obsm["X_grnlab_<class>"]`` of :func:`grnlab.tl.embed`.
    labels
        Leaf label of each cell; labels of fewer than 20 cells take no part.
    class_name
        Name of the class.
    weights_sha256
        Of the model, ``model.weights_hash``; :func:`grnlab.tl.annotate` refuses a calibration of other weights.
    false_alarms
        Share of known cells that may be told to be outside.
    seed
        Of the halves.

    Raises
    ------
    ValueError
        When fewer than two labels have 20 cells, the share does not lie between 0 and 1, embeddings are not finite, or
        labels are missing or not one for each.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T"], 50)
    >>> known = fit_known(rng.normal(size=(100, 4)) + 9 * (labels == "T")[:, None], labels, class_name="cell_type")
    >>> bool(known.distance(np.full((1, 4), 99.0))[0] > known.threshold)
    True
    """
    if not 0 < false_alarms < 1:
        msg = f"false_alarms={false_alarms} must lie between 0 and 1."
        raise ValueError(msg)
    x_BM = np.asarray(embeddings_BM, dtype=np.float64)
    if x_BM.ndim != 2 or len(labels) != len(x_BM) or pd.isna(np.asarray(labels)).any() or not np.isfinite(x_BM).all():
        msg = (
            f"embeddings_BM has shape {x_BM.shape}, labels {len(labels)} values; each cell needs a label and finite "
            "values, so leave out those that lack them."
        )
        raise ValueError(msg)
    labels = np.asarray(labels, dtype=str)
    names, counts = np.unique(labels, return_counts=True)
    names = names[counts >= 2 * _LEAST_CELLS]
    if len(names) < 2:
        msg = f"labels has {len(names)} labels with {2 * _LEAST_CELLS} cells or more; two are needed to calibrate."
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    fits = np.zeros(len(labels), dtype=bool)
    for name in names:
        cells = rng.permutation(np.flatnonzero(labels == name))
        fits[cells[: len(cells) // 2]] = True
    told = {}
    for name in names:
        others = names[names != name]
        parts = _fit(x_BM, labels, others, fits=fits, false_alarms=false_alarms) if len(others) > 1 else None
        if parts is not None:
            far = _distances(x_BM[labels == name], parts[0], parts[1]).min(1) > parts[2]
            told[str(name)] = round(float(far.mean()), 3)
    means_KM, precision_MM, threshold = _fit(x_BM, labels, names, fits=fits, false_alarms=false_alarms)
    report = {
        "n_cells": {str(name): int((labels == name).sum()) for name in names},
        "false_alarms": false_alarms,
        "told_when_held_out": told,
        "seed": seed,
    }
    return KnownCells(class_name, tuple(map(str, names)), means_KM, precision_MM, threshold, weights_sha256, report)


def builtin_known(weights_sha256: str) -> KnownCells | None:
    """Calibration that comes with a built-in model, found by the hash of its weights; None for others."""
    path = Path(str(files("grnlab.tasks") / "calibration" / f"{weights_sha256[:16]}.npz"))
    return KnownCells.load(path) if weights_sha256 and path.is_file() else None


def _fit(
    x_BM: np.ndarray, labels: np.ndarray, names: np.ndarray, *, fits: np.ndarray, false_alarms: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Means, inverse covariance (Ledoit-Wolf) and threshold of some labels."""
    from sklearn.covariance import ledoit_wolf

    means_KM = np.stack([x_BM[fits & (labels == name)].mean(0) for name in names])
    place = {name: row for row, name in enumerate(names)}
    of_names = np.isin(labels, names)
    centred = x_BM[of_names & fits] - means_KM[[place[name] for name in labels[of_names & fits]]]
    precision_MM = np.linalg.inv(ledoit_wolf(centred, assume_centered=True)[0])
    rest = _distances(x_BM[of_names & ~fits], means_KM, precision_MM).min(1)
    return means_KM, precision_MM, float(np.quantile(rest, 1 - false_alarms))


def _distances(x_BM: np.ndarray, means_KM: np.ndarray, precision_MM: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distances (B, K)."""
    root_MM = np.linalg.cholesky(np.asarray(precision_MM, dtype=np.float64))
    x_BM, means_KM = x_BM @ root_MM, means_KM @ root_MM
    distance_BK = (x_BM**2).sum(1)[:, None] - 2 * x_BM @ means_KM.T + (means_KM**2).sum(1)
    return np.maximum(distance_BK, 0)
