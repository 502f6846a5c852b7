"""One way in and one way out for the files of other programs."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from grnlab._files import atomic_directory, atomic_file
from grnlab.network import edge_files, graph_files

if TYPE_CHECKING:
    from grnlab.network.interchange import Interchange
    from grnlab.network.network import GeneNetwork


class Format(NamedTuple):
    """A file format: how to write it, how to read it, and the endings it is known by."""

    write: Callable[["Interchange", Path], None]
    read: Callable[[Path], Any]
    endings: tuple[str, ...] = ()


FORMATS = {
    "csv": Format(lambda net, path: edge_files.write_table(net, path, separator=","), edge_files.read_table, (".csv",)),
    "tsv": Format(
        lambda net, path: edge_files.write_table(net, path, separator="\t"), edge_files.read_table, (".tsv", ".txt")
    ),
    "decoupler": Format(
        lambda net, path: net.to_decoupler().to_csv(path, index=False),
        lambda path: edge_files.split_sign(edge_files.read_table(path)),
    ),
    "pyscenic": Format(edge_files.write_columns(("TF", "target", "importance")), edge_files.read_table),
    "beeline": Format(edge_files.write_columns(("Gene1", "Gene2", "EdgeWeight")), edge_files.read_table),
    "celloracle": Format(
        lambda net, path: edge_files.to_celloracle(net).to_csv(path, index=False),
        lambda path: edge_files.from_celloracle(edge_files.read_table(path)),
    ),
    "genernib": Format(edge_files.write_genernib, edge_files.read_h5ad, (".h5ad",)),
    "grnndata": Format(edge_files.write_grnndata, edge_files.read_h5ad),
    "gmt": Format(edge_files.write_gmt, edge_files.read_regulons, (".gmt",)),
    "graphml": Format(graph_files.write_graphml, graph_files.read_graphml, (".graphml", ".xml")),
    "cx2": Format(graph_files.write_cx2, graph_files.read_cx2, (".cx2",)),
    "sif": Format(graph_files.write_sif, graph_files.read_sif, (".sif",)),
}


def write_network(
    network: "Interchange", path: str | Path, format: str | None = None, *, overwrite: bool = False
) -> Path:
    r"""Write a network for another program, whole or not at all.

    ============== ======================================================================================
    format         what is written
    ============== ======================================================================================
    ``csv, tsv``   every column of the edges: ``source, target, weight, ...``
    ``decoupler``  ``source, target, weight`` with the sign in the weight
    ``pyscenic``   adjacencies: ``TF, target, importance``, tab-separated
    ``beeline``    rankedEdges: ``Gene1, Gene2, EdgeWeight``, tab-separated, strongest first
    ``celloracle`` ``source, target, coef_mean, coef_abs, p, -logp``
    ``genernib``   h5ad with ``uns["prediction"]``
    ``grnndata``   h5ad with ``varp["GRN"]``, row = regulator; signs do not fit
    ``gmt``        regulons, one a line; weights do not fit
    ``graphml``    Cytoscape, Gephi, yEd
    ``cx2``        Cytoscape, NDEx
    ``sif``        a folder: ``network.sif``, ``nodes.tsv``, ``edges.tsv`` for Cytoscape
    ============== ======================================================================================

    Only ``graphml, cx2, sif`` and ``grnndata`` hold genes without an edge. `GeneNetwork.save` is the exact form.

    Parameters
    ----------
    network
        The network.
    path
        Where to.
    format
        By the ending of `path` when not given: ``.csv .tsv .txt .h5ad .gmt .graphml .xml .cx2 .sif``.
    overwrite
        Replace what is there.

    Raises
    ------
    FileExistsError
        When `path` exists and `overwrite` is False.
    ValueError
        When the format is unknown or cannot hold a name.

    Examples
    --------
    >>> import tempfile
    >>> from grnlab.network import GeneNetwork
    >>> edges = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [0.5]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_network(GeneNetwork.from_edges(edges, name="one"), Path(folder, "adj.tsv"), "pyscenic")
    ...     print(path.read_text().splitlines(), read_network(path).name)
    ['TF\ttarget\timportance', 'SPI1\tLYZ\t0.5'] adj
    """
    path = Path(path)
    chosen = _format(path, format)
    temporary_at = atomic_directory if chosen == "sif" else atomic_file
    with temporary_at(path, overwrite=overwrite) as temporary:
        FORMATS[chosen].write(network, temporary)
    return path


def read_network(
    path: str | Path,
    format: str | None = None,
    *,
    name: str | None = None,
    genes: pd.DataFrame | Iterable[str] | None = None,
    on_bad: str = "raise",
) -> "GeneNetwork":
    r"""Read a network that another program, or `GeneNetwork.save`, wrote.

    Parameters
    ----------
    path
        A file, or the folder of format ``"sif"``. Tables may be compressed (``.gz``).
    format
        As in `GeneNetwork.write`; by the ending when not given. Tables are told by their header: source, TF, Gene1,
        regulator, regulatoryGene; target, Gene2, targetGene; weight, importance, EdgeWeight, coef_mean, score. Say
        ``"decoupler"`` or ``"celloracle"`` to have the sign of the weight as a column ``sign``.
    name
        Name of the network; that of the file by default.
    genes
        The universe, see `GeneNetwork.from_edges`; the genes of the file by default.
    on_bad
        ``"raise"``, or ``"drop"`` to leave out self loops, weaker repeats and weights that are not finite.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is damaged, of another format, or breaks the rules of a network; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "rankedEdges.csv")
    ...     _ = path.write_text("Gene1\tGene2\tEdgeWeight\nSPI1\tLYZ\t0.5\n")
    ...     read_network(path, name="monocyte")
    GeneNetwork('monocyte': 2 genes, 1 edges)
    """
    from grnlab.network.network import GeneNetwork

    path = Path(path)
    if not path.exists():
        msg = f"{path} does not exist."
        raise FileNotFoundError(msg)
    if format is None and path.suffix == ".grn":
        return GeneNetwork.load(path)
    chosen = "sif" if format is None and path.is_dir() else _format(path, format)
    if path.is_dir() and chosen != "sif":
        msg = f"{path} is a folder; name a file."
        raise ValueError(msg)
    found = FORMATS[chosen].read(path)
    name = name or path.name.split(".")[0] or path.name
    if isinstance(found, GeneNetwork):
        return found if genes is None else GeneNetwork.from_edges(found.edges, genes, name=name)
    edges, own = found if isinstance(found, tuple) else (found, None)
    try:
        return GeneNetwork.from_edges(
            edges,
            own if genes is None else genes,
            name=name,
            on_bad=on_bad,
            provenance={"read_from": path.name, "format": chosen},
        )
    except ValueError as error:
        hint = " on_bad='drop' leaves such edges out." if on_bad == "raise" and "edges row" in str(error) else ""
        msg = f"{path} holds a network that breaks the rules: {error}{hint}"
        raise ValueError(msg) from error


def _format(path: Path, format: str | None) -> str:
    if format is not None:
        if format not in FORMATS:
            msg = f"format must be one of {', '.join(FORMATS)}, got {format!r}."
            raise ValueError(msg)
        return format
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    for name, known in FORMATS.items():
        if ending.casefold() in known.endings:
            return name
    own = " (.grn is written by network.save and read by GeneNetwork.load)" if ending.casefold() == ".grn" else ""
    msg = f"the format of {path.name!r} cannot be told by its ending{own}; pass format, one of {', '.join(FORMATS)}."
    raise ValueError(msg)
