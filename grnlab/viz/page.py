"""The interactive page: one HTML file that needs nothing but a browser."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from grnlab._files import atomic_file
from grnlab._version import __version__
from grnlab.network import GeneNetwork, NetworkSet
from grnlab.viz.html import asset, fill_template, safe_json, script_policy, trusted
from grnlab.viz.payload import group_payload, jsonable

# Okabe and Ito's colours for every kind of colour vision, then three of Paul Tol's; further communities are grey.
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#F0E442", "#AA4499", "#999933", "#88CCEE")
_SCRIPTS = (
    *("data.js", "table.js", "save.js", "look.js", "force.js", "scene.js", "paint.js", "pointer.js", "pictures.js"),
    *("compare.js", "search.js", "panel.js", "permalink.js", "page.js", "chrome.js"),
)


def write_page(
    networks: Mapping[str, GeneNetwork] | GeneNetwork,
    path: str | Path,
    *,
    enrichment: Mapping[str, pd.DataFrame] | pd.DataFrame | None = None,
    max_edges: int = 50_000,
    max_nodes: int = 5_000,
    seed: int = 0,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write networks as one self-contained interactive HTML page.

    The page opens with the main hubs of a cell type and their strongest targets, and shows more on demand: the
    strongest regulators of every gene, all edges, the neighbourhood of one gene, two cell types side by side. Genes are
    coloured by community or centrality and sized by hub score, transcription factors are diamonds, an arrow runs from
    regulator to target. It has a search, a slider over edge weight, tables (CSV), the drawing as PNG and SVG, and an
    address that keeps what is shown. It sends no request of any kind, and the same networks and seed give the same
    file, byte for byte.

    Parameters
    ----------
    networks
        A `NetworkSet`, or one `GeneNetwork`.
    path
        Where to write, ending in ``.html``.
    enrichment
        Results of ``network.enrich()`` by network name (one table for one network), listed beside the communities.
    max_edges, max_nodes
        How much of a group the page holds at most. Of a larger network it holds the strongest edges of every gene.
    seed
        Seed of communities and layout.
    title
        Heading of the page; by default made from the names of the networks.
    overwrite
        Replace an existing file.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ValueError
        When there is no network to show, a limit is below one, `enrichment` names no network of these, or `path`
        does not end in ``.html``.
    FileExistsError
        When `path` exists and `overwrite` is False.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from grnlab.network import GeneNetwork, NetworkSet
    >>> genes = pd.DataFrame(index=pd.Index(["SPI1", "LYZ"], name="gene"))
    >>> edges = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [0.4]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_page(GeneNetwork(edges, genes, name="monocyte"), folder + "/net.html").name
    'net.html'
    """
    path = check_path(path)
    with atomic_file(path, overwrite=overwrite) as temporary:
        html = render_page(
            networks, enrichment=enrichment, max_edges=max_edges, max_nodes=max_nodes, seed=seed, title=title
        )
        temporary.write_bytes(html.encode("utf-8", errors="replace"))
    return path


def check_path(path: str | Path) -> Path:
    """Refuse a path that a browser would not show as a page."""
    path = Path(path)
    if path.suffix.lower() not in {".html", ".htm"}:
        msg = f"path must end in .html, so that a browser shows it; got {str(path)!r}. Try {path.name + '.html'!r}."
        raise ValueError(msg)
    return path


def render_page(
    networks: Mapping[str, GeneNetwork] | GeneNetwork,
    *,
    enrichment: Mapping[str, pd.DataFrame] | pd.DataFrame | None = None,
    max_edges: int = 50_000,
    max_nodes: int = 5_000,
    seed: int = 0,
    title: str | None = None,
) -> str:
    """Give the page of `write_page` as text.

    Parameters are those of `write_page`.

    Raises
    ------
    ValueError
        When there is no network to show or a limit is below one.
    """
    for name, value in (("max_edges", max_edges), ("max_nodes", max_nodes)):
        if value < 1:
            msg = f"{name} must be at least 1, got {value}. Leave it out for the default."
            raise ValueError(msg)
    listed = _listed(networks)
    tables = _tables(enrichment, listed)
    groups = [
        group_payload(network, max_edges=max_edges, max_nodes=max_nodes, seed=seed, enrichment=tables.get(network.name))
        for network in listed
    ]
    shared = jsonable(networks.provenance or {}) if isinstance(networks, NetworkSet) else {}
    for group in groups:
        group["provenance"] = {**shared, **group["provenance"]}
    title = title or _title(groups)
    meta = {
        "title": title,
        "palette": PALETTE,
        "groups": [_overview(group, network) for group, network in zip(groups, listed, strict=True)],
        "version": __version__,
    }
    return _fill(title=title, meta=safe_json(meta), groups=[safe_json(group) for group in groups])


def _overview(group: dict[str, Any], network: GeneNetwork) -> dict[str, Any]:
    """What the table of cell types says of one."""
    hubs = [str(name) for name in network.hubs(n=3).index] if group["n_edges"] else []
    counts = {key: group[key] for key in ("name", "n_genes", "n_edges")}
    return {**counts, "n_communities": len(group["communities"]), "hubs": hubs}


def _tables(
    enrichment: Mapping[str, pd.DataFrame] | pd.DataFrame | None, networks: list[GeneNetwork]
) -> Mapping[str, pd.DataFrame]:
    names = [network.name for network in networks]
    if isinstance(enrichment, pd.DataFrame):
        if len(names) > 1:
            msg = f"enrichment is one table for {len(names)} networks; give a mapping of network name to table."
            raise ValueError(msg)
        return {names[0]: enrichment}
    unknown = [name for name in enrichment or {} if name not in names]
    if unknown:
        msg = f"enrichment names {unknown[0]!r}, which is no network of these: {', '.join(map(repr, names))}."
        raise ValueError(msg)
    return enrichment or {}


def _listed(networks: Mapping[str, GeneNetwork] | GeneNetwork) -> list[GeneNetwork]:
    """Networks in the order given; a mapping gives its values, a single network itself."""
    if isinstance(networks, GeneNetwork):
        return [networks]
    if not isinstance(networks, Mapping):
        msg = f"networks must be a NetworkSet or a GeneNetwork, got {type(networks).__name__}."
        raise ValueError(msg)
    if not networks:
        msg = "networks holds no network, so there is nothing to show. Infer at least one group first."
        raise ValueError(msg)
    return list(networks.values())


def _title(groups: list[dict[str, Any]]) -> str:
    return f"Gene network: {groups[0]['name']}" if len(groups) == 1 else f"Gene networks of {len(groups)} cell types"


def _fill(*, title: str, meta: str, groups: list[str]) -> str:
    script = "(() => {\n'use strict';\n" + "\n".join(asset(name) for name in _SCRIPTS) + "})();"
    return fill_template(
        "page.html.jinja",
        title=title,
        style=trusted(asset("page.css")),
        policy=script_policy(script),
        script=trusted(script),
        meta=trusted(meta),
        groups=[trusted(group) for group in groups],
    )
