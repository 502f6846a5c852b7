import numpy as np
import pytest
import scipy.stats

from grnlab.network import bundled_gene_sets, fetch_gene_sets, read_gmt
from grnlab.network.ranked import prerank


@pytest.fixture
def hubby(build_random):
    return build_random(200, 2_000, seed=3)


def test_hubs_first_and_last(hubby):
    order = hubby.hubs("pagerank").index
    sets = {"top": order[:15], "bottom": order[-15:], "spread": order[::14]}
    table = hubby.prerank(sets, by="pagerank")
    found = table.set_index("term")
    assert found.loc["top", "nes"] > 0 > found.loc["bottom", "nes"]
    assert found.loc["top", "padj"] < 0.01
    assert found.loc["bottom", "padj"] < 0.05
    assert found.loc["spread", "pvalue"] > 0.1
    assert found.loc["top", "set_size"] == 15
    assert set(found.loc["top", "leading_edge"].split(";")) <= set(order[:15])
    assert found.loc["top", "leading_edge"].split(";")[0] == order[0]


def test_enrichment_score_is_the_running_sum(hubby):
    values = hubby.hubs("strength")["strength"]
    chosen = values.index[[0, 3, 9, 50, 90, 120]]
    inside = values.index.isin(chosen)
    scores = np.abs(scipy.stats.norm.ppf((values.rank() - 0.5) / len(values)))
    step = np.where(inside, scores / scores[inside].sum(), -1 / (~inside).sum())
    running = np.cumsum(step)
    expected = running[np.abs(running).argmax()]
    assert hubby.prerank({"s": chosen}, by="strength")["es"].iloc[0] == pytest.approx(expected, abs=1e-6)


def test_random_sets_are_not_enriched(hubby):
    rng = np.random.default_rng(0)
    names = hubby.genes.index.to_numpy()
    sets = {f"S{i}": rng.choice(names, 12, replace=False) for i in range(200)}
    table = hubby.prerank(sets, by="strength")
    assert len(table) == 200
    assert np.mean(table["pvalue"] <= 0.05) <= 0.1
    assert np.mean(table["pvalue"] <= 0.5) == pytest.approx(0.5, abs=0.12)
    assert (table["padj"] > 0.05).mean() > 0.97
    assert table["pvalue"].is_monotonic_increasing


def test_seed_and_gene_order_do_not_matter(hubby):
    from grnlab.network import GeneNetwork

    sets = {"a": hubby.genes.index[:20]}
    turned = GeneNetwork(hubby.edges, hubby.genes.iloc[::-1], name="random")
    assert hubby.prerank(sets).equals(turned.prerank(sets))


def test_strange_names_and_windows_gmt(build, tmp_path):
    # names gseapy would change: lower case, NA, numbers
    names = ["NA", "1", "lower", "HLA-A", "x y", "Q" * 200, *(f"T{i:02d}" for i in range(30))]
    net = build([(a, b, 1.0) for a in names[:6] for b in names[6:]], names)
    path = tmp_path / "sets.gmt"
    path.write_bytes(("hubs\tx\t" + "\t".join(names[:6]) + "\r\n").encode())
    table = net.prerank(path)
    assert table["leading_edge"].iloc[0].split(";")[0] in names[:6]
    assert table["set_size"].tolist() == [6]


def test_sizes_and_nothing_to_rank(blood, empty):
    names = blood.genes.index
    assert len(blood.prerank({"all": names, "few": names[:2]}, min_size=3)) == 0
    assert prerank(empty, {"s": ["A"]}, min_size=1).columns.tolist()[:2] == ["library", "term"]
    with pytest.raises(ValueError, match="by must be one of"):
        blood.prerank(by="fame")
    with pytest.raises(ValueError, match="none of the 1 sets has a gene"):
        blood.prerank({"s": ["ENSG1"]})
    with pytest.raises(ValueError, match=r"the background nothing\."):
        empty.subset([]).prerank({"s": ["A"]})


def test_ties_are_ordered_by_name_without_a_warning(hubby, capfd):
    hubby.prerank({"some": hubby.genes.index[-6:]}, by="degree")
    assert "Duplicated" not in capfd.readouterr().err


# --- the net, only when asked


def test_enrichr_libraries(monkeypatch):
    import gseapy

    asked = []

    def library(name, organism):
        asked.append((name, organism))
        return {"B cell": ["MS4A1", "CD79A"]}

    monkeypatch.setattr(gseapy, "get_library", library)
    assert fetch_gene_sets("Some_Library", organism="mouse") == {"B cell": ["MS4A1", "CD79A"]}
    assert asked == [("Some_Library", "mouse")]


def test_no_network(monkeypatch):
    import gseapy

    def library(name, organism):
        raise OSError("no route")

    monkeypatch.setattr(gseapy, "get_library", library)
    with pytest.raises(ConnectionError, match=r"could not be fetched from enrichr .*use a GMT file"):
        fetch_gene_sets("Some_Library")


def test_decoupler_when_installed(monkeypatch):
    import sys
    import types

    import pandas as pd

    table = pd.DataFrame({"source": ["SPI1", "SPI1", "PAX5"], "target": ["LYZ", "CD14", "CD19"]})
    fake = types.ModuleType("decoupler")
    fake.op = types.SimpleNamespace(collectri=lambda organism: table)
    monkeypatch.setitem(sys.modules, "decoupler", fake)
    assert fetch_gene_sets("collectri", "decoupler") == {"PAX5": ["CD19"], "SPI1": ["LYZ", "CD14"]}
    with pytest.raises(ValueError, match="name must be one of collectri"):
        fetch_gene_sets("msigdb", "decoupler")
    monkeypatch.setitem(sys.modules, "decoupler", None)
    with pytest.raises(ImportError, match=r'pip install "decoupler>=2"'):
        fetch_gene_sets("hallmark", "decoupler")


def test_bundled_sets_are_read():
    assert all(read_gmt(path) for path in bundled_gene_sets().values())
