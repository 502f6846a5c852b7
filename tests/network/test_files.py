import json
import math
import struct
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grnlab.network import GeneNetwork, NetworkSet, files
from grnlab.network.files import table_from_tsv, table_to_tsv

ODD = ["NA", "nan", "NaN", "1", "1.0", "MARCH1", "null", "None", "True", "", " ", '"', '""', "'", "a\tb", "a\\tb", "\\"]
ODD += [
    "\\N",
    "\n",
    "\r",
    "\r\n",
    "a\\",
    "#x",
    "é",
    "\u2028",
    "\x85",
    "\ufeff",
    "日本",
    "🧬",
    "=1+1",
    "a,b",
    "-0",
    "1e5",
]
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8) | st.sampled_from(ODD)
NAME = TEXT.filter(bool)
ANY_FLOAT = st.floats(width=64)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def networks(draw):
    genes = draw(st.lists(NAME, min_size=0, max_size=8, unique=True))
    pairs = [(a, b) for a in genes for b in genes if a != b]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=12)) if pairs else []
    n = len(chosen)

    def column(values, size):
        return draw(st.lists(values, min_size=size, max_size=size))

    edges = {
        "source": pd.Series([a for a, _ in chosen], dtype=object),
        "target": pd.Series([b for _, b in chosen], dtype=object),
        "weight": column(st.floats(allow_nan=False, allow_infinity=False), n),
        "sign": pd.Series(column(st.sampled_from([-1, 0, 1]), n), dtype=np.int64),
        "z": column(ANY_FLOAT, n),
        "padj": column(st.floats(0, 1) | st.just(math.nan), n),
    }
    table = {
        "ensembl_id": pd.Series(column(TEXT | st.none(), len(genes)), dtype=object),
        "is_tf": pd.Series(column(st.booleans(), len(genes)), dtype=bool),
        "mean_counts": pd.Series(column(ANY_FLOAT, len(genes)), dtype=float),
        draw(NAME.filter(lambda x: x not in {"gene", "sign", "z", "padj", "weight", "fraction_expressed"})): pd.Series(
            column(st.integers(-(2**63), 2**63 - 1), len(genes)), dtype=np.int64
        ),
    }
    index = pd.Index(genes, dtype=object)
    provenance = draw(st.dictionaries(TEXT, TEXT | st.integers() | st.floats(allow_nan=False, allow_infinity=False)))
    provenance.pop("direction", None)
    frame = pd.DataFrame({key: value.set_axis(index) for key, value in table.items()}, index=index)
    return GeneNetwork(pd.DataFrame(edges), frame, name=draw(NAME.filter(str.strip)), provenance=provenance)


@QUICK
@given(networks())
def test_any_network_survives(tmp_path, network):
    path = tmp_path / "x.grn"
    again = GeneNetwork.load(network.save(path, overwrite=True))
    assert again.equals(network)
    assert list(again.genes.dtypes) == list(network.genes.dtypes)
    assert list(again.edges.dtypes) == list(network.edges.dtypes)
    for column in ("weight", "z"):  # equals() takes 0.0 and -0.0 for the same
        assert again.edges[column].map(repr).tolist() == network.edges[column].map(repr).tolist()
    before = path.read_bytes()
    again.save(path, overwrite=True)
    assert path.read_bytes() == before


@QUICK
@given(st.lists(networks(), max_size=3, unique_by=lambda network: network.name))
def test_any_set_survives(tmp_path, members):
    nets = NetworkSet(members, {"seed": 1})
    assert NetworkSet.load(nets.save(tmp_path / "x.grns", overwrite=True)).equals(nets)


@QUICK
@given(st.lists(st.tuples(TEXT | st.none(), ANY_FLOAT, st.booleans()), max_size=8))
def test_any_table_survives(rows):
    table = pd.DataFrame(
        {
            "text": pd.Series([row[0] for row in rows], dtype=object),
            "number": pd.Series([row[1] for row in rows], dtype=float),
            "flag": pd.Series([row[2] for row in rows], dtype=bool),
        }
    )
    data = table_to_tsv(table)
    assert data.count(b"\n") == len(rows) + 1  # one line per row, whatever the text
    again = table_from_tsv(data, {"text": "text", "number": "float", "flag": "bool"})
    pd.testing.assert_frame_equal(again, table, check_exact=True)


def test_known_odd_names_survive(build, tmp_path):
    odd = [name for name in ODD if name]
    net = build([(name, "HUB", 0.1 + i) for i, name in enumerate(odd)], name="odd")
    again = GeneNetwork.load(net.save(tmp_path / "odd.grn"))
    assert set(again.genes.index) == {*odd, "HUB"}
    assert again.equals(net)


def test_the_file_is_what_the_format_says(blood, tmp_path):
    with zipfile.ZipFile(blood.save(tmp_path / "x.grn")) as archive:
        assert archive.namelist() == ["network.json", "edges.tsv", "genes.tsv"]
        header = json.loads(archive.read("network.json"))
        assert (header["format"], header["version"], header["name"]) == ("grnlab.network", 1, "blood")
        assert header["direction"] == "source=regulator=key, target=query"
        assert header["columns"]["genes"] == {"gene": "text", "is_tf": "bool"}
        assert (header["n_edges"], header["n_genes"]) == (7, 8)
        assert archive.read("edges.tsv").startswith(b"source\ttarget\tweight\nSPI1\tCD14\t0.9\n")
        assert archive.read("genes.tsv").startswith(b"gene\tis_tf\nCD14\tfalse\n")
    with zipfile.ZipFile(NetworkSet([blood]).save(tmp_path / "x.grns")) as archive:
        assert archive.namelist() == [
            "set.json",
            *(f"networks/000/{n}" for n in ("network.json", "edges.tsv", "genes.tsv")),
        ]


def test_nothing_is_overwritten_silently(blood, empty, tmp_path):
    path = blood.save(tmp_path / "x.grn")
    with pytest.raises(FileExistsError, match=r"x\.grn exists already"):
        empty.save(path)
    assert GeneNetwork.load(path).equals(blood)
    empty.save(path, overwrite=True)
    assert GeneNetwork.load(path).equals(empty)


def test_an_interrupted_save_leaves_the_old_file(blood, empty, tmp_path, monkeypatch):
    path = blood.save(tmp_path / "x.grn")

    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "table_to_tsv", stop)
    with pytest.raises(KeyboardInterrupt):
        empty.save(path, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        empty.save(tmp_path / "new.grn")
    assert [file.name for file in tmp_path.iterdir()] == ["x.grn"]
    assert GeneNetwork.load(path).equals(blood)


def test_the_suffix_is_checked(blood, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.grn, got .*net\.csv"):
        blood.save(tmp_path / "net.csv")
    with pytest.raises(ValueError, match=r"must end in \.grns"):
        NetworkSet([blood]).save(tmp_path / "net.grn")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.grn"):
        GeneNetwork.load(tmp_path / "no.grn")


def test_every_truncation_is_named(blood, tmp_path):
    data = blood.save(tmp_path / "x.grn").read_bytes()
    short = tmp_path / "short.grn"
    for length in range(0, len(data), 7):
        short.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"short\.grn"):
            GeneNetwork.load(short)


def test_any_flipped_byte_is_noticed_or_harmless(blood, tmp_path):
    data = bytearray(blood.save(tmp_path / "x.grn").read_bytes())
    bad, refusals = tmp_path / "bad.grn", []
    for position in range(0, len(data), 2):
        data[position] ^= 0x55
        bad.write_bytes(data)
        data[position] ^= 0x55
        try:
            found = GeneNetwork.load(bad)
        except ValueError as error:
            refusals.append(str(error))
        else:
            assert found.equals(blood)
    assert len(refusals) > len(data) / 3
    assert all("bad.grn" in refusal for refusal in refusals)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_foreign_files_are_named(tmp_path, content):
    path = tmp_path / "foreign.grn"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.grn cannot be read as a grnlab network file"):
        GeneNetwork.load(path)


def rewrite(path, target, **changes):
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            change = changes.get(name.rpartition("/")[2].replace(".", "_"))
            if change is not None:
                data = change(data)
            if data is not None:
                new.writestr(name, data)
    return target


def in_header(**changes):
    return lambda data: json.dumps(json.loads(data) | changes).encode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network_json": in_header(version=2)}, "format version 2.*update grnlab"),
        ({"network_json": in_header(format="other")}, "does not say format"),
        ({"network_json": in_header(n_edges=9)}, "announces 9 edges"),
        ({"network_json": in_header(name=3)}, "name must be"),
        ({"network_json": in_header(provenance=[1])}, "provenance must hold"),
        ({"network_json": in_header(columns={})}, "not a whole"),
        ({"network_json": lambda _: b"[1]"}, "does not say format"),
        ({"network_json": lambda _: b"{"}, "not a whole"),
        ({"network_json": lambda data: data.replace(b'"weight": "float"', b'"weight": "pickle"')}, "kind 'pickle'"),
        ({"edges_tsv": lambda data: data.replace(b"\t0.9", b"\tmuch")}, "not a whole"),
        ({"edges_tsv": lambda data: data.replace(b"\t0.9", b"\t0.9\t1")}, "fields in each"),
        ({"edges_tsv": lambda data: data.replace(b"CD14", b"CD15")}, "'CD15' is not in"),
        ({"edges_tsv": lambda data: data[:-1]}, "complete lines"),
        ({"edges_tsv": lambda data: data.replace(b"weight", b"wait")}, "expected the columns"),
        ({"edges_tsv": lambda data: data.replace(b"CD14", b"\xff")}, "not a whole"),
        ({"genes_tsv": lambda data: data.replace(b"true", b"yes")}, "not a whole"),
        ({"genes_tsv": lambda data: data.replace(b"KIT", b"K\\q")}, "not a whole"),
        ({"genes_tsv": lambda data: data.replace(b"KIT", b"K\\")}, "x2.grn"),
        ({"genes_tsv": lambda _: None}, "genes.tsv is missing"),
    ],
)
def test_edited_files_are_refused_by_name(blood, tmp_path, changes, words):
    path = rewrite(blood.save(tmp_path / "x.grn"), tmp_path / "x2.grn", **changes)
    with pytest.raises(ValueError, match=words) as caught:
        GeneNetwork.load(path)
    assert "x2.grn" in str(caught.value)


def test_a_network_is_no_set_and_a_set_no_network(blood, tmp_path):
    one, many = blood.save(tmp_path / "x.grn"), NetworkSet([blood]).save(tmp_path / "x.grns")
    with pytest.raises(ValueError, match=r"read it with GeneNetwork.load"):
        NetworkSet.load(one)
    with pytest.raises(ValueError, match=r"read it with NetworkSet.load"):
        GeneNetwork.load(many)


def test_names_of_a_set_must_agree(blood, tmp_path):
    path = NetworkSet([blood]).save(tmp_path / "x.grns")
    other = rewrite(path, tmp_path / "y.grns", set_json=in_header(names=["other"]))
    with pytest.raises(ValueError, match=r"y\.grns .*they must agree"):
        NetworkSet.load(other)


def test_zip_bombs_are_refused_before_they_unpack(blood, tmp_path, monkeypatch):
    monkeypatch.setattr("grnlab._reading._SMALL", 10_000)
    bomb = rewrite(blood.save(tmp_path / "x.grn"), tmp_path / "b.grn")
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("padding", b"\0" * 3_000_000)
    with pytest.raises(ValueError, match=r"b\.grn .*refused as unsafe"):
        GeneNetwork.load(bomb)


def test_floats_are_exact_to_the_bit(build, tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**64, 400, dtype=np.uint64)
    values = [
        value for value in (struct.unpack("d", int(b).to_bytes(8, "little"))[0] for b in bits) if math.isfinite(value)
    ]
    net = build([(f"G{i}", "HUB", value) for i, value in enumerate(values)])
    again = GeneNetwork.load(net.save(tmp_path / "x.grn"))
    assert (again.edges["weight"].to_numpy().view(np.uint64) == net.edges["weight"].to_numpy().view(np.uint64)).all()
