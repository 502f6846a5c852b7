"""The page inside a notebook: a sandboxed frame that carries everything it shows."""

import html
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from grnlab._files import atomic_file
from grnlab.network import GeneNetwork
from grnlab.viz.page import check_path, render_page


class PageView:
    """A page that notebooks show inline (Jupyter, VS Code, Colab); made by `show`.

    Attributes
    ----------
    html
        The whole page.
    height
        Height of the frame in pixels.

    Notes
    -----
    The page sits in ``<iframe sandbox="allow-scripts allow-downloads" srcdoc="...">``: its scripts run, and reach
    neither the notebook nor any server.
    """

    __slots__ = ("height", "html")

    def __init__(self, page: str, *, height: int = 720) -> None:
        if height < 1:
            msg = f"height must be at least 1 pixel, got {height}. Leave it out for 720."
            raise ValueError(msg)
        self.html = page
        self.height = int(height)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the page to a file; errors as in `write_page`."""
        path = check_path(path)
        with atomic_file(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(self.html.encode("utf-8", errors="replace"))
        return path

    def __repr__(self) -> str:
        return f"PageView({len(self.html) / 1e6:.1f} MB; shown inline by a notebook, or save it with .save('net.html'))"

    def _repr_html_(self) -> str:
        return (
            f'<iframe sandbox="allow-scripts allow-downloads" title="Gene network" width="100%" height="{self.height}" '
            f'style="border: 0" srcdoc="{html.escape(self.html, quote=True)}"></iframe>'
        )


def show(
    networks: Mapping[str, GeneNetwork] | GeneNetwork,
    *,
    enrichment: Mapping[str, pd.DataFrame] | pd.DataFrame | None = None,
    max_edges: int = 10_000,
    max_nodes: int = 2_000,
    seed: int = 0,
    title: str | None = None,
    height: int = 720,
) -> PageView:
    """Show networks as an interactive page inside a notebook.

    The page is that of `write_page`, in a sandboxed frame that needs no server and no extension. It is kept inside the
    notebook file, so it holds less than a page of its own by default.

    Parameters
    ----------
    networks
        A `NetworkSet`, or one `GeneNetwork`.
    enrichment, max_edges, max_nodes, seed, title
        As in `write_page`.
    height
        Height of the frame in pixels.

    Returns
    -------
    PageView
        What a notebook shows when it is the last line of a cell; ``.save(path)`` writes it to a file.

    Raises
    ------
    ValueError
        As in `write_page`, or when `height` is below one.

    Examples
    --------
    >>> import pandas as pd
    >>> from grnlab.network import GeneNetwork
    >>> genes = pd.DataFrame(index=pd.Index(["SPI1", "LYZ"], name="gene"))
    >>> edges = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [0.4]})
    >>> view = show(GeneNetwork(edges, genes, name="monocyte"))
    >>> view._repr_html_()[:52]
    '<iframe sandbox="allow-scripts allow-downloads" titl'
    """
    page = render_page(
        networks, enrichment=enrichment, max_edges=max_edges, max_nodes=max_nodes, seed=seed, title=title
    )
    return PageView(page, height=height)
