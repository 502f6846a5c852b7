"""The two tables of a network: checked, typed and ordered once, so that everything behind them can rely on it."""

import difflib
from collections.abc import Iterable

import numpy as np
import pandas as pd

TEXT, BOOLEAN, INTEGER, FLOAT = "text", "bool", "int", "float"
EDGE_COLUMNS = ("source", "target", "weight")
_REQUIRED_KIND = {
    "weight": FLOAT,
    "sign": INTEGER,
    "z": FLOAT,
    "pvalue": FLOAT,
    "padj": FLOAT,
    "ensembl_id": TEXT,
    "is_tf": BOOLEAN,
    "mean_counts": FLOAT,
    "fraction_expressed": FLOAT,
}


def check_genes(genes: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of the gene table with an index of unique `str` names called ``"gene"`` and plain column types.

    Raises
    ------
    ValueError
        When a name is not a non-empty `str`, occurs twice, or cannot be written as UTF-8, or a column has a wrong type.

    Examples
    --------
    >>> check_genes(pd.DataFrame({"is_tf": [True, False]}, index=["GATA1", "HBB"])).index.name
    'gene'
    """
    if not isinstance(genes, pd.DataFrame):
        msg = f"genes must be a pandas DataFrame indexed by gene name, got {type(genes).__name__}."
        raise ValueError(msg)
    names = genes.index.tolist()
    for row, name in enumerate(names):
        if not isinstance(name, str):
            hint = " Use genes.set_index(<the column of names>)." if isinstance(name, int | np.integer) else ""
            msg = f"genes must be indexed by gene names (str), row {row} has {name!r} ({type(name).__name__}).{hint}"
            raise ValueError(msg)
        if not _storable(name):
            msg = (
                f"genes has the name {name!r} in row {row}; names must be non-empty UTF-8 text without NUL characters."
            )
            raise ValueError(msg)
    index = pd.Index(names, dtype=object, name="gene")
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        msg = f"genes names {twice!r} more than once; make them unique, as with genes[~genes.index.duplicated()]."
        raise ValueError(msg)
    if "gene" in genes.columns:
        msg = "genes has a column 'gene' besides its index of names; drop or rename it."
        raise ValueError(msg)
    columns = _plain_columns(genes, table="genes")
    return pd.DataFrame({name: column.set_axis(index) for name, column in columns.items()}, index=index)


def check_edges(edges: pd.DataFrame, genes: pd.DataFrame) -> pd.DataFrame:
    """Return a checked copy of the edge table, strongest edge first (ties by source, then target).

    Parameters
    ----------
    edges
        Columns ``source`` (regulator), ``target``, ``weight``, and optionally ``sign``, ``z``, ``padj`` and others.
    genes
        The checked gene table; every end of an edge must be in its index.

    Raises
    ------
    ValueError
        Naming the first offending row: an unknown gene, a self loop, a repeated pair, a weight that is not finite,
        a sign other than -1, 0, 1, or an adjusted p-value outside [0, 1].

    Examples
    --------
    >>> genes = check_genes(pd.DataFrame(index=["A", "B", "C"]))
    >>> edges = pd.DataFrame({"source": ["A", "B"], "target": ["C", "C"], "weight": [0.1, 0.9]})
    >>> check_edges(edges, genes)["source"].tolist()
    ['B', 'A']
    """
    if not isinstance(edges, pd.DataFrame):
        msg = f"edges must be a DataFrame with the columns {', '.join(EDGE_COLUMNS)}, got {type(edges).__name__}."
        raise ValueError(msg)
    missing = [column for column in EDGE_COLUMNS if column not in edges.columns]
    if missing:
        msg = f"edges lacks the column(s) {', '.join(missing)}; it has {', '.join(map(str, edges.columns)) or 'none'}."
        raise ValueError(msg)
    names = genes.index.to_numpy()
    source, target = (_positions(edges, end, genes.index) for end in ("source", "target"))
    columns = _plain_columns(edges.drop(columns=["source", "target"]), table="edges")
    weight = columns["weight"].to_numpy()

    _refuse(edges, ~np.isfinite(weight), "has a weight that is not finite; drop the edge or give it a number")
    _refuse(edges, source == target, "is a self loop; drop edges with source == target")
    pair = source * max(len(names), 1) + target
    _refuse(
        edges, pd.Series(pair).duplicated().to_numpy(), "repeats an earlier edge; keep one row per (source, target)"
    )
    if "sign" in columns:
        _refuse(edges, ~columns["sign"].isin([-1, 0, 1]).to_numpy(), "has a sign other than -1, 0 (unknown) or 1")
    for column, what in (("pvalue", "a p-value"), ("padj", "an adjusted p-value")):
        if column in columns:
            values = columns[column].to_numpy()
            _refuse(edges, (values < 0) | (values > 1), f"has {what} outside [0, 1]")

    alphabetic = np.empty(len(names), dtype=np.int64)
    alphabetic[np.argsort(names)] = np.arange(len(names))
    order = np.lexsort((alphabetic[target], alphabetic[source], -weight))
    ends = {"source": names[source[order]], "target": names[target[order]]}
    table = {end: pd.Series(values, dtype=object) for end, values in ends.items()}
    table |= {name: column.take(order).reset_index(drop=True) for name, column in columns.items()}
    return pd.DataFrame(table)


def edge_positions(edges: pd.DataFrame, genes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Find the positions of the edges' sources and targets in the gene table, two int64 arrays of shape (n_edges,)."""
    return genes.index.get_indexer(edges["source"]), genes.index.get_indexer(edges["target"])


def check_known(wanted: Iterable[str], known: pd.Index, *, argument: str, where: str) -> list[str]:
    """Return `wanted` as a list without repeats, or name the first unknown gene and the names closest to it.

    Raises
    ------
    ValueError
        When a gene is not in `known`, or `wanted` is one text instead of a list of names.

    Examples
    --------
    >>> check_known(["SPI1"], pd.Index(["SPI1", "SPIB"]), argument="genes", where="the network")
    ['SPI1']
    """
    if isinstance(wanted, str):
        msg = f"{argument} must be a list of gene names, got the text {wanted!r}; write [{wanted!r}]."
        raise ValueError(msg)
    wanted = list(wanted)
    odd = [name for name in wanted if isinstance(name, list | dict | set)]
    if odd:
        msg = f"{argument} must be gene names (str), got {odd[0]!r}."
        raise ValueError(msg)
    names = list(dict.fromkeys(wanted))
    unknown = [name for name in names if not isinstance(name, str) or name not in known]
    if unknown:
        first = unknown[0]
        close = nearest_names(first, known) if isinstance(first, str) else []
        some = f"It holds names such as {', '.join(known[:3])}." if len(known) else ""
        mend = f"Nearest names: {', '.join(close)}." if close else some
        others = f" ({len(unknown):,} of the {len(names):,} genes are not known)" if len(names) > 1 else ""
        msg = f"{argument}: gene {first!r} is not in {where}, which has {len(known):,} genes{others}. {mend}".rstrip()
        raise ValueError(msg)
    return names


def nearest_names(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that look like `name`, whatever their case; the most similar first.

    Examples
    --------
    >>> nearest_names("gata-1", ["GATA1", "HBB"])
    ['GATA1']
    """
    by_folded: dict[str, str] = {}
    for gene in known:
        by_folded.setdefault(gene.casefold(), gene)
    return [by_folded[match] for match in difflib.get_close_matches(name.casefold(), list(by_folded), n=3)]


def _positions(edges: pd.DataFrame, end: str, names: pd.Index) -> np.ndarray:
    found = names.get_indexer(pd.Index(edges[end].to_numpy(dtype=object), dtype=object))
    if (found < 0).any():
        row = int(np.flatnonzero(found < 0)[0])
        name = edges[end].tolist()[row]
        close = nearest_names(name, names) if isinstance(name, str) else []
        mend = f"Nearest names: {', '.join(close)}." if close else "Every end of an edge must be in the gene table."
        msg = f"edges row {row}: {end} {name!r} is not in the index of genes. {mend}"
        raise ValueError(msg)
    return found.astype(np.int64)


def _refuse(edges: pd.DataFrame, wrong: np.ndarray, complaint: str) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        source, target, weight = (edges[column].iloc[row] for column in EDGE_COLUMNS)
        msg = f"edges row {row} ({source} → {target}, weight {weight}) {complaint} ({int(wrong.sum()):,} such rows)."
        raise ValueError(msg)


def _plain_columns(table_in: pd.DataFrame, *, table: str) -> dict[str, pd.Series]:
    names = list(table_in.columns)
    wrong = [name for name in names if not isinstance(name, str) or not _storable(name)]
    if wrong or len(set(names)) < len(names):
        msg = f"{table} must have unique text as column names, got {names!r}."
        raise ValueError(msg)
    return {name: _plain(table_in[name], what=f"{table}[{name!r}]", kind=_REQUIRED_KIND.get(name)) for name in names}


def _plain(column: pd.Series, *, what: str, kind: str | None) -> pd.Series:
    """One column as text (missing: None), bool, int64 or float64; the only types a network holds and stores."""
    found = _kind(column)
    if found != kind and kind is not None and not (kind == FLOAT and found == INTEGER):
        whole = kind == INTEGER and found == FLOAT and bool((column == np.rint(column)).all())
        empty = len(column) == 0 or (kind == TEXT and bool(column.isna().all()))
        if not (whole or empty):
            msg = f"{what} must hold {kind} values, got dtype {column.dtype}" + (
                f" with {int(column.isna().sum()):,} missing values; fill them in." if column.isna().any() else "."
            )
            raise ValueError(msg)
    kind = kind or found
    if kind in (BOOLEAN, INTEGER):
        return pd.Series(column.to_numpy(dtype=bool if kind == BOOLEAN else np.int64))
    if kind == FLOAT:
        return pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan))
    values = [None if pd.isna(value) else str(value) for value in column]
    if any(value and not _storable(value) for value in values):
        msg = f"{what} holds text with NUL characters or text that cannot be written as UTF-8; clean it first."
        raise ValueError(msg)
    return pd.Series(values, dtype=object)


def _kind(column: pd.Series) -> str:
    types = pd.api.types
    values = column.infer_objects() if column.dtype == object else column
    missing = values.isna().any()
    if types.is_bool_dtype(values.dtype) and not missing:
        return BOOLEAN
    if types.is_integer_dtype(values.dtype) and not missing:
        return INTEGER
    if types.is_numeric_dtype(values.dtype) and not types.is_bool_dtype(values.dtype):
        return FLOAT
    return TEXT


def _storable(text: str) -> bool:
    if not text or "\x00" in text:
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
