import pandas as pd
import pytest

from grnlab.network import GeneNetwork, NetworkSet


@pytest.fixture
def nets(build, blood):
    other = build([("A", "B", 0.1), ("B", "C", 1 / 3)], name="CD8+/CD45RA+ Naïve\tT", ensembl_id=["E1", None, "E3"])
    return NetworkSet([blood, other], provenance={"seed": 3})


def test_it_is_a_mapping_in_the_order_given(nets, blood):
    assert list(nets) == ["blood", "CD8+/CD45RA+ Naïve\tT"]
    assert nets["blood"] is blood
    assert len(nets) == 2
    assert "blood" in nets
    assert nets.get("none") is None
    assert dict(nets.items())["blood"] is blood
    with pytest.raises(KeyError, match="no network named 'x'; the set has 'blood'"):
        nets["x"]


def test_names_must_differ_and_members_be_networks(blood, nets):
    with pytest.raises(ValueError, match="two networks named 'blood'"):
        NetworkSet([blood, blood])
    with pytest.raises(ValueError, match="got str; pass a mapping's values"):
        NetworkSet({"blood": blood})
    with pytest.raises(ValueError, match=r"got one; write NetworkSet\(\[network\]\)"):
        NetworkSet(blood)
    with pytest.raises(ValueError, match="provenance must hold"):
        NetworkSet([blood], provenance={"x": {1, 2}})


def test_hubs_are_those_of_each_network(nets, blood):
    table = nets.hubs("strength", n=2)
    assert table.columns.tolist()[:2] == ["group", "gene"]
    assert table["group"].value_counts().to_dict() == {"blood": 2, "CD8+/CD45RA+ Naïve\tT": 2}
    assert table.query("group == 'blood'")["gene"].tolist() == blood.hubs("strength", n=2).index.tolist()
    assert table.query("group == 'blood'")["is_tf"].notna().all()
    assert table.query("group != 'blood'")["is_tf"].isna().all()


def test_tables_for_people(nets, tmp_path):
    directory = nets.write_tables(tmp_path / "tables")
    assert sorted(path.name for path in directory.iterdir()) == [
        "communities.tsv",
        "edges.tsv",
        "genes.tsv",
        "hubs.tsv",
        "summary.tsv",
    ]
    edges = pd.read_csv(directory / "edges.tsv", sep="\t")
    assert edges.columns.tolist() == ["group", "source", "target", "weight"]
    assert edges["group"].unique().tolist() == list(nets)
    assert edges["weight"].tolist() == [*nets["blood"].edges["weight"], 1 / 3, 0.1]
    assert len(pd.read_csv(directory / "genes.tsv", sep="\t")) == 8 + 3
    assert pd.read_csv(directory / "summary.tsv", sep="\t")["n_edges"].tolist() == [7, 2]
    hubs = pd.read_csv(directory / "hubs.tsv", sep="\t")
    assert hubs.query("rank == 1")["gene"].tolist() == ["SPI1", "A"]
    communities = pd.read_csv(directory / "communities.tsv", sep="\t")
    assert communities.query("gene == 'KIT'")["community"].tolist() == [-1]


def test_tables_are_not_overwritten_silently(nets, tmp_path, blood):
    directory = nets.write_tables(tmp_path / "tables")
    with pytest.raises(FileExistsError):
        nets.write_tables(directory)
    NetworkSet([blood]).write_tables(directory, overwrite=True)
    assert len(pd.read_csv(directory / "summary.tsv", sep="\t")) == 1


def test_an_interrupted_write_leaves_nothing(nets, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_csv", stop)
    with pytest.raises(KeyboardInterrupt):
        nets.write_tables(tmp_path / "tables")
    assert not list(tmp_path.iterdir())


def test_save_and_load(nets, tmp_path):
    path = nets.save(tmp_path / "nets.grns")
    again = NetworkSet.load(path)
    assert again.equals(nets)
    assert again.provenance == {"seed": 3}
    with pytest.raises(FileExistsError):
        nets.save(path)


def test_equals_sees_order_and_provenance(nets):
    members = list(nets.values())
    assert nets.equals(NetworkSet(members, {"seed": 3}))
    assert not nets.equals(NetworkSet(members[::-1], {"seed": 3}))
    assert not nets.equals(NetworkSet(members))
    assert not nets.equals(dict(nets))


def test_an_empty_set(tmp_path):
    nets = NetworkSet([])
    assert nets.summary().empty
    assert nets.hubs().columns.tolist() == ["group"]
    assert repr(nets) == "NetworkSet(0 networks)"
    assert NetworkSet.load(nets.save(tmp_path / "none.grns")).equals(nets)


def test_looks(nets, build):
    assert repr(nets).startswith("NetworkSet(2 networks: 'blood', 'CD8+")
    risky = NetworkSet([build([("A", "B", 1.0)], name="<script>")])
    assert "<script>" not in risky._repr_html_()
    assert isinstance(next(iter(risky.values())), GeneNetwork)
