"""Run every method on every case; what is done is on disk and is not done again."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from grnlab._files import atomic_file
from grnlab._reading import read_json
from grnlab._version import __version__
from grnlab.benchmark.config import BenchmarkConfig
from grnlab.benchmark.datasets import Dataset
from grnlab.benchmark.elsewhere import Elsewhere
from grnlab.benchmark.hubs import MARKERS, hub_rows, read_markers
from grnlab.benchmark.measure import Cost
from grnlab.benchmark.methods import Method
from grnlab.benchmark.prepare import Judged, tasks_of
from grnlab.benchmark.report import write_report
from grnlab.benchmark.task import NotApplicableError, Task
from grnlab.evaluate import GoldStandard, Universe, regulator_auroc, score_universe

logger = logging.getLogger(__name__)
_PARTS, _SETTINGS = "parts", "settings.json"
_NOT = "does not apply"


def run_benchmark(
    out: str | Path, model: Any, config: BenchmarkConfig | None = None, *, data: str | Path | None = None
) -> pd.DataFrame:
    """Score every method on every case and write the table.

    Parameters
    ----------
    out
        Folder to write, or one of an earlier run with the same settings: what it holds is not computed again, and
        other data sets and methods are added to it.
    model
        A pretrained backbone, see :func:`grnlab.load_model`.
    config
        What to run, see :func:`grnlab.benchmark.choose`; every data set and the fast methods by default.
    data
        Data folder; not needed for cases from outside.

    Returns
    -------
    A row per data set, group, gold standard and method, as in ``cases.csv``. A method that failed has no scores there,
    and its reason in ``error``; it is tried again by the next run.

    Raises
    ------
    ValueError
        When `out` holds a run with other settings, or no case has enough true candidates.
    FileNotFoundError
        When a file of the data folder is missing.
    """
    config = config or BenchmarkConfig()
    out, folder = Path(out), Path(data) if data is not None else None
    _settle(out, model, config)
    run = _Run(out, model, config, folder)
    parts = [part for scope in ("tf", "all") for dataset in config.datasets for part in run.dataset(dataset, scope)]
    table = pd.DataFrame([row for part in parts for row in part])
    if table.empty:
        msg = "no gold standard has ten true candidates among the genes of any group; see the warnings of the log."
        raise ValueError(msg)
    table = table.drop(columns="scope").reset_index(drop=True)
    hubs = pd.DataFrame([row for dataset in config.datasets for row in run.hubs(dataset)])
    write_report(table, out, _read(out / _SETTINGS), hubs)
    return table


class _Run:
    """State of one call: gold standards already read, the folder, the progress."""

    def __init__(self, out: Path, model: Any, config: BenchmarkConfig, data: Path | None) -> None:
        self.out, self.model, self.config, self.data = out, model, config, data
        self._golds: dict[tuple[str, bool], GoldStandard] = {}
        trains = {name: gold.train for name, gold in config.golds.items()}
        self.fitted = Elsewhere(lambda: model, lambda name: self.gold(name, aligned=True), data, trains)

    def gold(self, name: str, *, aligned: bool) -> GoldStandard:
        """Gold standard by name, in the names of the model."""
        if (name, aligned) not in self._golds:
            read = self.config.golds[name].read(self.data or Path())
            self._golds[name, aligned] = read.align(self.model.vocab) if aligned else read
        return self._golds[name, aligned]

    def dataset(self, dataset: Dataset, scope: str) -> Iterator[list[dict[str, Any]]]:
        """Parts of one data set, from disk or computed."""
        if not any(self.config.golds[name].scope == scope for name in dataset.golds):
            return
        index = self.out / _PARTS / f"{_safe(dataset.name)}.{scope}.json"
        wanted = [method.name for method in self.config.methods]
        if index.is_file():
            groups = _read(index)
            kept = {(g, m): self._kept(dataset, scope, g, m) for g in groups for m in wanted}
            if all(part is not None for part in kept.values()):
                yield from (part for part in kept.values() if part is not None)
                return
        groups = []
        for task, judged in self._tasks(dataset, scope):
            groups.append(task.group)
            with tqdm(self.config.methods, desc=f"{task.dataset}, {task.group}", unit="method", disable=None) as bar:
                for method in bar:
                    bar.set_postfix_str(method.name)
                    yield self._kept(dataset, scope, task.group, method.name) or self._part(task, judged, method, scope)
        _write(index, groups)

    def hubs(self, dataset: Dataset) -> list[dict[str, Any]]:
        """Enrichment of the hubs of a data set of blood cells, from disk or computed."""
        markers = (self.data or Path()) / MARKERS
        methods = [one for one in self.config.methods if one.symmetric and not one.per_gold and not one.slow]
        if not dataset.blood or not methods or not markers.is_file():
            return []
        path = self.out / _PARTS / f"{_safe(dataset.name)}.hubs.json"
        rows: list[dict[str, Any]] = _read(path) if path.is_file() else []
        known = {row["method"] for row in rows}
        if missing := [one for one in methods if one.name not in known]:
            factors = set(self.model.vocab.symbols[self.model.vocab.is_tf])
            for task, judged in self._tasks(dataset, "tf"):
                bound = next((universe for gold, universe in judged if gold.name == "encode"), None)
                rows += hub_rows(task, missing, factors=factors, markers=read_markers(markers), bound=bound)
            _write(path, rows)
        return rows

    def _tasks(self, dataset: Dataset, scope: str) -> Iterator[tuple[Task, Judged]]:
        try:
            adata = dataset.read(self.data or Path())
        except FileNotFoundError as error:
            if self.data is None:
                raise
            msg = (
                f"{error} The folder of --data, here {self.data}, has data sets in scrna/, mccalla/ and beeline/ and "
                "gold standards in networks/, mccalla/ and beeline/; `grnlab benchmark --list` names them. For cells "
                "of your own give --h5ad and --gold."
            )
            raise FileNotFoundError(msg) from error
        golds = {name: self.gold(name, aligned=not dataset.adapted) for name in dataset.golds}
        return tasks_of(dataset, adata, golds, scope=scope, model=self.model, config=self.config, fitted=self.fitted)

    def _path(self, dataset: str, scope: str, group: str, method: str) -> Path:
        return self.out / _PARTS / f"{_safe(dataset)}.{scope}.{_safe(group)}.{method}.json"

    def _kept(self, dataset: Dataset, scope: str, group: str, method: str) -> list[dict[str, Any]] | None:
        path = self._path(dataset.name, scope, group, method)
        if not path.is_file():
            return None
        rows: list[dict[str, Any]] = _read(path)
        return None if any(row["error"] and not row["error"].startswith(_NOT) for row in rows) else rows

    def _part(self, task: Task, judged: Judged, method: Method, scope: str) -> list[dict[str, Any]]:
        rows = _rows(task, judged, method)
        for row in rows:
            row["scope"] = scope
        _write(self._path(task.dataset, scope, task.group, method.name), rows)
        return rows


def _rows(task: Task, judged: Judged, method: Method) -> list[dict[str, Any]]:
    """Rows of one method on one group: one per gold standard."""
    if method.per_gold:
        alone = [(task.judged_by(gold, universe), [(gold, universe)]) for gold, universe in judged]
        return [row for narrowed, one in alone for row in _attempt(narrowed, one, method)]
    return _attempt(task, judged, method)


def _attempt(task: Task, judged: Judged, method: Method) -> list[dict[str, Any]]:
    error, cost = "", Cost()
    try:
        if method.prepare is not None:
            method.prepare(task)
        with task.shared.method() as cost:
            scores = method.score(task)
        swapped = task.reversed() if method.reversible else None
        backward = None if swapped is None else method.score(swapped).T
        return [
            _described(task, gold, universe, method, cost)
            | _judge(task, universe, scores, scores if method.symmetric else backward)
            | {"error": ""}
            for gold, universe in judged
        ]
    except NotApplicableError as reason:
        error = f"{_NOT}: {reason}"
    except Exception as failure:  # noqa: BLE001 - whatever a method does must not cost the other methods their rows
        logger.warning("%s failed on %s, %s: %s", method.name, task.dataset, task.group, failure)
        error = f"{type(failure).__name__}: {failure}"
    return [_described(task, gold, universe, method, cost) | {"error": error} for gold, universe in judged]


def _described(task: Task, gold: GoldStandard, universe: Universe, method: Method, cost: Cost) -> dict[str, Any]:
    return {
        "dataset": task.dataset,
        "group": task.group,
        "gold": gold.name,
        "method": method.name,
        "kind": method.kind,
        "adapted": task.adapted,
        "n_cells": task.cells.n_obs,
        "n_genes": len(task.genes),
        "n_regulators": len(universe.regulators),
        "n_targets": len(universe.targets),
        "n_candidates": universe.n_candidates,
        "n_true": universe.n_true,
        "base_rate": universe.base_rate,
        "cpu_s": round(cost.cpu_s, 3),
        "peak_mb": round(cost.peak_mb, 1),
    }


def _judge(task: Task, universe: Universe, scores: np.ndarray, backward: np.ndarray | None) -> dict[str, Any]:
    """Scores of one ranking, and of the opposite direction where that is known."""
    place = np.searchsorted(task.regulators, universe.regulators), np.searchsorted(task.targets, universe.targets)
    own = np.asarray(scores, dtype=np.float64)[np.ix_(*place)]
    unscored = np.isnan(own) & universe.candidate_RT
    own = np.nan_to_num(own, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    found = score_universe(universe, own)
    names = ("auprc", "auprc_ratio", "auprc_trapezoid", "epr", "epr_odds", "auroc")
    row = {name: getattr(found, name) for name in names}
    each = regulator_auroc(universe, own)
    row |= {"per_tf_auroc": float(each.mean()) if len(each) else float("nan"), "n_tf_scored": len(each)}
    row["unscored"] = float(unscored.sum() / universe.n_candidates)
    if backward is not None:
        other = score_universe(universe, np.nan_to_num(np.asarray(backward, np.float64)[np.ix_(*place)], nan=-np.inf))
        row |= {"auprc_ratio_reversed": other.auprc_ratio, "epr_reversed": other.epr}
    return row


def _settle(out: Path, model: Any, config: BenchmarkConfig) -> None:
    """Refuse a folder that holds other things, or a run with other settings."""
    settings = {
        "model": model.name,
        "weights_sha256": getattr(model, "weights_hash", ""),
        "n_genes": config.n_genes,
        "min_cells": config.min_cells,
        "adapt_steps": config.adapt_steps,
        "seed": config.seed,
        "datasets": {one.name: _judged_alike(one) for one in config.datasets},
    }
    path = out / _SETTINGS
    if path.is_file() and (out / _PARTS).is_dir():  # without a part, nothing holds to the settings
        earlier = _read(path)
        if not isinstance(earlier, dict) or not isinstance(earlier.get("datasets"), dict):
            msg = f"{path} is not the settings of a benchmark; restore it, or choose another --out."
            raise ValueError(msg)
        for name, value in settings.items():
            known: Any = earlier.get(name)
            if name == "datasets":  # others may be added, the same ones must be judged alike
                differs = any(known.get(one, what) != what for one, what in value.items())
            else:
                differs = known != value
            if differs:
                msg = f"--out {out} holds a run with {name}={known!r}, now it is {value!r}; choose another folder."
                raise ValueError(msg)
        settings["datasets"] = {**earlier["datasets"], **settings["datasets"]}
    elif out.exists() and not path.is_file() and (not out.is_dir() or any(out.iterdir())):
        msg = f"--out {out} exists and is not the folder of an earlier benchmark; choose another."
        raise ValueError(msg)
    _write(path, settings | {"grnlab": __version__})


def _judged_alike(dataset: Dataset) -> list[Any]:
    """What must stay the same for the parts of a data set to be used again."""
    own = [dataset.groupby, dataset.digest] if dataset.digest else []
    return [list(dataset.golds), list(dataset.groups), dataset.pooled, *own]


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except ValueError as error:
        mend = "restore it" if path.name == _SETTINGS else "remove it, and it is computed again"
        msg = f"{path} is damaged ({error}); {mend}, or choose another --out."
        raise ValueError(msg) from error


def _write(path: Path, content: Any) -> None:
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _safe(name: str) -> str:
    """Name as part of a file name; different names stay different."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda match: f"%{ord(match.group()):02x}", name)
