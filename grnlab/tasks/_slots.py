"""Where a task may write: a slot that something else filled is not overwritten."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import anndata as ad

from grnlab._reading import parse_json
from grnlab.data.counts import check_adata


def check_slots(
    adata: ad.AnnData,
    key: str,
    *,
    task: str,
    layers: Sequence[str] = (),
    obsm: Sequence[str] = (),
    counts: str | None = None,
    argument: str = "key",
) -> None:
    """Refuse to write where something else stands; what the same task wrote under the same key is made anew.

    Parameters
    ----------
    adata
        Where the results go.
    key
        Name of what says where the results came from, in ``uns``, and of the column of ``var``.
    task
        Which ``uns[key]`` then names.
    layers, obsm
        Slots to write.
    counts
        Layer the counts are read from.
    argument
        What the caller calls `key`.

    Raises
    ------
    ValueError
        When `adata` is none, `key` is no name, or a slot is taken, or holds the counts themselves.
    """
    check_adata(adata)
    if not isinstance(key, str) or not key or "/" in key:
        msg = f"{argument}={key!r} must be a name without '/'."
        raise ValueError(msg)
    if counts in layers:
        msg = f"{argument}={key!r} would overwrite the counts, which are read from layer={counts!r}; choose another."
        raise ValueError(msg)
    if _provenance_of(adata, key).get("task") == task:
        return
    taken = [f"adata.layers[{name!r}]" for name in layers if name in adata.layers]
    taken += [f"adata.obsm[{name!r}]" for name in obsm if name in adata.obsm]
    taken += [f"adata.var[{key!r}]"] if layers and key in adata.var else []
    taken += [f"adata.uns[{key!r}]"] if key in adata.uns else []
    if taken:
        msg = f"{argument}={key!r} would overwrite {', '.join(taken)}; choose another {argument}, or delete it first."
        raise ValueError(msg)


def sign_slots(
    adata: ad.AnnData,
    key: str,
    provenance: Mapping[str, Any],
    *,
    layers: Sequence[str] = (),
    obsm: Sequence[str] = (),
) -> None:
    """Write where the results came from, and remove what the former run of the same task wrote and this one did not.

    Parameters
    ----------
    adata, key, layers, obsm
        As in :func:`check_slots`.
    provenance
        With ``"task"``.
    """
    before = _provenance_of(adata, key)
    if before.get("task") == provenance["task"]:
        for slots, written, name in ((adata.layers, layers, "layers"), (adata.obsm, obsm, "obsm")):
            for slot in set(before.get(name, ())) - set(written):
                slots.pop(slot, None)
    signed = dict(provenance) | {"layers": list(layers), "obsm": list(obsm)}
    adata.uns[key] = {"provenance": json.dumps(signed)}


def _provenance_of(adata: ad.AnnData, key: str) -> dict[str, Any]:
    """What a task wrote of itself; nothing where it was no task."""
    try:
        return dict(parse_json(adata.uns[key]["provenance"]))
    except (KeyError, TypeError, ValueError, IndexError):
        return {}
