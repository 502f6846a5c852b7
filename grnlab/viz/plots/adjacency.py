"""The network as a matrix, genes in the order of their communities."""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from grnlab._optional import require
from grnlab.network import GeneNetwork
from grnlab.viz.plots.style import check_network, check_top, new_axes, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMED = 60  # more genes than this go unnamed


def adjacency(
    network: GeneNetwork, *, n_top: int = 50, resolution: float = 1.0, seed: int = 0, ax: "Axes | None" = None
) -> "Axes":
    """Heat map of edge weights among the most connected genes, ordered by community.

    A row is a regulator, a column a target; white is no edge. Lines part the communities (those of
    ``network.communities()``), whose numbers stand above.

    Parameters
    ----------
    network
        A `GeneNetwork`.
    n_top
        Number of genes: those with the largest summed weight of edges in and out.
    resolution, seed
        Passed to ``network.communities()``.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn into; the image is ``ax.images[0]``.

    Raises
    ------
    ValueError
        When the network has no edge, or `n_top` is below one.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import pandas as pd
    >>> from grnlab.network import GeneNetwork
    >>> genes = pd.DataFrame(index=pd.Index(["SPI1", "LYZ"], name="gene"))
    >>> edges = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [0.4]})
    >>> ax = adjacency(GeneNetwork(edges, genes, name="monocyte"))
    >>> ax.images[0].get_array().filled(0).tolist()
    [[0.0, 0.0], [0.4, 0.0]]
    """
    check_network(network)
    check_top(n_top, argument="n_top")
    if not len(network.edges):
        msg = f"network {network.name!r} has no edge, so its matrix is empty. Infer it with a larger top_k."
        raise ValueError(msg)
    hubs = network.hubs(by="strength")
    shown = hubs.index[hubs["degree"] > 0][:n_top]
    member = network.communities(resolution=resolution, seed=seed).membership.loc[shown].to_numpy()
    order = np.argsort(member, kind="stable")  # within a community the most connected first
    shown, member = shown[order], member[order]
    matrix = np.ma.masked_all((len(shown), len(shown)))
    source, target = (shown.get_indexer(network.edges[end]) for end in ("source", "target"))
    inside = (source >= 0) & (target >= 0)
    matrix[source[inside], target[inside]] = network.edges["weight"].to_numpy()[inside]

    side = 0.13 * min(len(shown), _NAMED) + 0.8  # inches
    ax = new_axes(ax, height=side + 1.6, width=side + 2.4)
    weights = matrix.compressed()
    signed = bool(len(weights) and weights.min() < 0)
    most = float(np.abs(weights).max()) if len(weights) else 1.0
    mpl = require("matplotlib", install="matplotlib", purpose="to plot")
    seen = mpl.colormaps["YlGnBu"](np.linspace(0.2, 1, 256))  # without its palest end: no edge is white
    image = ax.imshow(
        matrix,
        cmap="RdBu_r" if signed else mpl.colors.ListedColormap(seen),
        vmin=-most if signed else 0.0,
        vmax=most,
        interpolation="none",
    )
    starts = np.flatnonzero(np.diff(member)) + 0.5
    for line in starts:
        ax.axhline(line, color="0.35", linewidth=0.6)
        ax.axvline(line, color="0.35", linewidth=0.6)
    edges = np.concatenate([[-0.5], starts, [len(shown) - 0.5]])
    for low, high in pairwise(edges):
        ax.text((low + high) / 2, -0.9, str(member[int(high - 0.5)]), ha="center", va="bottom", fontsize=8)
    if len(shown) <= _NAMED:
        names = [short(name, 16) for name in shown]
        ax.set_xticks(np.arange(len(shown)), names, rotation=90, fontsize=6.5, parse_math=False)
        ax.set_yticks(np.arange(len(shown)), names, fontsize=6.5, parse_math=False)
    else:
        ax.set(xticks=[], yticks=[])
    ax.tick_params(length=0)
    ax.set_xlabel("target")
    ax.set_ylabel("regulator")
    ax.set_title(f"{short(network.name, 40)}: weights by community", parse_math=False, pad=18)
    pyplot = require("matplotlib.pyplot", install="matplotlib", purpose="to plot")
    pyplot.colorbar(image, ax=ax, label="weight", shrink=0.6)
    return ax
