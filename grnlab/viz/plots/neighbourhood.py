"""The neighbourhood of one gene: its strongest regulators and targets."""

from typing import TYPE_CHECKING

import numpy as np

from grnlab._optional import require
from grnlab.network import GeneNetwork
from grnlab.network.tables import check_known
from grnlab.viz.plots.style import REGULATOR, TARGET, check_network, new_axes, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def neighbourhood(network: GeneNetwork, gene: str, *, n_top: int = 15, ax: "Axes | None" = None) -> "Axes":
    """One gene with its strongest regulators on the left and targets on the right.

    Line width follows edge weight. A gene that is both regulator and target is drawn on both sides.

    Parameters
    ----------
    network
        A `GeneNetwork`.
    gene
        Name of the gene in the middle.
    n_top
        Number of regulators, and of targets, at most.
    ax
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn into.

    Raises
    ------
    ValueError
        When the gene is not in the network; the message names the nearest ones.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import pandas as pd
    >>> from grnlab.network import GeneNetwork
    >>> genes = pd.DataFrame(index=pd.Index(["SPI1", "LYZ"], name="gene"))
    >>> edges = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [0.4]})
    >>> ax = neighbourhood(GeneNetwork(edges, genes, name="monocyte"), "SPI1")
    >>> [text.get_text() for text in ax.texts]
    ['LYZ', 'SPI1']
    """
    check_network(network)
    check_known([gene], network.genes.index, argument="gene", where=f"network {network.name!r}")
    edges = network.edges.assign(strength=network.edges["weight"].abs())
    regulators = edges[edges["target"] == gene].nlargest(n_top, "strength")
    targets = edges[edges["source"] == gene].nlargest(n_top, "strength")
    rows = max(len(regulators), len(targets), 1)
    ax = new_axes(ax, height=0.27 * rows + 1.2)
    patches = require("matplotlib.patches", install="matplotlib", purpose="to plot")
    widest = max(
        regulators["strength"].max() if len(regulators) else 0.0, targets["strength"].max() if len(targets) else 0.0
    )
    for part, names, side, colour in (
        (regulators, regulators["source"], -1.0, REGULATOR),
        (targets, targets["target"], 1.0, TARGET),
    ):
        for y, name, strength in zip(_rows(len(part)), names, part["strength"], strict=True):
            outer, inner = (side, y), (0.22 * side, 0.12 * np.sign(y) * min(1.0, abs(y)))
            tail, head = (outer, inner) if side < 0 else (inner, outer)
            width = 0.5 + 2.5 * strength / widest if widest else 0.5
            ax.add_patch(
                patches.FancyArrowPatch(
                    tail, head, arrowstyle="-|>", mutation_scale=11, color=colour, linewidth=width, alpha=0.75
                )
            )
            ax.text(1.04 * side, y, short(name), ha="right" if side < 0 else "left", va="center", parse_math=False)
    ax.text(0, 0, short(gene), ha="center", va="center", weight="bold", size="large", parse_math=False)
    half = rows / 2 + 0.5
    ax.set(xlim=(-1.6, 1.6), ylim=(-half, half + 0.6))
    ax.set_title(f"{short(gene)} in {short(network.name, 40)}: regulators → gene → targets", parse_math=False)
    ax.axis("off")
    return ax


def _rows(count: int) -> np.ndarray:
    return (count - 1) / 2 - np.arange(count)
