"""Gold standards from files and from online resources."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from grnlab._optional import require
from grnlab._reading import EXACT, most_bytes, opened, parse_json, read_text
from grnlab.evaluate.gold import SOURCES, TARGETS, GoldStandard

_ONLINE = ("collectri", "dorothea")
_BYTES_PER_FIELD = 8


def read_gold(
    path: str | Path,
    *,
    name: str | None = None,
    source: str | None = None,
    target: str | None = None,
    sign: str | None = None,
    keep: Mapping[str, Any] | None = None,
) -> GoldStandard:
    """Read a gold standard from a file, by its suffix (``.gz`` may follow).

    ========== =========================================================================================
    suffix     content
    ========== =========================================================================================
    csv, tsv,  one edge per row; the separator is found. Without known column names, a table of two or
    txt        three columns is taken as source, target and sign without a header
    parquet    the same; needs pyarrow
    gmt        a set per regulator: name, description, targets
    json       regulator → list of targets; of a name of several words (``"GATA1 K562"``, as in Enrichr's
               libraries of ENCODE) the first is the regulator
    ========== =========================================================================================

    Parameters
    ----------
    path
        The file.
    name
        Name of the gold standard; that of the file by default.
    source, target, sign, keep
        As in :meth:`GoldStandard.from_frame`; tables only.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the suffix is unknown, columns are not there, or no edge is left.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"there is no file {path}."
        raise FileNotFoundError(msg)
    try:
        frame, options = _frame(path, {"source": source, "target": target, "sign": sign, "keep": keep})
        return GoldStandard.from_frame(frame, name=name or path.name.split(".")[0], **options)
    except (ValueError, csv.Error) as error:
        msg = str(error)
        msg = msg if path.name in msg else f"{path} cannot be read as a gold standard: {msg}"
        raise ValueError(msg) from error


def fetch_gold(resource: str, *, organism: str = "human", keep: Mapping[str, Any] | None = None) -> GoldStandard:
    """Fetch CollecTRI or DoRothEA through decoupler, which asks OmniPath's server: the only call here that goes online.

    Parameters
    ----------
    resource
        ``"collectri"`` or ``"dorothea"``.
    organism, keep
        Of decoupler, and as in :meth:`GoldStandard.from_frame`.

    Raises
    ------
    ImportError
        When decoupler is not installed.
    ValueError
        For an unknown resource.
    """
    if resource not in _ONLINE:
        msg = f"resource={resource!r} is unknown; choose among {', '.join(_ONLINE)}, or read a file with read_gold."
        raise ValueError(msg)
    decoupler = require("decoupler", install="decoupler>=2.0", purpose="to fetch gold standards")
    frame = getattr(decoupler.op, resource)(organism=organism)
    sign = "weight" if "weight" in frame else None
    return GoldStandard.from_frame(frame, name=resource, sign=sign, keep=keep)


def _frame(path: Path, options: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Edges of a file, and the options that are left for a table."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind in {".gmt", ".json"}:
        if given := [key for key, value in options.items() if value is not None]:
            msg = f"{given[0]} is for tables; {path.name} holds sets of targets."
            raise ValueError(msg)
        sets = _gmt(path) if kind == ".gmt" else _json(path)
        pairs = [(regulator, target) for regulator, targets in sets for target in targets]
        return pd.DataFrame(pairs, columns=["source", "target"]), {}
    if kind == ".parquet":
        require("pyarrow", install="pyarrow", purpose="to read parquet files")
        return _parquet(path), options
    if kind not in {".csv", ".tsv", ".txt"}:
        msg = f"{path.name} has an unknown suffix; expected csv, tsv, txt, parquet, gmt or json, or those with .gz."
        raise ValueError(msg)
    return _table(path, named=bool(options["source"] or options["target"])), options


def _table(path: Path, *, named: bool) -> pd.DataFrame:
    separator = _separator(path)
    engine = "python" if separator is None else "c"
    options: dict[str, Any] = {"sep": separator, "engine": engine, "keep_default_na": False, "na_values": [""]}
    frame = _read_csv(path, **options)
    if not isinstance(frame.index, pd.RangeIndex):  # pandas would shift the columns
        msg = f"{path.name} has rows of more fields than its header names; correct them."
        raise ValueError(msg)
    if named or len(frame.columns) > 3:
        return frame
    if {str(column).lower() for column in frame.columns} & {*SOURCES, *TARGETS}:
        return frame
    frame = _read_csv(path, header=None, **options)
    return frame.set_axis(["source", "target", "sign"][: len(frame.columns)], axis=1)


def _read_csv(path: Path, **options: Any) -> pd.DataFrame:
    with opened(path) as file:
        return pd.read_csv(file, float_precision=EXACT if options["engine"] == "c" else None, **options)


def _parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(path)
        _refuse_bomb(about, path)
        return pd.read_parquet(path)
    except (OSError, LookupError, TypeError, ValueError, pa.ArrowException) as error:
        msg = f"{path} cannot be read as parquet: {' '.join(str(error).split())}."
        raise ValueError(msg) from error


def _refuse_bomb(about: Any, path: Path) -> None:
    if _BYTES_PER_FIELD * about.num_rows * about.num_columns > most_bytes(path.stat().st_size):
        msg = f"{path} announces {about.num_rows:,} rows, far more than its size allows; refused as unsafe."
        raise ValueError(msg)


def _separator(path: Path) -> str | None:
    """That of the suffix, or another that the first line holds; None for pandas to find."""
    own = {".csv": ",", ".tsv": "\t"}.get(path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix)
    with opened(path) as file:
        header = file.readline().decode("utf-8-sig")
    return next((sign for sign in (own, "\t", ";", ",") if sign and sign in header), own)


def _gmt(path: Path) -> list[tuple[str, list[str]]]:
    lines = [line.rstrip("\r\n").split("\t") for line in read_text(path).splitlines() if line.strip()]
    if short := [number for number, line in enumerate(lines, 1) if len(line) < 3]:
        msg = f"line {short[0]} of {path.name} is no gene set: name, description and genes, separated by tabs."
        raise ValueError(msg)
    return [(_first_word(line[0], path), [gene for gene in line[2:] if gene]) for line in lines]


def _json(path: Path) -> list[tuple[str, list[str]]]:
    try:
        content = parse_json(read_text(path))
    except ValueError as error:
        msg = f"{path.name} is not JSON: {error}."
        raise ValueError(msg) from error
    if not isinstance(content, dict) or not all(
        isinstance(targets, list) and all(isinstance(gene, str) for gene in targets) for targets in content.values()
    ):
        msg = f"{path.name} must hold an object of lists of names, regulator → targets."
        raise ValueError(msg)
    return [(_first_word(regulator, path), targets) for regulator, targets in content.items()]


def _first_word(name: str, path: Path) -> str:
    if not name.strip():
        msg = f"{path.name} holds a set without a name; the name is that of the regulator."
        raise ValueError(msg)
    return name.split(maxsplit=1)[0]
