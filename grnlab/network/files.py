r"""Networks on disk: one zip archive of plain tables, written whole or not at all, read without executing anything.

Format 1
--------
A network, ``*.grn``, is a zip archive of three UTF-8 files:

``network.json``
    ``{"format": "grnlab.network", "version": 1, "name": ..., "direction": ..., "provenance": {...},
    "columns": {"edges": {column: kind}, "genes": {column: kind}}, "n_edges": ..., "n_genes": ...}``;
    a kind is ``text``, ``bool``, ``int`` or ``float``.
``edges.tsv``
    ``source  target  weight`` and the optional columns, strongest edge first. Source is the regulator.
``genes.tsv``
    ``gene`` and the optional columns; every gene of the universe, also those without an edge.

A set, ``*.grns``, holds ``set.json`` (``{"format": "grnlab.network-set", "version": 1, "names": [...],
"provenance": {...}}``) and one network after another in the folders ``networks/000``, ``networks/001``, ...

The tables have one header line, one line per row, tabs between fields, and no quoting. Inside text a backslash, tab,
line feed and carriage return are written ``\\``, ``\t``, ``\n``, ``\r``, and a missing text is ``\N``, so a gene may
be called ``NA``, ``nan``, ``1`` or ``"quoted"``. Booleans are ``true`` and ``false``. Floats are the shortest decimals
that read back to the same 64 bits. The same network always gives the same bytes.
"""

import csv
import errno
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from grnlab._files import atomic_file
from grnlab._reading import DAMAGED_ARCHIVE, opened_archive, parse_json
from grnlab.network.tables import BOOLEAN, FLOAT, INTEGER, TEXT

VERSION = 1
NETWORK, NETWORK_SET = "grnlab.network", "grnlab.network-set"
_SUFFIX = {NETWORK: ".grn", NETWORK_SET: ".grns"}
_LOADER = {NETWORK: "GeneNetwork.load", NETWORK_SET: "NetworkSet.load"}
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_UNESCAPES = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}
_MISSING = "\\N"
_KINDS = {"O": TEXT, "b": BOOLEAN, "i": INTEGER, "f": FLOAT}  # by numpy dtype.kind
_BOOLEANS = {"true": True, "false": False}
_OLDEST = (1980, 1, 1, 0, 0, 0)  # a fixed time stamp keeps equal networks equal as files


class StoredNetwork(NamedTuple):
    """What one network is made of, as read from or written to a file."""

    edges: pd.DataFrame
    genes: pd.DataFrame
    name: str
    provenance: dict[str, Any]


def write_network(path: str | Path, network: StoredNetwork, *, overwrite: bool = False) -> Path:
    """Write one network to a ``.grn`` file; see the module for the format.

    Raises
    ------
    FileExistsError
        When `path` exists and `overwrite` is False.
    ValueError
        When `path` does not end in ``.grn``.
    """
    path = _checked_path(path, NETWORK)
    with atomic_file(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        _put_network(archive, "", network)
    return path


def read_network(path: str | Path) -> StoredNetwork:
    """Read one network from a ``.grn`` file.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is truncated, is no network file, or was written by a later format; the message names the file.
    """
    with _opened(path) as archive:
        return _take_network(archive, "", path)


def write_set(
    path: str | Path, networks: Sequence[StoredNetwork], provenance: dict[str, Any], *, overwrite: bool = False
) -> Path:
    """Write several networks to one ``.grns`` file; errors as in `write_network`."""
    path = _checked_path(path, NETWORK_SET)
    header = {"format": NETWORK_SET, "version": VERSION, "names": [n.name for n in networks], "provenance": provenance}
    with atomic_file(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        _put(archive, "set.json", _json_bytes(header))
        for number, network in enumerate(networks):
            _put_network(archive, f"networks/{number:03d}/", network)
    return path


def read_set(path: str | Path) -> tuple[list[StoredNetwork], dict[str, Any]]:
    """Read the networks and the provenance of a ``.grns`` file; errors as in `read_network`."""
    with _opened(path) as archive:
        header = _header(archive, "set.json", NETWORK_SET, path)
        networks = [_take_network(archive, f"networks/{i:03d}/", path) for i in range(len(header["names"]))]
        names = [network.name for network in networks]
        if names != header["names"] or len(set(names)) < len(names):
            msg = f"set.json names {header['names']}, the folders hold {names}; they must agree and differ"
            raise ValueError(msg)
        return networks, header["provenance"]


def table_to_tsv(table: pd.DataFrame) -> bytes:
    r"""Encode a table as the module describes.

    Examples
    --------
    >>> table_to_tsv(pd.DataFrame({"gene": ["A\tB"], "x": [0.1]}))
    b'gene\tx\nA\\tB\t0.1\n'
    """
    header = "\t".join(_escape(name) for name in table.columns)
    fields = [_encode(table[name]) for name in table.columns]
    rows = ["\t".join(row) for row in zip(*fields, strict=True)]
    return ("\n".join([header, *rows]) + "\n").encode("utf-8")


def table_from_tsv(data: bytes, kinds: dict[str, str]) -> pd.DataFrame:
    """Decode what `table_to_tsv` wrote; `kinds` gives every column and its kind in their order.

    Raises
    ------
    ValueError
        When the columns are not those of `kinds`, a line is short, or a value is not of its kind.
    """
    n_rows, n_tabs = data.count(b"\n") - 1, data.count(b"\t")
    header, ended, _ = data.partition(b"\n")
    if not ended or not data.endswith(b"\n") or n_tabs != (n_rows + 1) * (len(kinds) - 1):
        msg = f"a table does not have {len(kinds)} fields in each of its complete lines"
        raise ValueError(msg)
    if [_unescape(name) for name in header.decode("utf-8").split("\t")] != list(kinds):
        msg = f"a table has the header {header!r}, expected the columns {list(kinds)}"
        raise ValueError(msg)
    raw = pd.read_csv(
        io.BytesIO(data),
        sep="\t",
        quoting=csv.QUOTE_NONE,
        lineterminator="\n",
        header=None,
        skiprows=1,
        names=range(len(kinds)),
        index_col=False,
        dtype=object,
        na_filter=False,
        skip_blank_lines=False,
    )
    return pd.DataFrame({name: _decode(raw[i].tolist(), kind) for i, (name, kind) in enumerate(kinds.items())})


def _put_network(archive: zipfile.ZipFile, folder: str, network: StoredNetwork) -> None:
    genes = network.genes.reset_index()
    tables = {"edges": network.edges, "genes": genes}
    header = {
        "format": NETWORK,
        "version": VERSION,
        "name": network.name,
        "direction": network.provenance.get("direction"),
        "provenance": network.provenance,
        "columns": {key: {c: _KINDS[table[c].dtype.kind] for c in table} for key, table in tables.items()},
        "n_edges": len(network.edges),
        "n_genes": len(genes),
    }
    _put(archive, f"{folder}network.json", _json_bytes(header))
    _put(archive, f"{folder}edges.tsv", table_to_tsv(network.edges))
    _put(archive, f"{folder}genes.tsv", table_to_tsv(genes))


def _take_network(archive: zipfile.ZipFile, folder: str, path: str | Path) -> StoredNetwork:
    header = _header(archive, f"{folder}network.json", NETWORK, path)
    edges = table_from_tsv(_take(archive, f"{folder}edges.tsv"), header["columns"]["edges"])
    genes = table_from_tsv(_take(archive, f"{folder}genes.tsv"), header["columns"]["genes"])
    if (len(edges), len(genes)) != (header["n_edges"], header["n_genes"]):
        announced = f"{header['n_edges']} edges and {header['n_genes']} genes"
        msg = f"{folder}network.json announces {announced}, found {len(edges)} and {len(genes)}"
        raise ValueError(msg)
    return StoredNetwork(edges, genes.set_index("gene"), header["name"], header["provenance"])


@contextmanager
def _opened(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive for reading; whatever proves wrong inside becomes one ValueError that names the file."""
    path = Path(path)
    if not path.is_file():
        msg = f"There is no file {path}."
        raise FileNotFoundError(msg)
    try:
        with opened_archive(path) as archive:
            yield archive
    except DAMAGED_ARCHIVE as error:
        msg = f"{path} cannot be read as a grnlab network file: it is truncated, damaged or of another kind ({error})."
        raise ValueError(msg) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # offsets before the start of the file; anything else is the disk's affair
            raise
        msg = f"{path} cannot be read as a grnlab network file: it is damaged ({error})."
        raise ValueError(msg) from error
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        msg = f"{path} is not a whole grnlab network file: {error}."
        raise ValueError(msg) from error


def _header(archive: zipfile.ZipFile, member: str, wanted: str, path: str | Path) -> dict[str, Any]:
    other, other_member = (NETWORK_SET, "set.json") if wanted == NETWORK else (NETWORK, "network.json")
    if member not in archive.namelist() and other_member in archive.namelist():
        msg = f"it holds a {other} file; read it with {_LOADER[other]}({str(path)!r})"
        raise ValueError(msg)
    header = parse_json(_take(archive, member))
    if not isinstance(header, dict) or header.get("format") != wanted:
        msg = f"{member} does not say format {wanted!r}"
        raise ValueError(msg)
    if header.get("version") != VERSION:
        msg = f"it is of format version {header.get('version')}, this grnlab reads version {VERSION}; update grnlab"
        raise ValueError(msg)
    return header


def _take(archive: zipfile.ZipFile, member: str) -> bytes:
    try:
        return archive.read(member)
    except KeyError:
        msg = f"{member} is missing inside it"
        raise ValueError(msg) from None


def _put(archive: zipfile.ZipFile, member: str, data: bytes) -> None:
    info = zipfile.ZipInfo(member, date_time=_OLDEST)
    info.external_attr = 0o644 << 16
    archive.writestr(info, data, compress_type=zipfile.ZIP_DEFLATED, compresslevel=6)


def _json_bytes(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def _checked_path(path: str | Path, kind: str) -> Path:
    path = Path(path)
    if path.suffix != _SUFFIX[kind]:
        msg = f"path must end in {_SUFFIX[kind]}, got {path}; write {path.with_suffix(_SUFFIX[kind])}."
        raise ValueError(msg)
    return path


def _encode(column: pd.Series) -> list[str]:
    values = column.tolist()
    kind = _KINDS[column.dtype.kind]
    if kind == TEXT:
        escaped = {value: _MISSING if value is None else _escape(value) for value in set(values)}
        return [escaped[value] for value in values]
    if kind == BOOLEAN:
        return ["true" if value else "false" for value in values]
    return [repr(value) for value in values]


def _decode(fields: list[str], kind: str) -> pd.Series:
    if kind == TEXT:
        decoded = {field: None if field == _MISSING else _unescape(field) for field in set(fields)}
        return pd.Series([decoded[field] for field in fields], dtype=object)
    if kind == BOOLEAN:
        return pd.Series([_BOOLEANS[field] for field in fields], dtype=bool)
    if kind not in (INTEGER, FLOAT):
        msg = f"column kind {kind!r} is not known"
        raise ValueError(msg)
    return pd.Series(np.array(fields, dtype=object).astype(np.int64 if kind == INTEGER else np.float64))


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    pieces = iter(text)
    return "".join(_UNESCAPES[next(pieces)] if piece == "\\" else piece for piece in pieces)
