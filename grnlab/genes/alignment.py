"""Align the genes of a data set to a vocabulary by name, and say what happened to each."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from grnlab.genes.vocabulary import GeneVocab

# A name found as a symbol is trusted above an id, an id above an alias.
_RANK = {"symbol": 0, "ensembl": 1, "alias": 2}
_MOUSE = "Mus musculus"


@dataclass(frozen=True)
class AlignmentReport:
    """What became of the gene names of a data set.

    Attributes
    ----------
    n_input
        Number of gene names given.
    n_mapped
        How many of them are used.
    missing
        Names the vocabulary does not know.
    duplicated
        Names left out because a better name of the same gene is in the data set too.
    version_stripped
        Ensembl ids that were found after their version suffix was cut.
    alias_used
        Alias → symbol of the gene it stands for.
    """

    n_input: int
    n_mapped: int
    missing: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    version_stripped: list[str] = field(default_factory=list)
    alias_used: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        share = self.n_mapped / self.n_input if self.n_input else 0.0
        parts = [
            f"{self.n_mapped:,} of {self.n_input:,} genes mapped ({share:.1%})",
            f"{len(self.missing):,} missing",
            f"{len(self.duplicated):,} duplicated",
            f"{len(self.version_stripped):,} version suffixes stripped",
            f"{len(self.alias_used):,} found by alias",
        ]
        return "; ".join(parts)


@dataclass(frozen=True)
class Alignment:
    """Columns of a data set and the token each stands for, in the order of the tokens.

    The order depends on the vocabulary alone, so permuted input columns give the same alignment of the same genes.

    Attributes
    ----------
    columns
        Column numbers in the data set, int64.
    tokens
        Tokens, strictly increasing, int64 of the same length.
    report
        What happened to every name.
    """

    columns: np.ndarray
    tokens: np.ndarray
    report: AlignmentReport


def align(names: Sequence[str], vocab: GeneVocab) -> Alignment:
    """Find each gene name in the vocabulary.

    Parameters
    ----------
    names
        Gene names (symbols, Ensembl ids with or without version, or aliases), one per column of the data set.
    vocab
        The vocabulary of the model.

    Raises
    ------
    ValueError
        When a name occurs twice, no name is known, or the names look like those of another species.

    Examples
    --------
    >>> import pandas as pd
    >>> vocab = GeneVocab(pd.DataFrame({
    ...     "symbol": ["TP53", "GATA1"], "ensembl_id": ["ENSG00000141510", "ENSG00000102145"], "aliases": ["P53", ""],
    ...     "position": [0, 1], "species": "Homo sapiens", "is_tf": True}))
    >>> found = align(["ENSG00000102145.12", "XYZ", "P53"], vocab)
    >>> found.columns.tolist(), found.tokens.tolist(), found.report.missing
    ([2, 0], [0, 1], ['XYZ'])
    """
    names = [str(name) for name in names]
    _refuse_duplicates(names)
    best: dict[int, tuple[int, str, int]] = {}  # token → (rank, name, column); the name makes ties order-free
    kinds: dict[str, str] = {}
    missing, duplicated, stripped = [], [], []
    for column, name in enumerate(names):
        token, kind = vocab.find(name)
        if token is None:
            missing.append(name)
            continue
        kinds[name] = kind
        if kind == "ensembl" and name not in vocab.by_ensembl:
            stripped.append(name)
        claim = (_RANK[kind], name, column)
        if token in best:
            winner, loser = sorted((best[token], claim))
            duplicated.append(loser[1])
            best[token] = winner
        else:
            best[token] = claim
    if not best:
        _refuse_unknown(names, vocab)
    _refuse_other_species(names, len(best), vocab)
    tokens = np.array(sorted(best), dtype=np.int64)
    columns = np.array([best[token][2] for token in tokens], dtype=np.int64)
    used = {names[column] for column in columns}
    report = AlignmentReport(
        n_input=len(names),
        n_mapped=len(tokens),
        missing=missing,
        duplicated=sorted(duplicated),
        version_stripped=[name for name in stripped if name in used],
        alias_used={
            names[column]: str(vocab.symbols[token])
            for column, token in zip(columns, tokens, strict=True)
            if kinds[names[column]] == "alias"
        },
    )
    return Alignment(columns, tokens, report)


def _refuse_duplicates(names: list[str]) -> None:
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        msg = (
            f"{len(twice)} gene names occur more than once, for example {sorted(set(twice))[:3]}; each gene needs one "
            "column. Add the columns of a name up with gl.pp.sum_duplicate_genes(adata) before you go on."
        )
        raise ValueError(msg)


def _refuse_unknown(names: list[str], vocab: GeneVocab) -> None:
    if looks_like_mouse(names) and _MOUSE not in vocab.species:
        _refuse_other_species(names, 0, vocab)
    msg = (
        f"None of the {len(names):,} gene names is known to the model (first names: {names[:3]}; the model knows for "
        f"example {vocab.symbols[:3].tolist()}). Names must be symbols or Ensembl ids of {', '.join(vocab.species)}: "
        "if they stand in a column of adata.var, set adata.var_names to it; if adata is transposed, use adata.T."
    )
    raise ValueError(msg)


def _refuse_other_species(names: list[str], n_mapped: int, vocab: GeneVocab) -> None:
    if _MOUSE in vocab.species or not looks_like_mouse(names) or n_mapped > len(names) / 2:
        return
    msg = (
        f"The gene names look like mouse genes (for example {names[:3]}), but the model knows "
        f"{', '.join(vocab.species)} ({n_mapped} of {len(names):,} names found). Translate them to one-to-one "
        "orthologs, or load a model of that species."
    )
    raise ValueError(msg)


def looks_like_mouse(names: Sequence[str]) -> bool:
    """Whether most names are mouse Ensembl ids or written like mouse symbols (Cd3e, Gapdh).

    Examples
    --------
    >>> looks_like_mouse(["Cd3e", "Gapdh", "Actb"]), looks_like_mouse(["CD3E", "C1orf112"])
    (True, False)
    """
    mouse = sum(name.startswith("ENSMUSG") or bool(re.match(r"^[A-Z][a-z]+[a-z0-9-]*$", name)) for name in names)
    return mouse > len(names) / 2
