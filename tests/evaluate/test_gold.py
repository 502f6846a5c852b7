import gzip
import json
import sys
import types

import numpy as np
import pandas as pd
import pytest

from grnlab.evaluate import GoldStandard, candidate_universe, fetch_gold, read_gold
from grnlab.genes import GeneVocab

EDGES = [("SPI1", "LYZ", 1), ("SPI1", "CD14", 0), ("GATA1", "HBB", -1)]


@pytest.fixture(scope="module")
def vocab():
    symbols = ["SPI1", "LYZ", "CD14", "GATA1", "HBB"]
    table = pd.DataFrame({"symbol": symbols, "ensembl_id": [f"ENSG{n:011d}" for n in range(5)]})
    aliases = ["PU1", "", "", "", ""]
    return GeneVocab(table.assign(aliases=aliases, position=range(5), species="Homo sapiens", is_tf=False))


def listed(gold):
    return sorted(gold.edges.itertuples(index=False, name=None))


@pytest.mark.parametrize(
    ("columns", "signs"),
    [
        (("source", "target", "weight_sign"), [0.7, 0.0, -3]),
        (("TF", "target", "mode"), ["Activation", "Unknown", "Repression"]),
        (("tf", "target", "mor"), [1, np.nan, -1]),
        (("Gene1", "Gene2", "sign"), ["+", "", "-"]),
        (("regulator", "target", "Regulation"), [" UP", None, "down"]),
    ],
)
def test_columns_and_signs_of_published_tables(columns, signs):
    rows = [(source, target, sign) for (source, target, _), sign in zip(EDGES, signs, strict=True)]
    gold = GoldStandard.from_frame(pd.DataFrame(rows, columns=columns), name="table")
    assert listed(gold) == sorted(EDGES)


def test_the_database_of_a_row_is_no_gene():
    frame = pd.DataFrame({"regulator": ["SPI1"], "target": ["LYZ"], "source": ["CHEA"]})
    assert listed(GoldStandard.from_frame(frame, name="NicheNet")) == [("SPI1", "LYZ", 0)]


def test_omnipath_signs_and_filter():
    frame = pd.DataFrame(
        {
            "source": ["SPI1", "GATA1", "SPI1", "CALM1"],
            "target": ["LYZ", "HBB", "CD14", "TRPC1"],
            "is_stimulation": [True, False, True, True],
            "is_inhibition": [False, True, True, False],
            "type": ["transcriptional"] * 3 + ["post_translational"],
        }
    )
    gold = GoldStandard.from_frame(frame, name="OmniPath", keep={"type": "transcriptional"})
    assert listed(gold) == sorted(EDGES)
    assert gold.report["not kept"] == 1
    with pytest.raises(ValueError, match="leaves no row; the column holds post_translational, transcriptional"):
        GoldStandard.from_frame(frame, name="OmniPath", keep={"type": "transcription"})
    with pytest.raises(ValueError, match="keep names the column 'kind'"):
        GoldStandard.from_frame(frame, name="OmniPath", keep={"kind": 1})


def test_what_is_no_edge_is_counted():
    rows = [("A", "B", 1), ("A", "B", -1), ("A", "A", 1), (None, "B", 0), ("A", " ", 0), (" C ", "B", -1)]
    gold = GoldStandard.from_frame(pd.DataFrame(rows, columns=["source", "target", "sign"]), name="messy")
    assert listed(gold) == [("A", "B", 0), ("C", "B", -1)]
    left_out = {"without a name": 2, "gene with itself": 1, "listed again": 1}
    assert gold.report == {"rows": 6, **left_out, "edges": 2}


def test_bad_tables():
    with pytest.raises(ValueError, match="no column of a, b is known to hold the source; name it with source="):
        GoldStandard.from_frame(pd.DataFrame({"a": ["x"], "b": ["y"]}), name="bad")
    with pytest.raises(ValueError, match="target names the column 'z'; the table has source, b"):
        GoldStandard.from_frame(pd.DataFrame({"source": ["x"], "b": ["y"]}), name="bad", target="z")
    with pytest.raises(ValueError, match="has no edge"):
        GoldStandard.from_frame(pd.DataFrame({"source": ["x"], "target": ["x"]}), name="bad")


def test_alignment_by_symbol_id_and_alias(vocab):
    rows = [("PU1", "ENSG00000000001.7"), ("SPI1", "LYZ"), ("GATA1", "COMPLEX:A_B"), ("GATA1", "HBB")]
    gold = GoldStandard.from_frame(pd.DataFrame(rows, columns=["source", "target"]), name="names").align(vocab)
    assert listed(gold) == [("GATA1", "HBB", 0), ("SPI1", "LYZ", 0)]
    assert gold.report["unknown names"] == 1
    assert gold.report["edges of unknown names"] == 1
    assert gold.report["renamed"] == 2
    assert gold.report["listed again"] == 1


def test_mouse_genes_are_named(vocab):
    gold = GoldStandard.from_frame(pd.DataFrame({"source": ["Spi1"], "target": ["Lyz2"]}), name="mouse")
    with pytest.raises(ValueError, match=r"'mouse' names mouse genes \(for example Spi1, Lyz2\)"):
        gold.align(vocab)


def test_parts():
    gold = GoldStandard.from_frame(pd.DataFrame(EDGES, columns=["source", "target", "sign"]), name="all")
    assert listed(gold.signed(-1)) == [("GATA1", "HBB", -1)]
    assert len(gold.only_regulators(["SPI1", "X"])) == 2
    with pytest.raises(ValueError, match="sign=-1 leaves no edge"):
        gold.only_regulators(["SPI1"]).signed(-1)
    with pytest.raises(ValueError, match="none of the 1 names"):
        gold.only_regulators(["X"])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("gold.csv", "Gene1,Gene2\nSPI1,LYZ\nSPI1,CD14\n"),
        ("gold.csv", "source_genesymbol,target_genesymbol\nSPI1,LYZ\nSPI1,CD14\n"),
        ("gold.tsv", "regulatoryGene\ttargetGene\tweight\nSPI1\tLYZ\t0.5\nSPI1\tCD14\t0.2\n"),
        ("gold.tsv", "SPI1\tLYZ\nSPI1\tCD14\n"),
        ("gold.txt", "SPI1\tLYZ\t1\nSPI1\tCD14\t1\n"),
        ("gold.gmt", "SPI1 (human)\tnone\tLYZ\tCD14\t\r\n"),
        ("gold.json", json.dumps({"SPI1 K562": ["LYZ"], "SPI1 HEPG2": ["CD14", "LYZ"]})),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_files(tmp_path, file, text, compressed):
    path = tmp_path / (file + ".gz" * compressed)
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    gold = read_gold(path)
    assert gold.name == "gold"
    assert [edge[:2] for edge in listed(gold)] == [("SPI1", "CD14"), ("SPI1", "LYZ")]


def test_a_gene_called_na_is_a_gene(tmp_path):
    (tmp_path / "gold.csv").write_text("source,target\nNA,NAN\n")
    assert listed(read_gold(tmp_path / "gold.csv")) == [("NA", "NAN", 0)]


@pytest.mark.parametrize(
    ("file", "text", "options", "message"),
    [
        ("gold.doc", "", {}, "unknown suffix"),
        ("gold.gmt", "SPI1\tnone\n", {}, "line 1 of gold.gmt is no gene set"),
        ("gold.gmt", "A\tnone\tB\n", {"keep": {"a": 1}}, "keep is for tables"),
        ("gold.json", "{", {}, "is not JSON"),
        ("gold.json", '{"A": "B"}', {}, "object of lists"),
    ],
)
def test_bad_files(tmp_path, file, text, options, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_gold(tmp_path / file, **options)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_gold(tmp_path / "gold.csv")


def test_online_through_decoupler(monkeypatch):
    frame = pd.DataFrame({"source": ["SPI1"], "target": ["LYZ"], "weight": [-1.0], "organism": "human"})
    op = types.SimpleNamespace(collectri=lambda organism: frame[frame["organism"] == organism])
    monkeypatch.setitem(sys.modules, "decoupler", types.SimpleNamespace(op=op))
    assert listed(fetch_gold("collectri")) == [("SPI1", "LYZ", -1)]
    with pytest.raises(ValueError, match="resource='x' is unknown"):
        fetch_gold("x")


def test_universe():
    gold = GoldStandard.from_frame(pd.DataFrame(EDGES, columns=["source", "target", "sign"]), name="all")
    genes = ["LYZ", "SPI1", "HBB", "GATA1", "ACTB"]
    universe = candidate_universe(gold, genes)
    assert (universe.regulators.tolist(), universe.targets.tolist()) == ([1, 3], [0, 2])
    assert universe.truth_RT.tolist() == [[True, False], [False, True]]
    assert (universe.n_candidates, universe.n_true, universe.base_rate) == (4, 2, 0.5)
    assert [array.tolist() for array in universe.pairs()] == [[1, 3], [0, 2]]
    whole = candidate_universe(gold, genes, targets="all")
    assert whole.n_candidates == 2 * 5 - 2
    assert whole.n_true == 2
    assert not whole.candidate_RT[0, 1]
    assert candidate_universe(gold, genes, regulators=["SPI1", "ACTB"]).regulators.tolist() == [1, 4]
    part = whole.part(regulators=np.array([3]), targets=np.array([0, 3]))
    assert (part.regulators.tolist(), part.targets.tolist(), part.n_candidates) == ([3], [0, 3], 1)


def test_bad_universes():
    gold = GoldStandard.from_frame(pd.DataFrame(EDGES, columns=["source", "target", "sign"]), name="all")
    with pytest.raises(ValueError, match="names 'A' more than once"):
        candidate_universe(gold, ["A", "A"])
    with pytest.raises(ValueError, match="regulators='tf' is unknown"):
        candidate_universe(gold, ["A"], regulators="tf")
    with pytest.raises(ValueError, match="no edge of 'all'"):
        candidate_universe(gold, ["A", "B"])


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".txt"])
@pytest.mark.parametrize("sign", [",", "\t", ";"])
@pytest.mark.parametrize("header", ["source{}target\r\n", ""])
def test_the_separator_is_found(tmp_path, ending, sign, header):
    path = tmp_path / f"edges{ending}"
    path.write_bytes(("\ufeff" + header.format(sign) + f"A{sign}B\r\nC{sign}D\r\n").encode())
    assert read_gold(path).edges[["source", "target"]].to_numpy().tolist() == [["A", "B"], ["C", "D"]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("edges.csv", b""),
        ("edges.txt", b""),
        ("edges.csv", b"\xff\xfe\x00"),
        ("edges.csv", b"source,target\nA,B,1,2,3\n"),
        ("edges.csv", b"x,y,z,w\n1,2,3,4\n"),
        ("edges.csv.gz", b"no archive"),
        ("sets.gmt.gz", b"\x1f\x8b\x08\0"),
        ("sets.gmt", b" \tabout\tB\n"),
        ("sets.json", b"[" * 100_000),
        ("sets.json", b'{"": ["B"]}'),
        ("sets.json", b'{"A": [["B"]]}'),
        ("sets.json", b"\xff"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        read_gold(tmp_path / name)
