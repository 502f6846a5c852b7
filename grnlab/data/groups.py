"""Which cells of an AnnData make up which group."""

import difflib
import logging

import anndata as ad
import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)


def cell_groups(adata: ad.AnnData, groupby: str | None, *, min_cells: int, skip_small: bool) -> dict[str, np.ndarray]:
    """Cells of each group, by the values of a column of ``adata.obs``.

    Parameters
    ----------
    adata
        Cells.
    groupby
        Column; None for one group ``"all"``. Cells without a value are left out.
    min_cells
        Groups with fewer cells are an error.
    skip_small
        Leave small groups out with a warning in the log instead.

    Returns
    -------
    Name → numbers of its cells, names sorted.

    Raises
    ------
    ValueError
        When there is no such column, a group (or all cells, without `groupby`) is too small, or a label is empty or no
        UTF-8 text.
    """
    return groups_of(adata.obs, groupby, min_cells=min_cells, skip_small=skip_small)


def groups_of(obs: pd.DataFrame, groupby: str | None, *, min_cells: int, skip_small: bool) -> dict[str, np.ndarray]:
    """As :func:`cell_groups`, from the table of the cells."""
    if groupby is None:
        if len(obs) < min_cells:
            msg = (
                f"adata has {len(obs)} cells, fewer than min_cells={min_cells}. A mean over so few says little; lower "
                "min_cells (--min-cells)."
            )
            raise ValueError(msg)
        return {"all": np.arange(len(obs))}
    if groupby not in obs:
        near = difflib.get_close_matches(groupby, map(str, obs.columns), n=3)
        msg = f"groupby={groupby!r} is not a column of adata.obs; there are {list(map(str, obs.columns))}" + (
            f" (did you mean {near[0]!r}?)." if near else "."
        )
        raise ValueError(msg)
    codes, values = pd.factorize(obs[groupby])
    if (codes < 0).any():
        logger.warning("%d cells have no %s and are left out", int((codes < 0).sum()), groupby)
    names, name_of_value = np.unique(np.array([str(value) for value in values], dtype=object), return_inverse=True)
    codes = np.where(codes < 0, -1, np.append(name_of_value, -1)[codes])  # a label 1 and a label "1" are one group
    order = np.argsort(codes, kind="stable")
    places = np.searchsorted(codes[order], np.arange(len(names) + 1))
    groups = {str(name): order[places[number] : places[number + 1]] for number, name in enumerate(names)}
    small = {name: len(cells) for name, cells in groups.items() if len(cells) < min_cells}
    if small and not skip_small:
        shown = ", ".join(f"{name!r} ({size})" for name, size in list(small.items())[:5])
        msg = (
            f"{len(small)} of {len(groups)} groups of {groupby!r} have fewer than {min_cells} cells: {shown}. "
            "A mean over so few says little. Leave them out with skip_small=True (--skip-small), or lower min_cells "
            "(--min-cells)."
        )
        raise ValueError(msg)
    if len(small) == len(groups):
        msg = f"no group of {groupby!r} has min_cells={min_cells} cells; lower min_cells or choose another column."
        raise ValueError(msg)
    if unnamed := [name for name in groups if name not in small and not _is_name(name)]:
        msg = (
            f"groupby={groupby!r} has the label {unnamed[0]!r} for {len(groups[unnamed[0]])} cells, which cannot name "
            "a group; name it, or set it missing (None) to leave these cells out."
        )
        raise ValueError(msg)
    if small:
        logger.warning("groups with fewer than %d cells are left out: %s", min_cells, ", ".join(small))
    return {name: cells for name, cells in groups.items() if name not in small}


def _is_name(text: str) -> bool:
    """Whether a text names something in a file: not empty, and UTF-8."""
    return bool(text.strip()) and text.encode("utf-8", "ignore").decode("utf-8") == text
