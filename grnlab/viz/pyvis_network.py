"""pyvis, for those who want to tune its network, and a writer whose page needs nothing from outside."""

import importlib.util
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from grnlab._files import atomic_file
from grnlab._optional import require
from grnlab.network import GeneNetwork
from grnlab.viz.html import asset, fill_template, safe_json, script_policy, trusted
from grnlab.viz.page import PALETTE, check_path
from grnlab.viz.payload import group_payload

if TYPE_CHECKING:
    from pyvis.network import Network

_GREY = "#aab3c0"


def to_pyvis(network: GeneNetwork, *, max_edges: int = 300, max_nodes: int = 150, seed: int = 0) -> "Network":
    """Make a ``pyvis.network.Network`` to tune further; `write_pyvis` writes it to a file.

    Genes are plain text ids with their place, size by hub score and colour by community; edges have ``value`` (their
    strength), ``title`` (the weight) and no missing numbers. Physics is off: genes stay where the layout put them.

    Parameters
    ----------
    network
        A `GeneNetwork`.
    max_edges, max_nodes
        What is taken at most: the strongest edges of every gene.
    seed
        Seed of communities and layout.

    Returns
    -------
    pyvis.network.Network
        Directed.

    Raises
    ------
    ValueError
        When a limit is below one.
    ImportError
        When pyvis is not installed.

    Examples
    --------
    >>> import pandas as pd
    >>> from grnlab.network import GeneNetwork
    >>> genes = pd.DataFrame(index=pd.Index(["SPI1", "LYZ"], name="gene"))
    >>> edges = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [0.4]})
    >>> view = to_pyvis(GeneNetwork(edges, genes, name="monocyte"))
    >>> view.toggle_physics(True)
    >>> view.get_nodes()
    ['SPI1', 'LYZ']
    """
    for name, value in (("max_edges", max_edges), ("max_nodes", max_nodes)):
        if value < 1:
            msg = f"{name} must be at least 1, got {value}. Leave it out for the default."
            raise ValueError(msg)
    pyvis = require("pyvis.network", install="pyvis>=0.3.2", purpose="to make its network")
    view: Network = pyvis.Network(directed=True, height="750px", width="100%", cdn_resources="in_line")
    view.toggle_physics(False)
    drawn = group_payload(network, max_edges=max_edges, max_nodes=max_nodes, seed=seed)
    genes, edges = drawn["genes"], drawn["edges"]
    colour = {entry["id"]: PALETTE[place] for place, entry in enumerate(drawn["communities"]) if place < len(PALETTE)}
    is_tf = genes.get("is_tf", [0] * len(genes["name"]))
    for number, name in enumerate(genes["name"]):
        if genes["level"][number] >= len(drawn["levels"]):
            continue  # a gene without an edge
        view.add_node(
            name,
            label=name,
            title=f"{name}\nhub rank {genes['rank'][number]}",
            shape="diamond" if is_tf[number] else "dot",
            color=colour.get(genes["community"][number], _GREY),
            size=genes["radius"][number],
            x=genes["x"][number],
            y=genes["y"][number],
        )
    for source, target, weight in zip(edges["source"], edges["target"], edges["weight"], strict=True):
        view.add_edge(genes["name"][source], genes["name"][target], value=abs(weight), title=f"weight {weight:.3g}")
    return view


def write_pyvis(view: "Network", path: str | Path, *, title: str = "Gene network", overwrite: bool = False) -> Path:
    """Write a pyvis network as one self-contained HTML page.

    ``view.show()`` and ``view.write_html()`` make a page that loads scripts and styles from two servers, also with
    ``cdn_resources="in_line"``, and take ids and texts as they come. This writer puts nodes, edges and options as JSON
    beside the copy of vis-network that pyvis ships; the page sends no request of any kind.

    Parameters
    ----------
    view
        A ``pyvis.network.Network``, from `to_pyvis` or made otherwise.
    path
        Where to write, ending in ``.html``.
    title
        Heading of the page.
    overwrite
        Replace an existing file.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ValueError
        When `path` does not end in ``.html``, or a value of the network cannot be held by JSON (NaN, a numpy number).
    FileExistsError
        When `path` exists and `overwrite` is False.
    """
    path = check_path(path)
    nodes, edges, _, height, width, options = view.get_network_data()
    number = {node["id"]: place for place, node in enumerate(nodes)}  # vis-network stumbles over "__proto__"
    data = {
        "nodes": [{**node, "id": number[node["id"]]} for node in nodes],
        "edges": [{**edge, "from": number[edge["from"]], "to": number[edge["to"]]} for edge in edges],
        "options": json.loads(options),
        "size": [height, width],
    }
    try:
        text = safe_json(data)
    except (TypeError, ValueError) as error:
        msg = f"view holds {_culprit(nodes, edges)}, which JSON cannot hold ({error}); use plain int, float and str."
        raise ValueError(msg) from error
    library, script = vis_network(), asset("pyvis.js")
    page = fill_template(
        "pyvis.html.jinja",
        title=title,
        policy=script_policy(library, script),
        data=trusted(text),
        library=trusted(library),
        script=trusted(script),
    )
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(page.encode("utf-8", errors="replace"))
    return path


def _culprit(nodes: list[dict], edges: list[dict]) -> str:
    for kind, entries in (("a node", nodes), ("an edge", edges)):
        for entry in entries:
            for key, value in entry.items():
                wrong = isinstance(value, float) and not math.isfinite(value)
                if wrong or not isinstance(value, str | int | float | dict | list | tuple | None):
                    return f"{kind} with {key}={value!r} ({type(value).__name__})"
    return "a value"


def vis_network() -> str:
    """Source of the vis-network library that pyvis ships, newest version, without its source-map line.

    Raises
    ------
    ImportError
        When pyvis is not installed, or ships no vis-network.
    """
    spec = importlib.util.find_spec("pyvis")
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [file for folder in folders for file in Path(folder).glob("templates/lib/vis-*/vis-network.min.js")]
    if not found:
        msg = 'pyvis is needed to write its page (its copy of vis-network). Install it: pip install "pyvis>=0.3.2"'
        raise ImportError(msg)
    newest = max(found, key=lambda file: [int(part) for part in file.parent.name.removeprefix("vis-").split(".")])
    lines = newest.read_text("utf-8").replace("\r", "").split("\n")  # not splitlines: strings in it hold U+2028
    return "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL="))
