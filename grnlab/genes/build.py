"""Make a vocabulary from public gene tables."""

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from grnlab.genes.vocabulary import GeneVocab

_CHROMOSOMES = [*map(str, range(1, 23)), "X", "Y", "MT"]
_SHARED_WINDOW = 10_000  # bases: scPRINT gives genes closer than this the same position


def build_vocab(
    genes: str | Path,
    aliases: str | Path,
    tfs: str | Path,
    *,
    species: str = "Homo sapiens",
    keep: Collection[str] = (),
) -> GeneVocab:
    """Build a vocabulary of all protein-coding genes of a species, plus named others.

    Parameters
    ----------
    genes
        CSV with ``ensembl_gene_id, symbol, gene_biotype, chromosome_name, start_position`` (Ensembl BioMart).
    aliases
        CSV with ``symbol, alias`` (NCBI Gene).
    tfs
        Text file with one symbol of a transcription factor per line (Lambert et al. 2018,
        doi:10.1016/j.cell.2018.01.029).
    species
        Written into every row.
    keep
        Symbols or Ensembl ids to keep whatever their biotype, for example long non-coding genes seen in the cells.

    Notes
    -----
    Where a symbol has several Ensembl ids (patches, haplotypes), the one on a main chromosome is taken, then the
    smallest id. Genes on the main chromosomes are ranked by chromosome and start; a gene that starts within 10 kb of
    the first gene of its rank shares the rank, others start a new one. Genes of unplaced scaffolds come last, each with
    a rank of its own.
    """
    table = pd.read_csv(genes, dtype={"chromosome_name": "string", "symbol": "string"})
    kept = set(keep)
    table = table[
        (table["gene_biotype"] == "protein_coding") | table["symbol"].isin(kept) | table["ensembl_gene_id"].isin(kept)
    ]
    table = table[table["symbol"].notna()].copy()
    # A gene without a symbol repeats its id in that column; it is wanted only when asked for.
    nameless = table["symbol"] == table["ensembl_gene_id"]
    table = table[~nameless | table["ensembl_gene_id"].isin(kept)]
    chromosome = {name: rank for rank, name in enumerate(_CHROMOSOMES)}
    table["chromosome"] = table["chromosome_name"].map(chromosome).fillna(len(_CHROMOSOMES)).astype(int)
    table = table.sort_values(["symbol", "chromosome", "ensembl_gene_id"]).drop_duplicates("symbol")
    table.loc[table["chromosome"] == len(_CHROMOSOMES), "start_position"] = np.nan
    table = table.sort_values(["chromosome", "start_position", "symbol"]).reset_index(drop=True)
    table["position"] = genome_rank(table["chromosome"].to_numpy(), table["start_position"].to_numpy(dtype=float))
    names = pd.read_csv(aliases, dtype=str, keep_default_na=False)
    names = names[
        (names["symbol"] != names["alias"]) & ~names["alias"].map(lambda name: bool(re.search(r"[|\s]", name)))
    ]
    joined = names.groupby("symbol")["alias"].agg(lambda group: "|".join(sorted(set(group))))
    factors = set(Path(tfs).read_text(encoding="utf-8").split())
    return GeneVocab(
        pd.DataFrame(
            {
                "symbol": table["symbol"],
                "ensembl_id": table["ensembl_gene_id"],
                "aliases": table["symbol"].map(joined).fillna(""),
                "position": table["position"],
                "species": species,
                "is_tf": table["symbol"].isin(factors),
            }
        )
    )


def genome_rank(chromosome: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Rank of each gene along the genome; genes that start within 10 kb of a rank's first gene share it.

    Parameters
    ----------
    chromosome
        Chromosome number of each gene, sorted.
    start
        Start in bases, sorted within a chromosome.

    Examples
    --------
    >>> genome_rank(np.array([0, 0, 0, 1]), np.array([100.0, 9_000.0, 20_000.0, 100.0])).tolist()
    [0, 0, 1, 2]
    """
    ranks = np.zeros(len(start), dtype=np.int64)
    rank, first = -1, (-1, 0.0)
    for index, here in enumerate(zip(chromosome, start, strict=True)):
        if here[0] != first[0] or not here[1] - first[1] < _SHARED_WINDOW:
            rank, first = rank + 1, here
        ranks[index] = rank
    return ranks
