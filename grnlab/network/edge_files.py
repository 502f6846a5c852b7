"""Plain tables of other programs: edges in CSV and TSV, regulons in GMT, and networks in h5ad."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from grnlab._reading import opened, to_numbers
from grnlab.data.source import read_anndata
from grnlab.network.gene_sets import read_gmt
from grnlab.network.varp import network_from_varp, network_to_anndata

if TYPE_CHECKING:
    import anndata as ad

    from grnlab.network.interchange import Interchange
    from grnlab.network.network import GeneNetwork

# what the columns are called: decoupler and geneRNIB, pySCENIC, BEELINE, GENIE3, CellOracle, OmniPath
ALIASES = {
    "source": ("source", "tf", "gene1", "regulator", "regulatorygene", "source_genesymbol", "from"),
    "target": ("target", "gene2", "targetgene", "target_genesymbol", "to"),
    "weight": ("weight", "importance", "edgeweight", "coef_mean", "score", "mor"),
}


def tidy_columns(table: pd.DataFrame, *, where: str) -> pd.DataFrame:
    """Rename the three columns by their known names; a table without weights gets 1 everywhere.

    Raises
    ------
    ValueError
        When the regulators or the targets cannot be told.
    """
    folded = {str(column).strip().casefold(): column for column in reversed(list(table.columns))}
    found = {name: next((folded[a] for a in aliases if a in folded), None) for name, aliases in ALIASES.items()}
    for name in ("source", "target"):
        if found[name] is None:
            msg = (
                f"{where} has the columns {', '.join(map(repr, table.columns))}; none of them is a known name of the "
                f"{name}: {', '.join(ALIASES[name])}. Rename the columns, or use GeneNetwork.from_edges."
            )
            raise ValueError(msg)
    table = table.rename(columns={old: new for new, old in found.items() if old is not None})
    if found["weight"] is None:
        table["weight"] = 1.0
    return table


def read_table(path: Path) -> pd.DataFrame:
    """Read a delimited table: tabs if the header has one, else commas; gene names stay text, such as ``NA``."""
    try:
        with opened(path) as file:
            separator = "\t" if b"\t" in file.readline() else ","
        with opened(path) as file:
            text = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        if not isinstance(text.index, pd.RangeIndex):  # pandas would shift the columns
            raise pd.errors.ParserError("its rows have more fields than its header names")
    except (ValueError, OSError) as error:
        msg = f"{path} cannot be read as a table of edges: {error}."
        raise ValueError(msg) from error
    text = text.drop(columns=[column for column in text.columns if str(column).startswith("Unnamed:")])
    table = tidy_columns(text, where=str(path))
    for column in table.columns.drop(["source", "target"]):
        table[column] = _numbers(table[column], required=column == "weight", path=path)
    for end in ("source", "target"):
        table[end] = table[end].where(table[end] != "", None)
    return table


def write_table(network: "Interchange", path: Path, *, separator: str) -> None:
    """Write every column of the edges; missing values are empty fields."""
    network.edges.to_csv(path, sep=separator, index=False)


def write_columns(names: tuple[str, str, str]) -> Callable[["Interchange", Path], None]:
    """Make a writer of ``source, target, weight`` under other names, tab-separated."""

    def write(network: "Interchange", path: Path) -> None:
        table = network.edges[["source", "target", "weight"]].set_axis(list(names), axis=1)
        table.to_csv(path, sep="\t", index=False)

    return write


def to_celloracle(network: "Interchange") -> pd.DataFrame:
    """Make a table as those of ``links.links_dict``: ``source, target, coef_mean, coef_abs, p, -logp``.

    The coefficient is the weight times the sign, if there is one; ``p`` is ``pvalue`` or missing.
    """
    edges = network.edges
    sign = edges["sign"] if "sign" in edges.columns else 1
    p = edges["pvalue"] if "pvalue" in edges.columns else pd.Series(np.nan, index=edges.index)
    coefficient = edges["weight"] * sign
    logp = -np.log10(np.maximum(p, 1e-300))
    columns = {"coef_mean": coefficient, "coef_abs": coefficient.abs(), "p": p, "-logp": logp}
    return edges[["source", "target"]].assign(**columns)


def from_celloracle(table: pd.DataFrame) -> pd.DataFrame:
    """Make edges of a CellOracle table: weight is ``coef_abs``, the sign that of ``coef_mean``, ``pvalue`` is ``p``."""
    known = tidy_columns(table, where="the table")
    edges = known[["source", "target"]].assign(
        weight=known["weight"].abs(), sign=np.sign(known["weight"]).fillna(0).astype(np.int64)
    )
    if "p" not in known.columns:
        return edges
    p = to_numbers(known["p"])
    if (wrong := np.flatnonzero(p.isna() & known["p"].notna())).size:
        msg = f"row {wrong[0] + 1} of the table after the header: p {known['p'].iloc[wrong[0]]!r} is no number."
        raise ValueError(msg)
    return edges.assign(pvalue=p.astype(float))


def split_sign(table: pd.DataFrame) -> pd.DataFrame:
    """Undo `to_decoupler`: the sign of the weight becomes a column."""
    return table.assign(weight=table["weight"].abs(), sign=np.sign(table["weight"]).fillna(0).astype(np.int64))


def write_gmt(network: "Interchange", path: Path) -> None:
    """Write regulons, one a line: name, description, targets with the strongest first; weights do not fit.

    Raises
    ------
    ValueError
        When a name holds a tab or line end.
    """
    lines = []
    for name, targets in network.to_regulons().items():
        fields = [name, f"targets of {name.removesuffix('(+)').removesuffix('(-)')} in {network.name}", *targets]
        lines.append("\t".join(plain(field) for field in fields))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_regulons(path: Path) -> pd.DataFrame:
    """Read regulons of a GMT file as edges of weight 1; names that end in (+) or (-) tell the sign."""
    signs = {"(+)": 1, "(-)": -1}
    rows = [
        (name[:-3] if name[-3:] in signs else name, target, 1.0, signs.get(name[-3:], 0))
        for name, targets in read_gmt(path).items()
        for target in targets
    ]
    table = pd.DataFrame(rows, columns=["source", "target", "weight", "sign"])
    return table if table["sign"].any() else table.drop(columns="sign")


def write_genernib(network: "Interchange", path: Path) -> None:
    """Write an h5ad as geneRNIB takes it: ``uns["prediction"]`` with the weights as text, strongest edge first.

    geneRNIB scores the first 50,000 edges.
    """
    import anndata as ad

    table = network.edges[["source", "target", "weight"]].astype({"weight": str})
    _write_h5ad(ad.AnnData(uns={"method_id": "grnlab", "dataset_id": network.name, "prediction": table}), path)


def write_grnndata(network: "Interchange", path: Path) -> None:
    """Write an h5ad without cells in GRnnData's layout; see `grnlab.network.varp`."""
    _write_h5ad(network_to_anndata(network), path)


def _write_h5ad(adata: "ad.AnnData", path: Path) -> None:
    """Write by way of memory: on a full disk the HDF5 library cannot close its file, and crashes at the very end."""
    import h5py
    from anndata.io import write_elem

    written = io.BytesIO()
    with h5py.File(written, "w") as file:
        write_elem(file, "/", adata)
    path.write_bytes(written.getvalue())


def read_h5ad(path: Path) -> "pd.DataFrame | GeneNetwork":
    """Read geneRNIB's or GRnnData's h5ad.

    Raises
    ------
    ValueError
        When the file holds neither.
    """
    adata = read_anndata(path)
    try:
        if "prediction" in adata.uns:
            table = tidy_columns(pd.DataFrame(adata.uns["prediction"]), where=f"uns['prediction'] of {path}")
            return table.assign(weight=_numbers(table["weight"].astype(str), required=True, path=path))
        if "GRN" in adata.varp:
            network = network_from_varp(adata, "GRN", name=adata.uns.get("grn", {}).get("name", path.stem))
            return type(network)(network.edges, adata.var, name=network.name, provenance=network.provenance)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        msg = f"{path} holds a network that cannot be read: {error}"
        raise ValueError(msg) from error
    msg = f"{path} holds neither uns['prediction'] (geneRNIB) nor varp['GRN'] (GRnnData); see gl.tl.stored_networks."
    raise ValueError(msg)


def plain(text: str) -> str:
    """Refuse text that a file without quoting cannot hold."""
    if any(sign in text for sign in "\t\n\r"):
        msg = f"the name {text!r} holds a tab or line end, which this format cannot hold; rename it."
        raise ValueError(msg)
    return text


def _numbers(column: pd.Series, *, required: bool, path: Path) -> pd.Series:
    """Numbers and truth values where a whole column is such, empty fields being missing; else the text."""
    text = column.astype(str).str.strip()
    empty = text.str.casefold().isin(["", "nan", "na"])
    numbers = to_numbers(text.mask(empty))
    wrong = numbers.isna() & ~empty
    if required and wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        msg = f"{path}, row {row + 1} after the header: the weight {column.iloc[row]!r} is no number."
        raise ValueError(msg)
    if required or (not wrong.any() and not empty.all()):
        whole = not empty.any() and text.str.fullmatch(r"[+-]?\d+").all() and not required
        return numbers.astype(np.int64) if whole else numbers.astype(float)
    if text.isin(["True", "False"]).all() and len(text):
        return text == "True"
    return column.where(column != "", None)
