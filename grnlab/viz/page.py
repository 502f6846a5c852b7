"""The interactive page: one HTML file that needs nothing but a browser."""

import base64
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from grnlab._files import atomic_file
from grnlab._optional import require
from grnlab._version import __version__
from grnlab.network import GeneNetwork, NetworkSet
from grnlab.viz.payload import group_payload, jsonable

# Okabe and Ito's colours for every kind of colour vision, then three of Paul Tol's; further communities are grey.
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#F0E442", "#AA4499", "#999933", "#88CCEE")
_SCRIPTS = ("data.js", "table.js", "canvas.js", "panel.js", "page.js")


def write_page(
    networks: Mapping[str, GeneNetwork] | GeneNetwork,
    path: str | Path,
    *,
    max_edges: int = 1_500,
    max_nodes: int = 500,
    seed: int = 0,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write networks as one self-contained interactive HTML page.

    The page shows a network per cell type: genes coloured by community and sized by hub score, transcription
    factors as diamonds, an arrow from regulator to target. It has a search, a slider over edge weight, tables of
    regulators, targets, hubs, communities and edges, and the provenance. It sends no request of any kind, and the
    same networks and seed give the same file, byte for byte.

    Parameters
    ----------
    networks
        A `NetworkSet`, or one `GeneNetwork`.
    path
        Where to write, ending in ``.html``.
    max_edges, max_nodes
        How much of a group is drawn at most. A larger network is drawn by the strongest edges of every gene; its
        tables list the 20,000 strongest edges besides.
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
        When there is no network to show, a limit is below one, or `path` does not end in ``.html``.
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
    path = Path(path)
    if path.suffix.lower() not in {".html", ".htm"}:
        msg = f"path must end in .html, so that a browser shows it; got {str(path)!r}. Try {path.name + '.html'!r}."
        raise ValueError(msg)
    with atomic_file(path, overwrite=overwrite) as temporary:
        html = render_page(networks, max_edges=max_edges, max_nodes=max_nodes, seed=seed, title=title)
        temporary.write_bytes(html.encode("utf-8", errors="replace"))
    return path


def render_page(
    networks: Mapping[str, GeneNetwork] | GeneNetwork,
    *,
    max_edges: int = 1_500,
    max_nodes: int = 500,
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
    groups = [
        group_payload(network, max_edges=max_edges, max_nodes=max_nodes, seed=seed) for network in _listed(networks)
    ]
    shared = jsonable(networks.provenance or {}) if isinstance(networks, NetworkSet) else {}
    for group in groups:
        group["provenance"] = {**shared, **group["provenance"]}
    counts = ("name", "n_genes", "n_edges", "n_drawn_genes", "n_drawn_edges")
    title = title or _title(groups)
    meta = {
        "title": title,
        "palette": PALETTE,
        "groups": [{key: group[key] for key in counts} for group in groups],
        "version": __version__,
    }
    return _fill(title=title, meta=_json(meta), groups=[_json(group) for group in groups])


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


def _json(value: Any) -> str:
    r"""JSON that is safe inside a script element: no character is left that HTML or old JavaScript reads.

    Examples
    --------
    >>> _json("</script>")
    '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _fill(*, title: str, meta: str, groups: list[str]) -> str:
    jinja2 = require("jinja2", install="jinja2", purpose="to fill the page")
    markup = require("markupsafe", install="markupsafe", purpose="to fill the page").Markup
    assets = files("grnlab.viz") / "assets"
    script = "(() => {\n'use strict';\n" + "\n".join((assets / name).read_text("utf-8") for name in _SCRIPTS) + "})();"
    vis = vis_network()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string((assets / "page.html.jinja").read_text("utf-8"))
    return template.render(
        title=title,
        style=markup((assets / "page.css").read_text("utf-8")),
        policy=_policy(vis, script),
        vis=markup(vis),
        script=markup(script),
        meta=markup(meta),
        groups=[markup(group) for group in groups],
        version=__version__,
    )


def _policy(*scripts: str) -> str:
    """Content security policy: exactly these scripts run, and nothing is ever fetched."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    closed = "base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; {closed}"


def vis_network() -> str:
    """Source of the vis-network library that pyvis ships, newest version, without its source-map line.

    pyvis itself is not imported (that takes IPython and networkx along), and its own template is not used: it
    loads scripts from two servers even when asked for an inline page.

    Raises
    ------
    ImportError
        When pyvis is not installed, or ships no vis-network.
    """
    spec = importlib.util.find_spec("pyvis")
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [file for folder in folders for file in Path(folder).glob("templates/lib/vis-*/vis-network.min.js")]
    if not found:
        msg = 'pyvis is needed to draw the page (its copy of vis-network). Install it with: pip install "pyvis>=0.3.2"'
        raise ImportError(msg)
    newest = max(found, key=lambda file: [int(part) for part in file.parent.name.removeprefix("vis-").split(".")])
    lines = newest.read_text("utf-8").replace("\r", "").split("\n")  # not splitlines: strings in it hold U+2028
    return "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL="))
