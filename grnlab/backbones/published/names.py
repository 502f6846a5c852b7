"""Vocabularies of published models: their gene names, completed from the human gene table of the built-in model."""

from collections.abc import Mapping, Sequence
from functools import cache

import pandas as pd

from grnlab.genes import GeneVocab

_MOUSE = "ENSMUSG"


@cache
def human_genes() -> GeneVocab:
    """The human gene table that comes with the package: symbols, Ensembl ids, aliases, transcription factors."""
    from importlib.resources import files
    from pathlib import Path

    return GeneVocab.load(Path(str(files("grnlab.backbones") / "weights" / "grnlab-small" / "genes.tsv.gz")))


def vocab_of_symbols(symbols: Sequence[str]) -> GeneVocab:
    """Vocabulary of a model that knows genes by symbol; older symbols are found through their aliases.

    Parameters
    ----------
    symbols
        One per token, unique.

    Examples
    --------
    >>> vocab = vocab_of_symbols(["SPI1", "MARCH1", "AC000000.1"])
    >>> vocab.token("ENSG00000066336"), vocab.token("MARCHF1"), vocab.is_tf.tolist()
    (0, 1, [True, False, False])
    """
    known = human_genes()
    rows: list[int | None] = [known.by_symbol.get(symbol) for symbol in symbols]
    taken = set(rows)
    for place, symbol in enumerate(symbols):
        if rows[place] is None and (row := known.by_alias.get(symbol)) is not None and row not in taken:
            rows[place] = row  # a symbol of the table is nobody's alias
            taken.add(row)
    return _vocab(symbols, rows)


def vocab_of_ensembl(ids: Sequence[str], *, other_names: Mapping[str, str] | None = None) -> GeneVocab:
    """Vocabulary of a model that knows genes by Ensembl id; an id without a symbol in the table is its own symbol.

    Parameters
    ----------
    ids
        One per token, unique.
    other_names
        Further name, such as a retired id → id; they become aliases.

    Examples
    --------
    >>> vocab = vocab_of_ensembl(["ENSG00000066336", "ENSG00000999999"], other_names={"OLD": "ENSG00000999999"})
    >>> vocab.symbols.tolist(), vocab.token("OLD")
    (['SPI1', 'ENSG00000999999'], 1)
    """
    known = human_genes()
    rows = [known.by_ensembl.get(name.split(".", 1)[0]) for name in ids]
    symbols = [name if row is None else str(known.symbols[row]) for name, row in zip(ids, rows, strict=True)]
    aliases: dict[str, set[str]] = {}
    for name, gene in (other_names or {}).items():
        if not set(name) & {"|", "\t", "\n"}:
            aliases.setdefault(str(gene), set()).add(name)
    return _vocab(symbols, rows, ids=ids, aliases=[aliases.get(name, set()) - {name} for name in ids])


def _vocab(
    symbols: Sequence[str],
    rows: Sequence[int | None],
    *,
    ids: Sequence[str] | None = None,
    aliases: Sequence[set[str]] | None = None,
) -> GeneVocab:
    table = human_genes().table
    known = table[["symbol", "ensembl_id", "aliases", "position", "is_tf"]].to_dict("list")
    found: dict[str, list[object]] = {name: [] for name in ("symbol", "ensembl_id", "aliases", "position", "is_tf")}
    for place, (symbol, row) in enumerate(zip(symbols, rows, strict=True)):
        names = set(aliases[place]) if aliases else set()
        if row is not None:
            names |= {*known["aliases"][row].split("|"), known["symbol"][row]} - {""}
        own_id = "" if row is None else known["ensembl_id"][row]
        found["symbol"].append(symbol)
        found["ensembl_id"].append(ids[place].split(".", 1)[0] if ids else own_id)
        found["aliases"].append("|".join(sorted(names - {symbol})))
        found["position"].append(0 if row is None else known["position"][row])
        found["is_tf"].append(row is not None and known["is_tf"][row])
    species = ["Mus musculus" if str(name).startswith(_MOUSE) else "Homo sapiens" for name in found["ensembl_id"]]
    return GeneVocab(pd.DataFrame(found).assign(species=species))
