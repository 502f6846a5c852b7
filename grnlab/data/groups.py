"""Which cells of an AnnData make up which group."""

import difflib
import logging

import anndata as ad
import numpy as np

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
        When there is no such column, or a group is too small.
    """
    if groupby is None:
        return {"all": np.arange(adata.n_obs)}
    if groupby not in adata.obs:
        near = difflib.get_close_matches(groupby, map(str, adata.obs.columns), n=3)
        msg = f"groupby={groupby!r} is not a column of adata.obs; there are {list(map(str, adata.obs.columns))}" + (
            f" (did you mean {near[0]!r}?)." if near else "."
        )
        raise ValueError(msg)
    labels = adata.obs[groupby]
    if labels.isna().any():
        logger.warning("%d cells have no %s and are left out", int(labels.isna().sum()), groupby)
    text = labels.astype(object).map(str, na_action="ignore")  # a label 1 and a label "1" are one group
    groups = {name: np.flatnonzero(text == name) for name in sorted(text.dropna().unique())}
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
    if small:
        logger.warning("groups with fewer than %d cells are left out: %s", min_cells, ", ".join(small))
    return {name: cells for name, cells in groups.items() if name not in small}
