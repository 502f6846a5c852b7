"""Head atlas: a score of every attention head on the grid of layers and heads."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from grnlab._optional import require
from grnlab.viz.plots.style import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WRITTEN = 128  # up to so many heads carry their number


def head_atlas(
    scores: Any, *, by: str | None = None, chance: float | None = None, label: str = "score", ax: "Axes | None" = None
) -> "Axes":
    """Heat map of a score per attention head: a row per layer (the first at the bottom), a column per head.

    Parameters
    ----------
    scores
        Numbers of shape (n_layers, n_heads) (array, nested list or tensor; NaN is left blank), or a table with the
        columns ``layer``, ``head`` and the one named by `by`.
    by
        Column of the table to show.
    chance
        Score of chance, for example the base rate or an AUPRC ratio of 1: colours then part there.
    label
        What the score is called.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn into; the image is ``ax.images[0]``.

    Raises
    ------
    ValueError
        When `scores` is not two-dimensional, holds no number, or the table lacks a column or repeats a head.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> ax = head_atlas([[0.9, 1.4], [1.1, 2.0]], chance=1.0, label="AUPRC ratio")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('head', 'layer')
    """
    grid = _grid_of_table(scores, by) if isinstance(scores, pd.DataFrame) else _grid(scores)
    if not np.isfinite(grid).any():
        msg = "scores holds no finite number, so there is nothing to show."
        raise ValueError(msg)
    n_layers, n_heads = grid.shape
    ax = new_axes(ax, height=0.42 * n_layers + 1.6, width=0.55 * n_heads + 2.4)
    low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
    if chance is not None:
        reach = max(high - chance, chance - low) or 1.0
        low, high = chance - reach, chance + reach
    image = ax.imshow(
        np.ma.masked_invalid(grid),
        origin="lower",
        aspect="auto",
        cmap="viridis" if chance is None else "RdBu_r",
        vmin=low,
        vmax=high,
    )
    if grid.size <= _WRITTEN:
        for layer, head in np.argwhere(np.isfinite(grid)):
            red, green, blue, _ = image.cmap(image.norm(grid[layer, head]))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            colour = "white" if dark else "black"
            ax.text(head, layer, f"{grid[layer, head]:.2g}", ha="center", va="center", color=colour, fontsize=8)
    ax.set_xticks(np.arange(n_heads))
    ax.set_yticks(np.arange(n_layers))
    ax.set_xlabel("head")
    ax.set_ylabel("layer")
    ax.tick_params(length=0)
    pyplot = require("matplotlib.pyplot", install="matplotlib", purpose="to plot")
    bar = pyplot.colorbar(image, ax=ax, label=label)
    if chance is not None:
        bar.ax.axhline(chance, color="black", linewidth=1)
    return ax


def _grid(scores: Any) -> np.ndarray:
    grid = np.asarray(scores.detach().cpu() if hasattr(scores, "detach") else scores, dtype=float)
    if grid.ndim != 2 or not grid.size:
        msg = f"scores must have the shape (n_layers, n_heads), got shape {grid.shape}. Give one number per head."
        raise ValueError(msg)
    return grid


def _grid_of_table(table: pd.DataFrame, by: str | None) -> np.ndarray:
    missing = [column for column in ("layer", "head", by) if column not in table]
    if missing:
        msg = f"scores has no column {missing[0]!r} (it has {', '.join(map(repr, table))}); name the score with by=."
        raise ValueError(msg)
    if table.duplicated(["layer", "head"]).any():
        msg = "scores has a head twice; give one row per layer and head."
        raise ValueError(msg)
    layer, head = (table[column].to_numpy(dtype=np.int64) for column in ("layer", "head"))
    grid = np.full((int(layer.max(initial=-1)) + 1, int(head.max(initial=-1)) + 1), np.nan)
    grid[layer, head] = table[by].to_numpy(dtype=float)
    return _grid(grid)
