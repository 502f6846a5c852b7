"""Graphs of other programs: networkx and igraph objects, GraphML, Cytoscape's CX2, SIF with its tables."""

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from grnlab._reading import check_plain_file, read_json, read_separated, read_text
from grnlab.network.edge_files import plain, read_table

if TYPE_CHECKING:
    from grnlab.network.interchange import Interchange

_INTERACTIONS = {1: "activates", -1: "represses", 0: "regulates"}
_CX2_KINDS = {"b": "boolean", "i": "long", "f": "double", "O": "string"}
_GRAPHML_END = b"</graphml>\n"
_NOT_COLUMNS = ("id", "interaction", "shared name", "SUID")
Parts = tuple[pd.DataFrame, pd.DataFrame | None]


def from_networkx(graph: Any) -> Parts:
    """Edges and genes of a networkx graph; an undirected edge becomes one each way, a missing weight 1."""
    genes = pd.DataFrame.from_dict(dict(graph.nodes(data=True)), orient="index")
    genes = genes.reindex(pd.Index(list(graph.nodes), dtype=object))
    rows = [{"source": s, "target": t, "weight": 1.0, **data} for s, t, data in graph.edges(data=True)]
    edges = pd.DataFrame(rows) if rows else pd.DataFrame(columns=["source", "target"], dtype=object)
    return _complete(edges, directed=graph.is_directed()), genes


def from_igraph(graph: Any) -> Parts:
    """Edges and genes of an igraph graph, whose vertices have names; undirected edges and weights as for networkx.

    Raises
    ------
    ValueError
        When the vertices have no names.
    """
    if "name" not in graph.vs.attributes():
        msg = "graph has no vertex attribute 'name'; set graph.vs['name'] to the gene names."
        raise ValueError(msg)
    names = np.array(graph.vs["name"], dtype=object)
    attributes = [name for name in graph.vs.attributes() if name != "name" and name not in _NOT_COLUMNS]
    genes = pd.DataFrame({name: graph.vs[name] for name in attributes}, index=pd.Index(names, dtype=object))
    ends = np.array(graph.get_edgelist(), dtype=np.int64).reshape(-1, 2)
    columns = {name: graph.es[name] for name in graph.es.attributes() if name not in _NOT_COLUMNS}
    edges = pd.DataFrame({"source": names[ends[:, 0]], "target": names[ends[:, 1]]} | columns)
    return _complete(edges, directed=graph.is_directed()), genes


def write_graphml(network: "Interchange", path: Path) -> None:
    """Write GraphML (Cytoscape, Gephi, yEd); missing texts become empty, whole numbers come back as floats.

    Raises
    ------
    ValueError
        When a name holds a control character, which XML cannot hold.
    """
    import igraph as ig

    graph = network.to_igraph()
    for sequence in (graph.vs, graph.es):
        for attribute in sequence.attributes():
            sequence[attribute] = ["" if value is None else value for value in sequence[attribute]]
    try:
        graph.write_graphml(os.fspath(path))
    except ig.InternalError as error:
        msg = f"{network.name!r} cannot be written as GraphML ({error}); rename the genes or columns it names."
        raise ValueError(msg) from error
    with path.open("rb") as file:  # igraph does not tell when there is no room left
        file.seek(-min(path.stat().st_size, len(_GRAPHML_END)), os.SEEK_END)
        if file.read().strip() != _GRAPHML_END.strip():
            raise OSError(errno.ENOSPC, "the file could not be written to its end", str(path))


def read_graphml(path: Path) -> Parts:
    """Read GraphML by igraph; nodes without the attribute ``name`` are called by their id."""
    import igraph as ig

    check_plain_file(path)
    try:
        graph = ig.Graph.Read_GraphML(os.fspath(path))
    except (ig.InternalError, OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as GraphML: {error}."
        raise ValueError(msg) from error
    if "name" not in graph.vs.attributes() and "id" in graph.vs.attributes():
        graph.vs["name"] = graph.vs["id"]
    return from_igraph(graph)


def write_cx2(network: "Interchange", path: Path) -> None:
    """Write CX2 (Cytoscape, NDEx): columns become attributes; missing values are left out."""
    genes = network.genes.drop(columns="name", errors="ignore")
    edges = network.edges.drop(columns=["source", "target"]).assign(interaction=_interactions(network.edges))
    source, target = network.edge_positions()
    nodes = [
        {"id": i, "v": {"name": name} | values}
        for i, (name, values) in enumerate(zip(genes.index, _records(genes), strict=True))
    ]
    links = [
        {"id": i, "s": int(s), "t": int(t), "v": values}
        for i, (s, t, values) in enumerate(zip(source, target, _records(edges), strict=True))
    ]
    declared = {
        "networkAttributes": {"name": {"d": "string"}},
        "nodes": {"name": {"d": "string"}} | {c: {"d": _CX2_KINDS[genes[c].dtype.kind]} for c in genes.columns},
        "edges": {c: {"d": _CX2_KINDS[edges[c].dtype.kind]} for c in edges.columns},
    }
    counts = {"attributeDeclarations": 1, "networkAttributes": 1, "nodes": len(nodes), "edges": len(links)}
    document = [
        {"CXVersion": "2.0", "hasFragments": False},
        {"metaData": [{"name": name, "elementCount": count} for name, count in counts.items()]},
        {"attributeDeclarations": [declared]},
        {"networkAttributes": [{"name": network.name}]},
        {"nodes": nodes},
        {"edges": links},
        {"status": [{"success": True}]},
    ]
    path.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


def read_cx2(path: Path) -> Parts:
    """Read CX2, with its aliases and default values of attributes; a missing weight is 1.

    Raises
    ------
    ValueError
        When the file is no complete CX2.
    """
    try:
        document = read_json(path)
        if document[0]["CXVersion"] != "2.0":
            msg = f"its CXVersion is {document[0]['CXVersion']!r}, expected '2.0'"
            raise ValueError(msg)
        aspects: dict[str, list] = {}
        for part in document[1:]:
            for name, rows in part.items():
                aspects.setdefault(name, []).extend(rows)
        declared: dict[str, dict] = {}
        for row in aspects.get("attributeDeclarations", []):
            declared.update(row)
        nodes = {row["id"]: _values(row, declared.get("nodes", {})) for row in aspects.get("nodes", [])}
        names = {number: str(values.pop("name", number)) for number, values in nodes.items()}
        links = [
            {"source": names[row["s"]], "target": names[row["t"]], "weight": 1.0}
            | _values(row, declared.get("edges", {}))
            for row in aspects.get("edges", [])
        ]
        genes = pd.DataFrame(list(nodes.values()), index=pd.Index(list(names.values()), dtype=object))
        edges = pd.DataFrame(links) if links else pd.DataFrame(columns=["source", "target"], dtype=object)
        return _complete(edges, directed=True), genes
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        msg = f"{path} cannot be read as CX2: {error}."
        raise ValueError(msg) from error


def write_sif(network: "Interchange", folder: Path) -> None:
    """Write ``network.sif``, ``nodes.tsv`` and ``edges.tsv`` (its ``shared name`` is Cytoscape's key) into a folder.

    Raises
    ------
    ValueError
        When a name holds a tab or line end.
    """
    edges, genes = network.edges, network.genes
    kind = _interactions(edges)
    names = [plain(name) for name in genes.index]
    linked = set(edges["source"]) | set(edges["target"])
    rows = list(zip(edges["source"], kind, edges["target"], strict=True))
    lines = ["\t".join(row) for row in rows] + [name for name in names if name not in linked]
    (folder / "network.sif").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    genes.to_csv(folder / "nodes.tsv", sep="\t")
    shared = [f"{s} ({what}) {t}" for s, what, t in rows]
    table = edges.assign(interaction=kind)
    table.insert(0, "shared name", pd.Series(shared, dtype=object))
    table.to_csv(folder / "edges.tsv", sep="\t", index=False)


def read_sif(path: Path) -> Parts:
    """Read a folder that `write_sif` wrote, or a lone SIF file: interactions tell signs, weights are 1.

    Raises
    ------
    ValueError
        When a line is malformed.
    """
    if path.is_dir():
        edges = read_table(path / "edges.tsv")
        options = {"dtype": {"gene": str}, "keep_default_na": False, "na_values": [""]}
        nodes = read_separated(path / "nodes.tsv", separator="\t", **options)
        if "gene" not in nodes:
            msg = f"{path / 'nodes.tsv'} has no column 'gene'; it has {list(nodes.columns[:10])}."
            raise ValueError(msg)
        return edges.drop(columns=list(_NOT_COLUMNS), errors="ignore"), nodes.set_index("gene")
    signs = {what: sign for sign, what in _INTERACTIONS.items()}
    rows: list[tuple[str, str, float, int]] = []
    names: dict[str, None] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split("\t") if "\t" in line else line.split()
        if not line.strip():
            continue
        if len(fields) == 2:
            msg = f"{path}, line {number}: expected 'source<tab>interaction<tab>target...' or one name, got {line!r}."
            raise ValueError(msg)
        names |= dict.fromkeys([fields[0], *fields[2:]])
        rows += [(fields[0], target, 1.0, signs.get(fields[1], 0)) for target in fields[2:]]
    edges = pd.DataFrame(rows, columns=["source", "target", "weight", "sign"])
    edges = edges if edges["sign"].any() else edges.drop(columns="sign")
    return edges, pd.DataFrame(index=pd.Index(list(names), dtype=object))


def _complete(edges: pd.DataFrame, *, directed: bool) -> pd.DataFrame:
    if "weight" not in edges.columns:
        edges = edges.assign(weight=1.0)
    edges = edges.drop(columns=list(_NOT_COLUMNS), errors="ignore").astype({"weight": float})
    if not directed:
        edges = pd.concat([edges, edges.rename(columns={"source": "target", "target": "source"})], ignore_index=True)
    return edges


def _interactions(edges: pd.DataFrame) -> pd.Series:
    sign = edges["sign"] if "sign" in edges.columns else pd.Series(0, index=edges.index)
    return sign.map(_INTERACTIONS).astype(object)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    columns = {name: table[name].tolist() for name in table.columns}  # plain Python values
    rows = zip(*columns.values(), strict=True) if columns else [()] * len(table)
    return [
        {name: value for name, value in zip(columns, row, strict=True) if value is not None and value == value}  # noqa: PLR0124
        for row in rows
    ]


def _values(row: dict[str, Any], declared: dict[str, dict]) -> dict[str, Any]:
    full = {about["a"]: name for name, about in declared.items() if about and "a" in about}
    default = {name: about["v"] for name, about in declared.items() if about and "v" in about}
    return default | {full.get(name, name): value for name, value in row.get("v", {}).items()}
