"""Bars of the strongest hubs, of one network or of two side by side."""

from typing import TYPE_CHECKING

import numpy as np

from grnlab._optional import require
from grnlab.network import GeneNetwork
from grnlab.viz.plots.style import PLAIN, SERIES, TARGET, check_network, check_top, new_axes, plain_spines, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def hub_ranking(
    network: GeneNetwork,
    other: GeneNetwork | None = None,
    *,
    by: str = "pagerank",
    n_top: int = 20,
    ax: "Axes | None" = None,
) -> "Axes":
    """Bar plot of the strongest hubs of a network, beside the same genes of a second one if given.

    Parameters
    ----------
    network
        A `GeneNetwork`; its strongest hubs are shown, transcription factors in colour.
    other
        A second network to compare with: two bars per gene, coloured by network. Genes it lacks have no bar.
    by
        Column of ``network.hubs()`` to rank by.
    n_top
        Largest number of genes shown; where several share the lowest score, they are left out.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn into.

    Raises
    ------
    ValueError
        When `network` is none, `by` is no score of ``network.hubs()``, `n_top` is below one, or a network has no edge.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import pandas as pd
    >>> from grnlab.network import GeneNetwork
    >>> genes = pd.DataFrame(index=pd.Index(["SPI1", "LYZ"], name="gene"))
    >>> edges = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [0.4]})
    >>> ax = hub_ranking(GeneNetwork(edges, genes, name="monocyte"))
    >>> ax.get_title()
    'Hubs of monocyte'
    """
    check_top(n_top, argument="n_top")
    for one in (network,) if other is None else (network, other):
        check_network(one)
        if not len(one.edges):
            msg = f"network {one.name!r} has no edge, so it has no hubs. Infer it with a larger top_k."
            raise ValueError(msg)
    ranked = network.hubs(by=by)[by]
    last = np.isclose(ranked, ranked.min(), rtol=1e-6)  # genes without targets share the lowest PageRank: no hubs
    top = ranked[~last if 1 < last.sum() < len(last) else slice(None)].head(n_top)[::-1]
    places = np.arange(len(top))
    patches = require("matplotlib.patches", install="matplotlib", purpose="to plot")
    if other is None:
        ax = new_axes(ax, height=0.24 * len(top) + 1.0)
        known = network.genes["is_tf"].reindex(top.index) if "is_tf" in network.genes else None
        is_tf = None if known is None else known.fillna(False).astype(bool)
        colours = SERIES[0] if is_tf is None else [TARGET if factor else PLAIN for factor in is_tf]
        ax.barh(places, top.to_numpy(), color=colours, height=0.72)
        names = {} if is_tf is None else {"transcription factor": TARGET, "other gene": PLAIN}
        title = f"Hubs of {short(network.name, 40)}"
    else:
        ax = new_axes(ax, height=0.36 * len(top) + 1.2)
        second = other.hubs(by=by)[by].reindex(top.index)
        ax.barh(places + 0.2, top.to_numpy(), color=SERIES[0], height=0.38)
        ax.barh(places - 0.2, second.to_numpy(dtype=float), color=SERIES[1], height=0.38)
        names = {short(network.name, 30): SERIES[0], short(other.name, 30): SERIES[1]}
        title = f"Hubs of {short(network.name, 26)}, beside {short(other.name, 26)}"
    ax.set_yticks(places, [short(name) for name in top.index], parse_math=False)
    ax.set_xlabel(by.replace("_", " "))
    ax.set_title(title, parse_math=False)
    ax.margins(y=0.01)
    plain_spines(ax)
    if names:
        handles = [patches.Patch(color=colour, label=name) for name, colour in names.items()]
        for text in ax.legend(handles=handles, loc="lower right", frameon=False).get_texts():
            text.set_parse_math(False)
    return ax
