import logging
import re

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from grnlab.network import bundled_gene_sets, read_gmt
from grnlab.network.enrichment import _COLUMNS

UNIVERSE = [f"G{i:03d}" for i in range(200)]
SETS = {
    "low": UNIVERSE[:20],
    "wide": UNIVERSE[10:90],
    "far": UNIVERSE[150:180],
    "partly known": [*UNIVERSE[5:9], "X1", "X2"],
}


@pytest.fixture
def net(build):
    return build([("G000", "G001", 1.0)], genes=UNIVERSE, name="universe")


def test_pvalues_are_hypergeometric_on_the_universe(net):
    query = UNIVERSE[:15]
    table = net.enrich(query, SETS).set_index("term")
    assert set(table.index) == {"low", "wide", "partly known"}
    for term, row in table.iterrows():
        genes = set(SETS[term]) & set(UNIVERSE)
        hits = genes & set(query)
        expected = scipy.stats.hypergeom.sf(len(hits) - 1, 200, len(genes), 15)
        assert row["pvalue"] == pytest.approx(expected, rel=1e-9)
        fisher = scipy.stats.fisher_exact(
            [[len(hits), len(genes) - len(hits)], [15 - len(hits), 185 - len(genes) + len(hits)]], alternative="greater"
        )
        assert row["pvalue"] == pytest.approx(fisher.pvalue, rel=1e-6)
        assert (row["overlap"], row["set_size"], row["query_size"]) == (len(hits), len(genes), 15)
        assert row["background_size"] == 200
        assert row["genes"] == ";".join(sorted(hits))
        assert row["group"] == "genes"
    assert table.loc["partly known", "set_size"] == 4


def test_adjustment_counts_every_test_also_those_without_overlap(net):
    table = net.enrich({"a": UNIVERSE[:15], "b": UNIVERSE[160:170]}, SETS)
    full = np.concatenate([table["pvalue"], np.ones(2 * len(SETS) - len(table))])
    np.testing.assert_allclose(table["padj"], scipy.stats.false_discovery_control(full)[: len(table)])
    assert table["pvalue"].is_monotonic_increasing
    assert set(table["group"]) == {"a", "b"}
    assert table.query("group == 'b'")["term"].tolist() == ["far"]


def test_background_can_be_narrowed(net):
    narrow = net.enrich(UNIVERSE[:15], SETS, background=UNIVERSE[:40]).set_index("term")
    assert narrow.loc["low", "background_size"] == 40
    assert narrow.loc["low", "pvalue"] == pytest.approx(scipy.stats.hypergeom.sf(14, 40, 20, 15))
    with pytest.raises(ValueError, match=r"gene 'G050' is not in background"):
        net.enrich(["G050"], SETS, background=UNIVERSE[:40])


def test_names_that_gseapy_would_bend_are_left_alone(build):
    # numbers (Entrez ids there), blanks, lower case: each is its own gene
    genes = ["1", "2", "3", "a", "A", " A", "x y", "z"]
    net = build([], genes=genes)
    table = net.enrich(["1", "2"], {"numbers": ["1", "2", "3"]})
    assert table["genes"].tolist() == ["1;2"]
    assert net.enrich(["a"], {"upper": ["A", " A"]}).empty
    assert net.enrich([" A"], {"upper": ["A", " A"]})["overlap"].tolist() == [1]


@pytest.mark.parametrize("genes", [[], {}, {"a": []}, UNIVERSE[190:]])
def test_no_overlap_gives_an_empty_table_of_the_same_columns(net, genes, capsys):
    table = net.enrich(genes, SETS)
    assert table.empty
    assert table.columns.tolist() == list(_COLUMNS)
    assert table.dtypes.tolist() == net.enrich(UNIVERSE[:9], SETS).dtypes.tolist()
    assert capsys.readouterr() == ("", "")


def test_communities_are_tested_by_default(build):
    b_genes, t_genes = (read_gmt(bundled_gene_sets()["blood_cell_markers"])[name][:8] for name in ("B cell", "T cell"))
    others = [f"X{i}" for i in range(100)]
    edges = [(group[0], gene, 1.0) for group in (b_genes, t_genes) for gene in group[1:]] + [("X0", "X1", 1.0)]
    net = build(edges, genes=[*b_genes, *t_genes, *others])
    table = net.enrich(gene_sets="blood_cell_markers")
    best = table.groupby("group").first()
    assert sorted(best["term"]) == ["B cell", "T cell"]  # the pair X0, X1 is too small
    assert (best["padj"] < 0.001).all()
    assert set(net.enrich()["library"]) <= set(bundled_gene_sets())


def test_gene_sets_come_from_paths_and_mappings(net, tmp_path):
    path = tmp_path / "mine.gmt"
    path.write_text("low\tmine\t" + "\t".join(SETS["low"]) + "\n")
    from_path, from_text = net.enrich(UNIVERSE[:9], path), net.enrich(UNIVERSE[:9], str(path))
    pd.testing.assert_frame_equal(from_path, from_text)
    assert from_path["library"].tolist() == ["mine"]
    from_dict = net.enrich(UNIVERSE[:9], {"low": SETS["low"]})
    pd.testing.assert_frame_equal(from_path.drop(columns="library"), from_dict.drop(columns="library"))


@pytest.mark.parametrize(
    ("genes", "sets", "words"),
    [
        (["G00O"], SETS, "gene 'G00O' is not in the gene table of 'universe'.*Nearest"),
        ("G001", SETS, "genes must be a list"),
        ([1], SETS, "genes must hold gene names"),
        ({"a": "G001"}, SETS, r"genes\['a'\] must be a list"),
        (["G001"], {}, "empty mapping"),
        (["G001"], {"a": "G001"}, r"gene_sets\['a'\] must be a list"),
        (["G001"], {"a": ["ENSG1"]}, "none of the 1 sets .* like 'ENSG1', the background 'G000'"),
        (["G001"], 3, "gene_sets must be a GMT path"),
    ],
)
def test_wrong_input_is_named(net, genes, sets, words):
    with pytest.raises(ValueError, match=words):
        net.enrich(genes, sets)


def test_sets_outside_the_background_are_told(net, caplog):
    with caplog.at_level(logging.INFO, logger="grnlab.network.enrichment"):
        net.enrich(UNIVERSE[:9], SETS | {"foreign": ["Q"]})
    assert "1 of 5 gene sets have no gene in the background" in caplog.text


def test_a_missing_file_names_the_bundled_sets(net):
    with pytest.raises(FileNotFoundError, match=r"no GMT file nowhere\.gmt.*programmes"):
        net.enrich(["G001"], "nowhere.gmt")


def test_gmt_forgives_what_spreadsheets_do(tmp_path):
    path = tmp_path / "win.gmt"
    path.write_bytes(b"\xef\xbb\xbfone\tdescription\tA\tB\t\t\r\n\r\ntwo\t\tC\tC\t D \r\n\t\t\r\n")
    assert read_gmt(path) == {"one": ["A", "B"], "two": ["C", "D"]}
    path.write_bytes(b"one\tx\tA\rtwo\tx\tB")
    assert read_gmt(path) == {"one": ["A"], "two": ["B"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"one\td\tA\nA B C\n", "line 2: expected 'name<tab>"),
        (b"one\tonly a description\n", "line 1"),
        (b"\td\tA\n", "line 1"),
        (b"one\td\tA\n\none\td\tB\n", "line 3: the set name 'one' occurs a second time"),
        (b"", "holds no gene set"),
        (b"one\td\t\xff\n", "not UTF-8"),
    ],
)
def test_malformed_gmt_is_named_with_its_line(tmp_path, content, words):
    path = tmp_path / "bad.gmt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.gmt.*{words}"):
        read_gmt(path)


@pytest.mark.parametrize("name", ["blood_cell_markers", "programmes"])
def test_bundled_sets_are_tidy(name):
    path = bundled_gene_sets()[name]
    sets = read_gmt(path)
    assert len(sets) >= 20
    for line in path.read_text().splitlines():
        term, description, *genes = line.split("\t")
        assert description == "curated by hand; well-known markers"
        assert 10 <= len(genes) <= 80, term
        assert len(set(genes)) == len(genes), term
        assert all(re.fullmatch(r"[A-Z][A-Za-z0-9-]*", gene) for gene in genes), term


def test_bundled_sets_hold_what_everyone_knows():
    cells = read_gmt(bundled_gene_sets()["blood_cell_markers"])
    programmes = read_gmt(bundled_gene_sets()["programmes"])
    for term, gene in {"B cell": "CD19", "T cell": "CD3E", "NK cell": "NCAM1", "CD14 monocyte": "CD14"}.items():
        assert gene in cells[term]
    for term, gene in {"Cell cycle G2/M": "MKI67", "Hypoxia": "VEGFA", "Glycolysis": "PKM"}.items():
        assert gene in programmes[term]
