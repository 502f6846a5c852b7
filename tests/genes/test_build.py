import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grnlab.genes import build_vocab
from grnlab.genes.build import genome_rank

GENES = [
    # ensembl id, symbol, biotype, chromosome, start
    ("ENSG00000000005", "LATE", "protein_coding", "10", 100),
    ("ENSG00000000004", "NEAR", "protein_coding", "2", 9_000),
    ("ENSG00000000003", "FIRST", "protein_coding", "2", 1_000),
    ("ENSG00000000006", "MITO", "protein_coding", "MT", 5),
    ("ENSG00000000007", "SCAFFOLD", "protein_coding", "KI270728.1", 1),
    ("ENSG00000000008", "SCAFFOLD2", "protein_coding", "KI270728.1", 2),
    ("ENSG00000000001", "PATCHED", "protein_coding", "CHR_HG1_PATCH", 50),
    ("ENSG00000000009", "PATCHED", "protein_coding", "3", 50),
    ("ENSG00000000010", "PATCHED", "protein_coding", "3", 51),
    ("ENSG00000000011", "LINC1", "lncRNA", "1", 10),
    ("ENSG00000000012", "LINC2", "lncRNA", "1", 100_000),
    ("ENSG00000000013", "ENSG00000000013", "protein_coding", "1", 10),
    ("ENSG00000000014", None, "protein_coding", "1", 10),
]


@pytest.fixture
def build(tmp_path):
    columns = ["ensembl_gene_id", "symbol", "gene_biotype", "chromosome_name", "start_position"]
    pd.DataFrame(GENES, columns=columns).to_csv(tmp_path / "genes.csv", index=False)
    aliases = [("FIRST", "OLDFIRST"), ("FIRST", "FIRST"), ("FIRST", "ALSO FIRST"), ("FIRST", "A|B"), ("FIRST", "F1")]
    pd.DataFrame(aliases, columns=["symbol", "alias"]).to_csv(tmp_path / "aliases.csv", index=False)
    (tmp_path / "tfs.txt").write_text("NEAR\nNOT_HERE\n")
    return lambda **more: build_vocab(*(tmp_path / n for n in ("genes.csv", "aliases.csv", "tfs.txt")), **more)


def test_genes_are_ordered_along_the_genome(build):
    vocab = build()
    assert vocab.symbols.tolist() == ["FIRST", "NEAR", "PATCHED", "LATE", "MITO", "SCAFFOLD", "SCAFFOLD2"]
    assert vocab.positions.tolist() == [0, 0, 1, 2, 3, 4, 5]


def test_the_main_chromosome_and_smallest_id_win(build):
    vocab = build()
    assert vocab.table.set_index("symbol").loc["PATCHED", "ensembl_id"] == "ENSG00000000009"


def test_biotypes_and_nameless_genes_are_kept_only_when_asked_for(build):
    assert not {"LINC1", "LINC2", "ENSG00000000013"} & set(build().symbols)
    kept = set(build(keep=["LINC1", "ENSG00000000012", "ENSG00000000013"]).symbols)
    assert {"LINC1", "LINC2", "ENSG00000000013"} <= kept


def test_aliases_flags_and_species(build):
    vocab = build(species="Pan paniscus")
    assert vocab.table["aliases"].tolist()[0] == "F1|OLDFIRST"
    assert vocab.token("OLDFIRST") == 0
    assert vocab.symbols[vocab.is_tf].tolist() == ["NEAR"]
    assert vocab.species == ["Pan paniscus"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60_000)), min_size=1))
def test_ranks_never_fall_and_share_only_within_the_window(genes):
    chromosome, start = np.array(sorted(genes)).T
    rank = genome_rank(chromosome, start.astype(float))
    assert rank[0] == 0
    assert set(np.diff(rank)) <= {0, 1}
    for one in range(rank.max() + 1):
        here = rank == one
        assert len(set(chromosome[here])) == 1
        assert np.ptp(start[here]) < 10_000


def test_genes_without_a_place_have_a_rank_each():
    assert genome_rank(np.array([25, 25, 25]), np.array([np.nan] * 3)).tolist() == [0, 1, 2]
