"""What the plots share: colours for every kind of colour vision, new axes, names that fit."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from grnlab._optional import require
from grnlab.network import GeneNetwork

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REGULATOR, TARGET, PLAIN = "#0072B2", "#D55E00", "#8A94A3"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999933", "#AA4499")
_TALLEST = 16.0  # inches


def new_axes(ax: "Axes | None", *, height: float, width: float = 6.4) -> "Axes":
    """Give the axes to draw into: those given, or those of a new figure."""
    if ax is not None:
        return ax
    pyplot = require("matplotlib.pyplot", install="matplotlib", purpose="to plot")
    axes: Axes = pyplot.subplots(figsize=(width, min(max(2.0, height), _TALLEST)), layout="constrained")[1]
    return axes


def short(name: Any, length: int = 24) -> str:
    """Cut a name that would not fit; a line of its own stays one line."""
    text = " ".join(str(name).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def check_network(value: Any) -> None:
    """Refuse what is no network, such as a set of them."""
    if not isinstance(value, GeneNetwork):
        names = (
            f" Name one, for example networks[{next(iter(value))!r}]." if isinstance(value, Mapping) and value else ""
        )
        msg = f"network is a {type(value).__name__}; expected a GeneNetwork.{names}"
        raise ValueError(msg)


def check_top(value: int, *, argument: str) -> None:
    """Refuse to show fewer than one."""
    if value < 1:
        msg = f"{argument} must be at least 1, got {value}. Leave it out for the default."
        raise ValueError(msg)


def plain_spines(ax: "Axes") -> None:
    """Keep only the axes that carry numbers."""
    ax.spines[["top", "right"]].set_visible(False)
