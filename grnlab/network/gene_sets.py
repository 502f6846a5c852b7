"""Gene sets: bundled ones, GMT files, and libraries on the net when asked for."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from grnlab._optional import require

_RESOURCES = Path(__file__).parent / "resources"
SOURCES = ("enrichr", "decoupler")
_DECOUPLER = ("collectri", "dorothea", "hallmark", "progeny")

GeneSets = str | Path | Mapping[str, Iterable[str]]


def bundled_gene_sets() -> dict[str, Path]:
    """Name → GMT file of the gene sets that ship with grnlab: well-known human markers, curated by hand.

    Examples
    --------
    >>> sorted(bundled_gene_sets())
    ['blood_cell_markers', 'programmes']
    """
    return {path.stem: path for path in sorted(_RESOURCES.glob("*.gmt"))}


def read_gmt(path: str | Path) -> dict[str, list[str]]:
    """Read a GMT file: per line a set name, a description, and its genes, separated by tabs.

    Windows line ends, a byte order mark, blank lines, empty fields and repeated genes are accepted.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        Naming file and line: no tabs, no name, no genes, a set name used twice, text that is not UTF-8, an empty file.

    Examples
    --------
    >>> read_gmt(bundled_gene_sets()["blood_cell_markers"])["B cell"][:2]
    ['MS4A1', 'CD79A']
    """
    path = Path(path)
    if not path.is_file():
        msg = f"There is no GMT file {path}. Bundled sets: {', '.join(bundled_gene_sets())}."
        raise FileNotFoundError(msg)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); a GMT file is plain text with tabs."
        raise ValueError(msg) from error
    sets: dict[str, list[str]] = {}
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        genes = list(dict.fromkeys(field for field in rest[1:] if field))
        if not name or not genes:
            msg = f"{path}, line {number}: expected 'name<tab>description<tab>gene<tab>gene...', got {line[:60]!r}."
            raise ValueError(msg)
        if name in sets:
            msg = f"{path}, line {number}: the set name {name!r} occurs a second time; names must be unique."
            raise ValueError(msg)
        sets[name] = genes
    if not sets:
        msg = f"{path} holds no gene set; expected lines of 'name<tab>description<tab>gene<tab>gene...'."
        raise ValueError(msg)
    return sets


def fetch_gene_sets(name: str, source: str = "enrichr", *, organism: str = "human") -> dict[str, list[str]]:
    """Download gene sets: the only function of enrichment that uses the network, and only when called.

    The sets are then tested here, against the genes of the experiment; no gene list leaves the machine.

    Parameters
    ----------
    name
        Library of Enrichr, such as ``"KEGG_2021_Human"`` (https://maayanlab.cloud/Enrichr/#libraries); or, for
        decoupler, one of ``"collectri"``, ``"dorothea"``, ``"hallmark"``, ``"progeny"``.
    source
        ``"enrichr"`` (through gseapy) or ``"decoupler"``, which must be installed, version 2 or later.
    organism
        As the source names it.

    Returns
    -------
    Set name → genes, for `GeneNetwork.enrich` and `GeneNetwork.prerank`.

    Raises
    ------
    ValueError
        When the source or the library is unknown.
    ConnectionError
        When the download fails.
    ImportError
        When decoupler is missing; the message gives the pip line.

    Examples
    --------
    >>> fetch_gene_sets("KEGG_2021_Human", "msigdb")
    Traceback (most recent call last):
    ValueError: source must be one of enrichr, decoupler, got 'msigdb'.
    """
    if source not in SOURCES:
        msg = f"source must be one of {', '.join(SOURCES)}, got {source!r}."
        raise ValueError(msg)
    try:
        if source == "enrichr":
            import gseapy

            return {term: list(genes) for term, genes in gseapy.get_library(name, organism=organism).items()}
        if name not in _DECOUPLER:
            msg = f"name must be one of {', '.join(_DECOUPLER)} for source='decoupler', got {name!r}."
            raise ValueError(msg)
        operators = require("decoupler", install="decoupler>=2", purpose="for gene sets of source='decoupler'").op
        table = getattr(operators, name)(organism=organism)
    except OSError as error:  # those of requests and urllib are such
        msg = f"{name!r} could not be fetched from {source} ({error}); use a GMT file when there is no network."
        raise ConnectionError(msg) from error
    sets = pd.DataFrame(table).groupby("source", sort=True)["target"]
    return {str(term): list(dict.fromkeys(genes)) for term, genes in sets}


def libraries(gene_sets: GeneSets | None) -> dict[str, dict[str, list[str]]]:
    """Library → set name → genes, of whatever form `enrich` takes."""
    bundled = bundled_gene_sets()
    if gene_sets is None:
        return {name: read_gmt(path) for name, path in bundled.items()}
    if isinstance(gene_sets, Mapping):
        sets = {name: list(gene_names(genes, argument=f"gene_sets[{name!r}]")) for name, genes in gene_sets.items()}
        if not sets:
            msg = "gene_sets is an empty mapping; give set name → genes, a GMT file, or None for the bundled sets."
            raise ValueError(msg)
        return {"gene_sets": sets}
    if not isinstance(gene_sets, str | Path):
        msg = f"gene_sets must be a GMT path, a bundled name or a mapping, got {type(gene_sets).__name__}."
        raise ValueError(msg)
    path = bundled.get(str(gene_sets), Path(gene_sets))
    return {path.stem: read_gmt(path)}


def gene_names(genes: Iterable[str], *, argument: str) -> pd.Index:
    """Names without repeats; refuses one text instead of a list, and what is no text."""
    if isinstance(genes, str):
        msg = f"{argument} must be a list of gene names, got the text {genes!r}; write [{genes!r}]."
        raise ValueError(msg)
    names = list(dict.fromkeys(genes))
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        msg = f"{argument} must hold gene names (str), got {wrong[0]!r} ({type(wrong[0]).__name__})."
        raise ValueError(msg)
    return pd.Index(names, dtype=object)


class Codes:
    """Codes for gene names, which gseapy would change: case, blanks, and numbers that it takes for Entrez ids."""

    def __init__(self, names: pd.Index) -> None:
        self._names = names
        self._code = {name: f"G{i}" for i, name in enumerate(names)}

    @property
    def all(self) -> list[str]:
        """Every code."""
        return list(self._code.values())

    def of(self, names: Iterable[str]) -> list[str]:
        """Code of each name."""
        return [self._code[name] for name in names]

    def names(self, joined: str) -> list[str]:
        """Names of codes that gseapy has joined by ``;``."""
        return [self._names[int(code[1:])] for code in joined.split(";") if code]
