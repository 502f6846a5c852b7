"""Labels of cells by the classes of a model: probabilities at every level, uncertainty, and what is outside.

Shape suffixes: B cells, K leaf labels, L labels of a class.
"""

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from grnlab.attention.prepare import check_backbone
from grnlab.backbones.base import Backbone
from grnlab.data.counts import check_adata
from grnlab.data.groups import cell_groups
from grnlab.tasks._cells import open_cells
from grnlab.tasks._stream import batches, run_cells
from grnlab.tasks.known import KnownCells, builtin_known

logger = logging.getLogger(__name__)
UNKNOWN = "outside"
"""Label of cells that are far from every label the model knows."""
_SURE = 0.5
_CALIBRATED = "distance from known cells"


def annotate(
    adata: ad.AnnData,
    model: Backbone,
    *,
    classes: Collection[str] | None = None,
    groupby: str | None = None,
    top_k: int = 3,
    known: KnownCells | None = None,
    layer: str | None = None,
    out: str | Path | None = None,
) -> None:
    """Write what the model says of every cell, for each class of labels it was trained with.

    For a class ``cell_type``:

    - ``obs["grnlab_cell_type"]``: the label. The most probable leaf if it has half of the probability; else the
      smallest coarse label above it that has; else ``"outside"``. Also ``"outside"`` is a cell farther from all known
      cells than `known` allows.
    - ``obs["grnlab_cell_type_probability"]`` of that label, or of the most probable leaf for ``"outside"``, and
      ``obs["grnlab_cell_type_uncertainty"]``: the entropy of the leaves, from 0 to 1.
    - ``obs["grnlab_cell_type_outside"]``: the distance as a multiple of the threshold; above 1 is outside, NaN where
      the most probable leaf had too few cells to calibrate. Only with a calibration: without one nothing says that a
      cell is of a type the model never learned, and a softmax is often sure of a wrong answer. What was used stands in
      ``uns["grnlab_annotation"]``.
    - ``obsm["grnlab_cell_type"]``: probabilities of all labels, leaves and coarse ones. A table.
    - ``obsm["grnlab_cell_type_top"]``: the `top_k` leaves and their probabilities. A table.
    - ``obs["grnlab_cell_type_voted"]``, with `groupby`: the label most cells of a cluster have.

    Parameters
    ----------
    adata
        Counts, in memory or opened with ``backed="r"``.
    model
        A backbone with classes.
    classes
        Which of them; all by default.
    groupby
        Column of ``obs`` with clusters, for the majority vote.
    top_k
        Number of leaves in the table of the best.
    known
        See :func:`grnlab.tasks.fit_known`; by default what comes with a built-in model, for its class.
    layer
        Layer that holds the counts; ``X`` by default.
    out
        Folder for finished blocks, see :func:`embed`.

    Raises
    ------
    ValueError
        When the model has no classes or not these, `known` is of other weights, `groupby` is no column, or as
        :func:`embed`.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:30].copy()
    >>> gl.tl.annotate(adata, gl.load_model("grnlab-small"), groupby="cell_type")
    >>> adata.obsm["grnlab_cell_type"].shape
    (30, 18)
    """
    check_adata(adata)
    check_backbone(model)
    chosen = _classes(model, classes)
    if top_k < 1:
        msg = f"top_k={top_k} must be at least 1."
        raise ValueError(msg)
    clusters = None if groupby is None else cell_groups(adata, groupby, min_cells=1, skip_small=False)
    known = known if known is not None else builtin_known(getattr(model, "weights_hash", ""))
    _check_known(known, model, chosen)
    arrays = _run(adata, model, chosen, layer=layer, out=out)
    for name in chosen:
        leaves, groups = model.config.classes[name], model.config.groups.get(name, {})  # type: ignore[attr-defined]
        far = None
        if known is not None and known.class_name == name:
            calibrated = np.isin(np.array(leaves)[arrays[f"{name}_logits"].argmax(1)], known.labels)
            far = np.where(calibrated, known.distance(arrays[f"{name}_embedding"]) / known.threshold, np.nan)
        _write(adata, name, arrays[f"{name}_logits"], leaves=leaves, groups=groups, top_k=top_k, far=far)
        if clusters is not None:
            adata.obs[f"grnlab_{name}_voted"] = _vote(adata.obs[f"grnlab_{name}"], clusters)
        elif f"grnlab_{name}_voted" in adata.obs:  # of a run with clusters
            del adata.obs[f"grnlab_{name}_voted"]
    settings: dict[str, Any] = {
        "classes": chosen,
        "groupby": groupby or "",
        "outside": _CALIBRATED if known else "not calibrated",
    }
    settings["calibration"] = {} if known is None else {"class": known.class_name, **known.report}
    adata.uns["grnlab_annotation"] = {"provenance": json.dumps({"model": model.name} | settings)}


def _classes(model: Any, classes: Collection[str] | None) -> list[str]:
    there = list(getattr(getattr(model, "config", None), "classes", ()))
    if not there or not hasattr(model, "classify"):
        msg = f"{getattr(model, 'name', model)!r:.80} has no classes to annotate by; load a model trained with labels."
        raise ValueError(msg)
    chosen = there if classes is None else list(dict.fromkeys([classes] if isinstance(classes, str) else classes))
    if not chosen:
        msg = f"classes is empty; name some of {there}, or leave it out for all."
        raise ValueError(msg)
    if strange := [name for name in chosen if name not in there]:
        msg = f"classes={strange} are not among those of {model.name!r}, which are {there}."
        raise ValueError(msg)
    return chosen


def _check_known(known: KnownCells | None, model: Any, classes: Collection[str]) -> None:
    if known is None:
        logger.warning("%s has no calibration: cells of types it never learned are not told apart", model.name)
        return
    weights = getattr(model, "weights_hash", "")
    if known.weights_sha256 != weights:
        msg = (
            f"known was made with weights {known.weights_sha256[:12]!r}, the model has {weights[:12]!r}; make it again "
            "with grnlab.tasks.fit_known."
        )
        raise ValueError(msg)
    if known.class_name not in model.config.classes:
        msg = f"known is about the class {known.class_name!r}; the model has {list(model.config.classes)}."
        raise ValueError(msg)
    if known.class_name not in classes:
        logger.warning("known is about the class %r, which is not asked for", known.class_name)


def _run(
    adata: ad.AnnData, model: Any, classes: list[str], *, layer: str | None, out: str | Path | None
) -> dict[str, np.ndarray]:
    """Logits and embeddings of each class."""
    cells = open_cells(adata, model, layer=layer)

    def of_block(counts: sp.csr_matrix, rows: slice) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        for within, tokens in batches(model, counts, cells.tokens, cells.totals[rows]):
            encoded = model.encode(tokens)
            logits = model.classify(encoded)
            found = {f"{name}_logits": logits[name] for name in classes}
            found |= {f"{name}_embedding": encoded.classes_BM[name] for name in classes}
            yield within, {name: values.float().cpu().numpy() for name, values in found.items()}

    return run_cells(cells, of_block, desc="annotate", settings={"classes": classes}, out=out)


def _write(
    adata: ad.AnnData,
    name: str,
    logits_BK: np.ndarray,
    *,
    leaves: tuple[str, ...],
    groups: Mapping[str, tuple[str, ...]],
    top_k: int,
    far: np.ndarray | None,
) -> None:
    """Write the slots of a class."""
    leaf_BK = _softmax(np.asarray(logits_BK, dtype=np.float64))
    members = [[leaves.index(leaf) for leaf in group] for group in groups.values()]
    group_BG = np.stack([leaf_BK[:, one].sum(1) for one in members], axis=1) if members else np.empty((len(leaf_BK), 0))
    labels = np.array([*leaves, *groups], dtype=object)
    all_BL = np.concatenate([leaf_BK, group_BG], axis=1)
    code_B = _decide(leaf_BK, group_BG, members)
    if far is not None:
        code_B = np.where(far > 1, -1, code_B)
    probability = np.where(code_B >= 0, all_BL[np.arange(len(all_BL)), code_B], leaf_BK.max(1))
    key = f"grnlab_{name}"
    entropy = -(leaf_BK * np.log(np.maximum(leaf_BK, 1e-300))).sum(1) / max(np.log(len(leaves)), 1e-12)
    adata.obs[key] = pd.Categorical(np.where(code_B >= 0, labels[code_B], UNKNOWN))
    adata.obs[f"{key}_probability"] = probability
    adata.obs[f"{key}_uncertainty"] = entropy
    if far is not None:
        adata.obs[f"{key}_outside"] = far
    elif f"{key}_outside" in adata.obs:  # of a run with a calibration
        del adata.obs[f"{key}_outside"]
    adata.obsm[key] = pd.DataFrame(all_BL, index=adata.obs_names, columns=labels.astype(str))
    best_BT = np.argsort(-leaf_BK, axis=1, kind="stable")[:, :top_k]
    top = {}
    for rank, code in enumerate(best_BT.T, start=1):
        top[f"label_{rank}"] = pd.Categorical(labels[code])
        top[f"probability_{rank}"] = leaf_BK[np.arange(len(code)), code]
    adata.obsm[f"{key}_top"] = pd.DataFrame(top, index=adata.obs_names)


def _decide(leaf_BK: np.ndarray, group_BG: np.ndarray, members: list[list[int]]) -> np.ndarray:
    """Code of the label of each cell: the best leaf, else the smallest sure group it belongs to, else -1."""
    best_B = leaf_BK.argmax(1)
    code_B = np.where(leaf_BK.max(1) >= _SURE, best_B, -1)
    for group in sorted(range(len(members)), key=lambda one: len(members[one])):
        fits_B = (code_B < 0) & (group_BG[:, group] >= _SURE) & np.isin(best_B, members[group])
        code_B[fits_B] = leaf_BK.shape[1] + group
    return code_B


def _vote(labels: pd.Series, clusters: Mapping[str, np.ndarray]) -> pd.Categorical:
    """The label most cells of each cluster have; the first by name of those equally common."""
    voted = np.full(len(labels), None, dtype=object)
    for cells in clusters.values():
        voted[cells] = labels.iloc[cells].astype(str).mode().iloc[0]
    return pd.Categorical(voted)


def _softmax(logits_BK: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits_BK - logits_BK.max(1, keepdims=True))
    return exponential / exponential.sum(1, keepdims=True)
