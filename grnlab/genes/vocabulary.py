"""The genes a model knows: one row per token, looked up by symbol, Ensembl id or alias."""

import gzip
import hashlib
import io
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from grnlab._files import atomic_file
from grnlab._reading import read_separated

_COLUMNS = {
    "symbol": "string",
    "ensembl_id": "string",
    "aliases": "string",
    "position": "int64",
    "species": "string",
    "is_tf": "bool",
}


class GeneVocab:
    """Symbol ⇄ Ensembl id ⇄ alias ⇄ token, with genome position, species and a transcription-factor flag.

    A token is the row number of the gene. The table travels inside every checkpoint, so that a model can be used
    without any gene database.

    Parameters
    ----------
    table
        Columns ``symbol`` (unique within a species), ``ensembl_id`` (empty where unknown), ``aliases`` (joined by
        ``|``), ``position`` (rank along the genome; genes closer than 10 kb share one), ``species``, ``is_tf``.

    Raises
    ------
    ValueError
        When a column is missing, the table is empty, or a symbol occurs twice within a species.

    Examples
    --------
    >>> import pandas as pd
    >>> vocab = GeneVocab(pd.DataFrame({
    ...     "symbol": ["TP53", "MARCHF1"], "ensembl_id": ["ENSG00000141510", "ENSG00000145416"],
    ...     "aliases": ["P53|LFS1", "MARCH1"], "position": [0, 1], "species": "Homo sapiens", "is_tf": [True, False]}))
    >>> vocab.token("ENSG00000141510.17"), vocab.token("MARCH1"), vocab.token("unknown")
    (0, 1, None)
    """

    def __init__(self, table: pd.DataFrame) -> None:
        missing = [column for column in _COLUMNS if column not in table.columns]
        if missing:
            msg = f"table lacks the columns {missing}; a gene vocabulary needs {list(_COLUMNS)}."
            raise ValueError(msg)
        if len(table) == 0:
            msg = "table has no row; a gene vocabulary needs at least one gene."
            raise ValueError(msg)
        table = table[list(_COLUMNS)].fillna({"ensembl_id": "", "aliases": ""}).astype(_COLUMNS).reset_index(drop=True)
        twice = table.loc[table.duplicated(["species", "symbol"]), "symbol"]
        if len(twice):
            msg = f"table holds the symbols {list(twice[:5])} more than once in a species; symbols must be unique."
            raise ValueError(msg)
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        species = ", ".join(self.species)
        return f"GeneVocab({len(self):,} genes, {int(self.is_tf.sum()):,} transcription factors, {species})"

    @property
    def species(self) -> list[str]:
        """Species in the vocabulary, in order of appearance."""
        return [str(name) for name in self.table["species"].unique()]

    @cached_property
    def symbols(self) -> np.ndarray:
        """Symbols by token, an object array of length ``n_genes``."""
        return self.table["symbol"].to_numpy(dtype=object)

    @cached_property
    def positions(self) -> np.ndarray:
        """Genome rank by token, int64 of length ``n_genes``."""
        return self.table["position"].to_numpy(dtype=np.int64)

    @cached_property
    def is_tf(self) -> np.ndarray:
        """Transcription-factor flag by token, bool of length ``n_genes``."""
        return self.table["is_tf"].to_numpy(dtype=bool)

    @cached_property
    def by_symbol(self) -> dict[str, int]:
        """Symbol → token. A symbol shared by two species belongs to the first."""
        return _first(zip(self.symbols, range(len(self)), strict=True))

    @cached_property
    def by_ensembl(self) -> dict[str, int]:
        """Ensembl id without version → token."""
        return _first((name, token) for token, name in enumerate(self.table["ensembl_id"]) if name)

    @cached_property
    def by_alias(self) -> dict[str, int]:
        """Alias → token; an alias of two genes, or one that is another gene's symbol, names nobody."""
        owners: dict[str, set[int]] = {}
        for token, aliases in enumerate(self.table["aliases"]):
            for alias in filter(None, aliases.split("|")):
                owners.setdefault(alias, set()).add(token)
        return {
            alias: next(iter(tokens))
            for alias, tokens in owners.items()
            if len(tokens) == 1 and alias not in self.by_symbol
        }

    def token(self, name: str) -> int | None:
        """Token of a gene by symbol, Ensembl id (a version suffix is allowed) or unambiguous alias; None if unknown."""
        return self.find(name)[0]

    def find(self, name: str) -> tuple[int | None, str]:
        """Token of a gene as :meth:`token` gives it, and what the name is: ``"symbol"``, ``"ensembl"``, ``"alias"``."""
        stem = name.split(".", 1)[0] if name.startswith("ENS") else name
        for kind, names, key in (
            ("symbol", self.by_symbol, name),
            ("ensembl", self.by_ensembl, stem),
            ("alias", self.by_alias, name),
        ):
            if key in names:
                return names[key], kind
        return None, ""

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the table: two models with the same hash have the same tokens."""
        return hashlib.sha256(self._text().encode()).hexdigest()

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the table as a (gzipped, by suffix) tab-separated file."""
        with atomic_file(path, overwrite=overwrite) as temporary:
            content = self._text().encode()
            # without time and name of the temporary file, equal tables make equal bytes
            temporary.write_bytes(gzip.compress(content, mtime=0) if Path(path).suffix == ".gz" else content)

    @classmethod
    def load(cls, path: str | Path) -> "GeneVocab":
        """Read a table written by :meth:`save`.

        Raises
        ------
        ValueError
            When a column is missing, or the table breaks the rules of the class.
        """
        dtypes = {name: kind for name, kind in _COLUMNS.items() if name != "is_tf"}
        table = read_separated(path, separator="\t", dtype=dtypes, keep_default_na=False)
        if "is_tf" in table:
            table["is_tf"] = table["is_tf"].astype(str) == "True"
        return cls(table)

    def _text(self) -> str:
        buffer = io.StringIO()
        self.table.to_csv(buffer, sep="\t", index=False, lineterminator="\n")  # the same hash on every system
        return buffer.getvalue()


def _first(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    names: dict[str, int] = {}
    for name, token in pairs:
        names.setdefault(str(name), token)
    return names
