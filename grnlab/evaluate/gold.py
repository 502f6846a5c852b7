"""Gold standards: the edges a ranking is judged by, whoever published them and in whatever columns."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from grnlab.genes import GeneVocab
from grnlab.genes.alignment import looks_like_mouse

# What public tables call their columns, lower case; the first that is there is taken. NicheNet's source is a database.
SOURCES = ("source_genesymbol", "tf", "regulator", "regulatorygene", "gene1", "from", "source")
TARGETS = ("target", "target_genesymbol", "targetgene", "gene2", "to")
_SIGNS = ("sign", "mor", "mode", "weight_sign", "regulation")
_SIGN_WORDS = {
    "activation": 1, "activator": 1, "positive": 1, "up": 1, "+": 1,
    "repression": -1, "repressor": -1, "inhibition": -1, "negative": -1, "down": -1, "-": -1,
}  # fmt: skip


@dataclass(frozen=True, eq=False)  # tables have no single truth value to compare by
class GoldStandard:
    """True edges, regulator → target.

    Attributes
    ----------
    name
        What tables of results call it.
    edges
        Columns ``source`` and ``target`` (names), ``sign`` (1, -1, or 0 where unknown or contradictory); each edge
        once, no gene with itself.
    report
        What was left out and why, and what alignment did: number of edges by reason.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"TF": ["SPI1", "SPI1", "GATA1"], "target": ["LYZ", "LYZ", "GATA1"],
    ...                       "mode": ["Activation", "Unknown", "Activation"]})
    >>> gold = GoldStandard.from_frame(table, name="mine")
    >>> gold.edges.values.tolist(), gold.report
    ([['SPI1', 'LYZ', 1]], {'rows': 3, 'gene with itself': 1, 'listed again': 1, 'edges': 1})
    """

    name: str
    edges: pd.DataFrame
    report: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"GoldStandard({self.name!r}, {len(self.edges):,} edges, {self.edges['source'].nunique():,} regulators, "
            f"{self.edges['target'].nunique():,} targets)"
        )

    def __len__(self) -> int:
        return len(self.edges)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        name: str,
        source: str | None = None,
        target: str | None = None,
        sign: str | None = None,
        keep: Mapping[str, Any] | None = None,
    ) -> "GoldStandard":
        """Take edges from a table: decoupler's, OmniPath's, BEELINE's, TRRUST's, or your own.

        Parameters
        ----------
        frame
            One edge per row.
        name
            Name of the gold standard.
        source, target, sign
            Its columns; found by their usual names where None (``source, tf, regulator, Gene1 ...``). A sign may be a
            number or a word (Activation, Repression); OmniPath's ``is_stimulation`` and ``is_inhibition`` are read too.
        keep
            Column → value, or collection of values, of the rows to keep: ``{"confidence": ["A", "B", "C"]}``.

        Raises
        ------
        ValueError
            When a column or a value to keep is not there, or no edge is left.
        """
        n_rows, filtered = len(frame), frame
        for column, wanted in (keep or {}).items():
            _need(frame, column, "keep")
            values = {wanted} if isinstance(wanted, str) or not isinstance(wanted, Collection) else set(wanted)
            if not frame[column].isin(values).any():
                found = sorted(map(str, frame[column].dropna().unique()))[:8]
                msg = f"keep={{{column!r}: {wanted!r}}} leaves no row; the column holds {', '.join(found)} ..."
                raise ValueError(msg)
            filtered = filtered[filtered[column].isin(values)]
        source, target = _column(frame, "source", source, SOURCES), _column(frame, "target", target, TARGETS)
        edges = pd.DataFrame(
            {
                "source": filtered[source].astype("string").str.strip(),
                "target": filtered[target].astype("string").str.strip(),
                "sign": _signs(filtered, sign),
            }
        )
        report = {"rows": n_rows}
        if len(filtered) < n_rows:
            report["not kept"] = n_rows - len(filtered)
        return cls(name, edges, report)._clean()

    def _clean(self) -> "GoldStandard":
        """Drop what is no edge, and add up the signs of edges that are listed more than once."""
        edges, report = self.edges, dict(self.report)
        nameless = edges["source"].isna() | edges["target"].isna() | (edges["source"] == "") | (edges["target"] == "")
        itself = ~nameless & (edges["source"] == edges["target"])
        edges = edges[~nameless & ~itself]
        n_listed = len(edges)
        grouped = edges.groupby(["source", "target"], sort=False)["sign"]
        # an edge that is said to activate and to repress has no sign
        edges = ((grouped.max().clip(lower=0) + grouped.min().clip(upper=0)).astype(np.int8)).reset_index()
        left_out = {"without a name": nameless.sum(), "gene with itself": itself.sum()}
        for reason, count in (left_out | {"listed again": n_listed - len(edges)}).items():
            if count:
                report[reason] = report.get(reason, 0) + int(count)
        report["edges"] = len(edges)
        if not len(edges):
            msg = f"the gold standard {self.name!r} has no edge: {report}."
            raise ValueError(msg)
        return replace(self, edges=edges.astype({"source": object, "target": object}), report=report)

    def align(self, vocab: GeneVocab) -> "GoldStandard":
        """Rename genes to the symbols of a vocabulary (by symbol, Ensembl id or alias); edges of others are left out.

        Complexes, several names joined by ``_`` as in OmniPath, count as unknown.

        Raises
        ------
        ValueError
            When no edge is left, or the names are those of mouse genes.
        """
        names = pd.unique(self.edges[["source", "target"]].to_numpy().ravel())
        symbol = {name: str(vocab.symbols[token]) for name in names if (token := vocab.token(name)) is not None}
        if looks_like_mouse(names) and len(symbol) < len(names) / 2:
            msg = (
                f"{self.name!r} names mouse genes (for example {', '.join(names[:3])}), the vocabulary knows "
                f"{', '.join(vocab.species)}; translate them to one-to-one orthologs first."
            )
            raise ValueError(msg)
        edges = self.edges.assign(
            source=self.edges["source"].map(symbol).astype("string"),
            target=self.edges["target"].map(symbol).astype("string"),
        )
        unknown = edges["source"].isna() | edges["target"].isna()
        report = {**self.report, "names": len(names), "unknown names": len(names) - len(symbol)}
        report |= {"edges of unknown names": int(unknown.sum())}
        report["renamed"] = sum(name != found for name, found in symbol.items())
        return replace(self, edges=edges[~unknown], report=report)._clean()

    def signed(self, sign: int) -> "GoldStandard":
        """Keep the edges of one sign: 1 (activation) or -1 (repression)."""
        edges = self.edges[self.edges["sign"] == sign]
        if not len(edges):
            msg = f"sign={sign} leaves no edge of {self.name!r}; its signs are {sorted(self.edges['sign'].unique())}."
            raise ValueError(msg)
        return replace(self, name=f"{self.name} ({'+' if sign > 0 else '-'})", edges=edges.reset_index(drop=True))

    def only_regulators(self, names: Collection[str]) -> "GoldStandard":
        """Keep the edges of given regulators, for example a list of transcription factors."""
        edges = self.edges[self.edges["source"].isin(set(names))]
        if not len(edges):
            msg = f"none of the {len(names)} names regulates anything in {self.name!r}."
            raise ValueError(msg)
        return replace(self, edges=edges.reset_index(drop=True), report={**self.report, "edges": len(edges)})


def _need(frame: pd.DataFrame, column: str, argument: str) -> None:
    if column not in frame:
        msg = f"{argument} names the column {column!r}; the table has {', '.join(map(str, frame.columns))}."
        raise ValueError(msg)


def _column(frame: pd.DataFrame, role: str, given: str | None, known: tuple[str, ...]) -> str:
    if given is not None:
        _need(frame, given, role)
        return given
    by_name = {str(column).lower(): column for column in reversed(list(frame.columns))}
    for name in known:
        if name in by_name:
            return by_name[name]
    msg = (
        f"no column of {', '.join(map(str, frame.columns))} is known to hold the {role}; name it with {role}=... "
        f"(found by themselves: {', '.join(known)})."
    )
    raise ValueError(msg)


def _signs(frame: pd.DataFrame, given: str | None) -> np.ndarray:
    if given is None:
        if {"is_stimulation", "is_inhibition"} <= set(frame.columns):
            up, down = (frame[c].fillna(0).astype(bool).to_numpy() for c in ("is_stimulation", "is_inhibition"))
            return up.astype(np.int8) - down.astype(np.int8)
        given = next((column for column in frame.columns if str(column).lower() in _SIGNS), None)
        if given is None:
            return np.zeros(len(frame), dtype=np.int8)
    _need(frame, given, "sign")
    values = frame[given]
    if pd.api.types.is_numeric_dtype(values):
        return np.sign(values.fillna(0).to_numpy()).astype(np.int8)
    return values.astype("string").str.strip().str.lower().map(_SIGN_WORDS).fillna(0).to_numpy().astype(np.int8)
