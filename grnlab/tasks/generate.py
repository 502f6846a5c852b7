"""Profiles of cells as they might be: one class embedding exchanged for that of other cells, the rest kept.

Shape suffixes: B cells, G genes, M model dimension.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch

from grnlab.attention.prepare import check_backbone
from grnlab.backbones.base import Backbone
from grnlab.tasks._cells import AlignedCells
from grnlab.tasks._decode import Embeddings, ProfileDecoder, chunks, embed_to_decode, rows_of
from grnlab.tasks._slots import check_slots
from grnlab.tasks._stream import run_cells

_SURE = 0.5
_MOST_DONORS = 100


def generate(
    adata: ad.AnnData,
    model: Backbone,
    *,
    swap: Mapping[str, str],
    donors: ad.AnnData | None = None,
    share: float = 1.0,
    target_depth: float | None = None,
    layer: str | None = None,
    key: str = "generated",
    out: str | Path | None = None,
) -> None:
    """Write what cells would express with another label: a counterfactual of the model, not an observation.

    The embedding of each class in `swap` becomes the mean of that of donors, cells the model is surest to have the
    label; the embedding of the cell and of all other classes stay, and the decoder of cells makes profiles of the whole
    genome. Written are ``layers["generated"]`` and, to compare with, what the decoder makes of the cells as they are,
    ``layers["generated_reference"]``; both for genes the model knows (``var["generated"]``), the others are 0. How
    much a swap changes depends on how far the class embedding alone holds that label: see the numbers in
    ``docs/tasks.md`` before a swap is read as biology.

    Parameters
    ----------
    adata
        Counts of the cells to change, in memory or opened with ``backed="r"``.
    model
        A backbone with classes and a decoder of cells.
    swap
        Class → label to give, a leaf or a coarse label.
    donors
        Counts with cells of these labels; `adata` itself by default.
    share
        How much of the donors' embedding to take, from 0 to 1.
    target_depth
        Total of a profile; the median total of the cells by default.
    layer
        Layer that holds the counts, of the donors too; ``X`` by default.
    key
        First part of the names of the slots; they must be free, or written by this verb.
    out
        Folder for finished blocks, see :func:`embed`.

    Raises
    ------
    ValueError
        When a class or label is not the model's, no cell is a donor, `share` or `target_depth` is out of range, a slot
        is taken, or as :func:`denoise`.

    Examples
    --------
    >>> import grnlab as gl
    >>> adata = gl.datasets.pbmc68k()[:40].copy()
    >>> gl.tl.generate(adata, gl.load_model("grnlab-small"), swap={"cell_type": "B cell"}, target_depth=10_000)
    >>> adata.layers["generated"].sum(1).round()[:2]
    array([10000., 10000.], dtype=float32)
    """
    check_backbone(model)
    labels = _labels(model, swap)
    if not 0 <= share <= 1:
        msg = f"share={share} must lie between 0 and 1."
        raise ValueError(msg)
    if target_depth is not None and not (np.isfinite(target_depth) and target_depth > 0):
        msg = f"target_depth={target_depth} must be finite and above 0."
        raise ValueError(msg)
    check_slots(adata, key, task="generate", layers=[key, f"{key}_reference"], counts=layer)
    folder = None if out is None else Path(out)
    cells, embeddings = embed_to_decode(adata, model, layer=layer, out=folder and folder / "embed")
    givers, given = cells, embeddings
    if donors is not None:
        givers, given = embed_to_decode(donors, model, layer=layer, out=folder and folder / "donors")
    means = {name: _mean_of_donors(model, given, name, members) for name, members in labels.items()}
    depth = float(np.median(cells.totals)) if target_depth is None else float(target_depth)
    decoder = ProfileDecoder(model, cells.tokens)

    def of_block(counts: sp.csr_matrix, rows: slice) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        for numbers in chunks(rows):
            own = rows_of(embeddings, numbers)
            changed = {
                name: (1 - share) * x_BM + share * means[name.removeprefix("class_")][0]
                if name.removeprefix("class_") in means
                else x_BM
                for name, x_BM in own.items()
            }
            found = {key: _profiles(decoder, changed, cells, adata.n_vars, depth)}
            found[f"{key}_reference"] = _profiles(decoder, own, cells, adata.n_vars, depth)
            yield numbers - rows.start, found

    settings: dict[str, Any] = {"swap": dict(swap), "share": share, "depth": depth, "key": key}
    settings["donors"] = {name: n_donors for name, (_, n_donors) in means.items()}
    settings["donors_sha256"] = givers.identity
    run = settings | {"layout": cells.layout}
    dense = run_cells(cells, of_block, desc="generate", settings=run, out=folder and folder / "generate")
    adata.layers.update(dense)
    adata.var[key] = np.isin(np.arange(adata.n_vars), cells.columns)
    adata.uns[key] = {"provenance": json.dumps(cells.provenance | {"task": "generate"} | settings)}


def _labels(model: Any, swap: Mapping[str, str]) -> dict[str, list[int]]:
    """Class → codes of the leaves of the label it shall have."""
    classes = getattr(getattr(model, "config", None), "classes", {})
    if not swap or not isinstance(swap, Mapping):
        msg = f"swap={swap!r:.60} names no label; give one for one of the classes {list(classes)}, as in "
        msg += "swap={'disease': 'normal'}."
        raise ValueError(msg)
    found = {}
    for name, label in swap.items():
        if name not in classes or not hasattr(model, "classify"):
            msg = f"swap names the class {name!r}; {getattr(model, 'name', model)!r:.60} has {list(classes)}."
            raise ValueError(msg)
        groups = model.config.groups.get(name, {})
        if label not in classes[name] and label not in groups:
            msg = f"swap[{name!r}]={label!r} is no label of the model; it has {[*classes[name], *groups]}."
            raise ValueError(msg)
        found[name] = [classes[name].index(leaf) for leaf in groups.get(label, (label,))]
    return found


def _mean_of_donors(model: Any, embeddings: Embeddings, name: str, members: list[int]) -> tuple[np.ndarray, int]:
    """Mean embedding of a class over the cells that are surest to have the label, and their number."""
    x_BM = np.asarray(embeddings[f"class_{name}"])
    with torch.inference_mode():
        given = torch.from_numpy(np.array(x_BM)).to(getattr(model, "device", torch.device("cpu")))
        probability_B = model.class_decoders[name](given).softmax(-1)[:, members].sum(-1).cpu().numpy()
    best = np.argsort(-probability_B, kind="stable")[:_MOST_DONORS]
    best = best[probability_B[best] >= _SURE]
    if len(best) == 0:
        msg = (
            f"no cell has the label asked for of class {name!r} with a probability of {_SURE} (the highest is "
            f"{probability_B.max():.3f}); give cells that have it as donors."
        )
        raise ValueError(msg)
    return x_BM[best].mean(0), len(best)


def _profiles(
    decoder: ProfileDecoder, embeddings: Embeddings, cells: AlignedCells, n_vars: int, depth: float
) -> np.ndarray:
    """Expected counts of the columns of the data."""
    share_BG = decoder(embeddings).mean_BT.cpu().numpy()
    full = np.zeros((len(share_BG), n_vars), dtype=np.float32)
    full[:, cells.columns] = share_BG * depth
    return full
