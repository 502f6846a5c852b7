"""One look through a file of counts: are they counts, which genes, how much in each cell. Kept in a cache.

A scan depends on the file, the slot and the vocabulary alone. Rules of quality and labels are applied to it later, so
changing them costs no second look.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from grnlab._files import atomic_file
from grnlab._reading import DAMAGED_ARRAYS, parse_json
from grnlab.data.counts import check_counts
from grnlab.data.files import CountsFile, identity
from grnlab.data.probe import PROBE
from grnlab.genes import GeneVocab, align

logger = logging.getLogger(__name__)

_FORMAT = 1  # of the cache; another number makes every older one stale
_MINORITY = 0.25  # share of genes of a second species above which nobody can say what the cells are


@dataclass(frozen=True)
class FileScan:
    """What a file holds, seen through a vocabulary.

    Attributes
    ----------
    identity
        Digest of the file, see :func:`grnlab.data.files.identity`.
    species
        Species of the genes.
    token_of_column
        Token of each column of the file, -1 for none, int32.
    totals
        Counts of each cell of the file over all its genes, float32.
    n_genes
        Genes of the vocabulary each cell expresses, int32.
    by_rows
        Whether single rows can be read: not so where the matrix is stored by columns (CSC).
    genes
        What became of the gene names, in words.
    """

    identity: str
    species: str
    by_rows: bool
    token_of_column: np.ndarray
    totals: np.ndarray
    n_genes: np.ndarray
    genes: str

    @property
    def available(self) -> np.ndarray:
        """Tokens measured in the file, increasing."""
        return np.sort(self.token_of_column[self.token_of_column >= 0]).astype(np.int64)


def scan(path: Path, vocab: GeneVocab, *, slot: str = "X", cache: Path | None = None) -> FileScan:
    """Scan a file, or take its scan from the folder `cache` where it is fresh.

    A stale scan (another file of that name) or a damaged one is made again and replaced; a folder that cannot be
    written costs a warning.

    Raises
    ------
    OSError, ValueError
        When the file cannot be read, does not hold counts, or its genes do not fit the vocabulary.
    """
    if cache is None:
        return scan_file(path, vocab, slot=slot)
    which = json.dumps([str(path.resolve()), slot, vocab.hash])
    place = cache / f"{path.stem[:60]}.{hashlib.sha256(which.encode()).hexdigest()[:16]}.npz"
    fresh = {"format": _FORMAT, "identity": identity(path), "slot": slot, "vocab": vocab.hash}
    known = _load(place, fresh)
    if known is not None:
        return known
    made = scan_file(path, vocab, slot=slot)
    try:
        with atomic_file(place, overwrite=True) as temporary, temporary.open("wb") as file:
            about = json.dumps({"key": fresh, "species": made.species, "by_rows": made.by_rows, "genes": made.genes})
            np.savez(
                file,
                about=np.frombuffer(about.encode(), dtype=np.uint8),
                token_of_column=made.token_of_column,
                totals=made.totals,
                n_genes=made.n_genes,
            )
    except OSError as error:
        logger.warning("%s: the scan of %s is not kept: %s", place, path, error)
    return made


def _load(place: Path, fresh: dict[str, object]) -> FileScan | None:
    """Scan of a cache file; None when there is none, it is stale, or it is damaged."""
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            about = parse_json(stored["about"].tobytes())
            if about["key"] != fresh:
                logger.info("%s is stale; the file is scanned again", place)
                return None
            arrays = {name: stored[name] for name in ("token_of_column", "totals", "n_genes")}
        return FileScan(
            identity=str(fresh["identity"]),
            species=str(about["species"]),
            by_rows=bool(about["by_rows"]),
            genes=str(about["genes"]),
            **arrays,
        )
    except FileNotFoundError:
        return None
    except (OSError, LookupError, TypeError, ValueError, AttributeError, *DAMAGED_ARRAYS) as error:
        logger.warning("%s is damaged (%s); the file is scanned again", place, error)
        return None


def scan_file(path: Path, vocab: GeneVocab, *, slot: str = "X") -> FileScan:
    """Read a file once, some rows at a time. Raises as :func:`scan`."""
    who = identity(path)
    PROBE.check(path)
    with CountsFile(path, slot) as file:
        n_cells, n_genes = file.shape
        found = align(file.gene_names(), vocab)
        species = _species(file, found.tokens, vocab)
        of_species = vocab.table["species"].to_numpy(dtype=object)[found.tokens] == species
        token_of_column = np.full(n_genes, -1, dtype=np.int32)
        token_of_column[found.columns[of_species]] = found.tokens[of_species]
        totals, expressed = np.zeros(n_cells, dtype=np.float32), np.zeros(n_cells, dtype=np.int32)
        try:
            for here, block in file.blocks():
                name = f"adata.{slot}" if here == slice(0, n_cells) else f"adata.{slot}[{here.start}:{here.stop}]"
                if block.nnz == 0:
                    continue
                if block.indices.min() < 0 or block.indices.max() >= n_genes:
                    msg = f"{name} has column numbers outside 0 to {n_genes - 1}; the file is damaged."
                    raise ValueError(msg)
                counts = check_counts(block, name=name)
                totals[here] = counts.sum(axis=1, dtype=np.float64).A1
                expressed[here] = np.diff(to_tokens(counts, token_of_column)[2])
        except ValueError as error:
            others = file.other_counts()
            hint = f" Here {others[0]} does hold counts: pass slot={others[0]!r}." if others else ""
            msg = str(error).replace("layer='counts'", "slot='layers/counts'") + hint
            raise ValueError(msg) from error
    if not totals.any():
        msg = f"adata.{slot} has shape {n_cells, n_genes} and no count; there must be cells, genes and counts."
        raise ValueError(msg)
    return FileScan(who, species, file.by_rows, token_of_column, totals, expressed, str(found.report))


def _species(file: CountsFile, tokens: np.ndarray, vocab: GeneVocab) -> str:
    """Species of a file: what its cells say, otherwise what most of its genes say."""
    organism = file.organism()
    present = [] if organism is None else organism.remove_unused_categories().categories
    said = [name for name in present if name in vocab.species]
    if len(said) > 1:
        msg = f"the file mixes cells of {' and '.join(said)}; split it by obs['organism'], one species a file."
        raise ValueError(msg)
    if said:
        return str(said[0])
    names, count = np.unique(vocab.table["species"].to_numpy(dtype=str)[tokens], return_counts=True)
    if count.sum() - count.max() > _MINORITY * count.sum():
        shares = ", ".join(f"{n:,} of {name}" for name, n in zip(names, count, strict=True))
        msg = f"the genes are of several species ({shares}); split the file by species, or give obs['organism']."
        raise ValueError(msg)
    return str(names[count.argmax()])


def to_tokens(counts: sp.csr_matrix, token_of_column: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts over the columns of a file → float32 counts over tokens without zeros, their tokens, and row pointer."""
    tokens = token_of_column[counts.indices]
    values = np.rint(counts.data).astype(np.float32, copy=False)
    known = (tokens >= 0) & (values != 0)
    return values[known], tokens[known], np.append(0, np.cumsum(known))[counts.indptr]
