"""Enriched gene sets as dots: who, what, how many genes, how surely."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from grnlab._optional import require
from grnlab.viz.plots.style import check_top, new_axes, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST = 1e-300  # adjusted p-values of 0 are shown as this


def enrichment_dots(table: pd.DataFrame, *, n_top: int = 5, max_padj: float = 0.05, ax: "Axes | None" = None) -> "Axes":
    """Dot plot of an enrichment table: groups across, gene sets down, size by shared genes, colour by significance.

    Parameters
    ----------
    table
        What ``network.enrich()`` returns.
    n_top
        Gene sets per group, the most significant first; a set picked for one group is shown for all.
    max_padj
        Largest adjusted p-value that picks a gene set, and that is drawn.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn into; the dots are ``ax.collections[0]``.

    Raises
    ------
    ValueError
        When the table lacks a column, `n_top` is below one, or no gene set has an adjusted p-value up to `max_padj`.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> table = pd.DataFrame({"group": [0, 1], "term": ["B cell", "T cell"], "overlap": [4, 3], "padj": [1e-4, 1e-2]})
    >>> ax = enrichment_dots(table)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['T cell', 'B cell']
    """
    check_top(n_top, argument="n_top")
    missing = [column for column in ("group", "term", "overlap", "padj") if column not in table]
    if missing:
        msg = f"table has no column {missing[0]!r}; give the table that network.enrich() returns."
        raise ValueError(msg)
    kept = table[table["padj"] <= max_padj].sort_values("padj", kind="stable")
    if not len(kept):
        lowest = f"the lowest is {table['padj'].min():.3g}" if len(table) else "the table is empty"
        msg = f"no gene set has an adjusted p-value up to max_padj={max_padj}; {lowest}. Raise max_padj to see more."
        raise ValueError(msg)
    groups = sorted(kept["group"].unique(), key=lambda group: (isinstance(group, str), group))
    picked = kept.groupby("group", sort=False).head(n_top)
    place = {group: number for number, group in enumerate(groups)}
    # sets in the order of the groups they are strongest in, so that dots run down a diagonal
    best = picked.drop_duplicates("term")
    terms = best.assign(at=best["group"].map(place)).sort_values(["at", "padj"], kind="stable")["term"].tolist()[::-1]
    shown = kept[kept["term"].isin(terms)].drop_duplicates(["group", "term"])

    ax = new_axes(ax, height=0.3 * len(terms) + 2.2, width=0.55 * len(groups) + 5.2)
    overlap = shown["overlap"].to_numpy(dtype=float)
    area = 220 / max(float(overlap.max()), 1.0)
    dots = ax.scatter(
        shown["group"].map(place),
        shown["term"].map({term: number for number, term in enumerate(terms)}),
        s=overlap * area,
        c=-np.log10(np.maximum(shown["padj"].to_numpy(dtype=float), _SMALLEST)),
        cmap="viridis_r",
        edgecolors="0.25",
        linewidths=0.5,
    )
    names = [short(group, 18) for group in groups]
    long = max(map(len, names)) > 4
    ax.set_xticks(np.arange(len(groups)), names, rotation=40 if long else 0, ha="right" if long else "center")
    for label in ax.get_xticklabels():
        label.set(parse_math=False, rotation_mode="anchor" if long else "default")
    ax.set_yticks(np.arange(len(terms)), [short(term, 40) for term in terms], parse_math=False)
    ax.set(xlim=(-0.6, len(groups) - 0.4), ylim=(-0.6, len(terms) - 0.4), xlabel="group")
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    pyplot = require("matplotlib.pyplot", install="matplotlib", purpose="to plot")
    pyplot.colorbar(dots, ax=ax, label="−log10 adjusted p", location="bottom", shrink=0.6, aspect=30)
    sizes = np.unique(np.rint(np.quantile(overlap, [0, 0.5, 1])).astype(int))
    handles = [
        ax.scatter([], [], s=size * area, color="0.6", edgecolors="0.25", linewidths=0.5, label=str(size))
        for size in sizes
    ]
    ax.legend(handles=handles, title="genes", frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), labelspacing=1)
    return ax
