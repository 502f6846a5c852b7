import gzip
import json

import pandas as pd
import pytest

from grnlab.backbones import ScPrintConfig
from grnlab.data import Hierarchy, read_hierarchy
from grnlab.data.labels import Label, encode

OBO = """format-version: 1.2
ontology: cl

[Term]
id: CL:0
name: cell

[Term]
id: CL:1
name: lymphocyte
alt_id: CL:9
is_a: CL:0 ! cell

[Term]
id: CL:2
name: T cell
is_a: CL:1 {is_inferred="true"} ! lymphocyte
relationship: develops_from CL:4 ! pro-T cell

[Term]
id: CL:3
name: killer
is_a: CL:1 ! lymphocyte
is_a: CL:5 ! toxic cell

[Term]
id: CL:5
name: toxic cell
is_a: CL:0 ! cell

[Term]
id: CL:6
name: old cell
is_a: CL:404
is_obsolete: true

[Typedef]
id: develops_from
name: develops from
is_a: CL:nowhere
"""
TABLE = (
    "child,parent\nlymphocyte,cell\nT cell,lymphocyte\nkiller,lymphocyte\nkiller,toxic cell\ntoxic cell,cell\ncell,\n"
)


@pytest.fixture
def obo(tmp_path):
    path = tmp_path / "cells.obo"
    path.write_text(OBO)
    return path


@pytest.fixture(params=["obo", "obo.gz", "csv", "tsv", "tsv.gz"])
def hierarchy(request, tmp_path):
    """The same hierarchy from every kind of file."""
    path = tmp_path / f"cells.{request.param}"
    text = OBO if "obo" in request.param else TABLE.replace(",", "\t") if "tsv" in request.param else TABLE
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return read_hierarchy(path)


def test_leaves_are_the_most_precise_labels_that_occur(hierarchy):
    everything = ["cell", "lymphocyte", "T cell", "killer", "toxic cell"]
    leaves, groups = hierarchy.split(everything)
    assert leaves == ("T cell", "killer")
    assert groups == {
        "cell": ("T cell", "killer"),
        "lymphocyte": ("T cell", "killer"),
        "toxic cell": ("killer",),  # a term of two parents counts under both, once
    }
    assert hierarchy.split(["lymphocyte", "toxic cell"]) == (("lymphocyte", "toxic cell"), {})
    assert hierarchy.split(["cell", "T cell", "T cell"]) == (("T cell",), {"cell": ("T cell",)})
    assert hierarchy.split([]) == ((), {})


def test_the_tags_of_an_obo_file(obo):
    hierarchy = read_hierarchy(obo)
    assert hierarchy.parents == {
        "CL:0": (),
        "CL:1": ("CL:0",),
        "CL:2": ("CL:1",),
        "CL:3": ("CL:1", "CL:5"),
        "CL:5": ("CL:0",),
    }
    assert hierarchy.term("killer") == hierarchy.term("CL:3") == "CL:3"
    assert hierarchy.term("CL:9") == "CL:1"
    leaves, groups = hierarchy.split(["CL:9", "killer"])
    assert (leaves, groups) == (("killer",), {"CL:9": ("killer",)})
    with pytest.raises(ValueError, match="labels 'CL:3' and 'killer' are the same term"):
        hierarchy.split(["CL:3", "killer"])


def test_a_name_of_two_terms_names_neither(tmp_path):
    path = tmp_path / "cells.obo"
    path.write_text(OBO.replace("name: killer", "name: T cell"))
    with pytest.raises(ValueError, match="label 'T cell' is not in the hierarchy"):
        read_hierarchy(path).term("T cell")


@pytest.mark.parametrize("parents", [{"a": ("a",)}, {"a": ("b",), "b": ("c",), "c": ("a",), "d": ()}])
def test_cycles(parents, tmp_path):
    with pytest.raises(ValueError, match=r"has a cycle.*'a'"):
        Hierarchy(parents)
    path = tmp_path / "circle.csv"
    path.write_text("child,parent\n" + "".join(f"{a},{b}\n" for a, above in parents.items() for b in above))
    with pytest.raises(ValueError, match=r"circle\.csv: the hierarchy has a cycle"):
        read_hierarchy(path)


def test_unknown_parent(obo):
    obo.write_text(OBO.replace("is_a: CL:5", "is_a: CL:7"))
    with pytest.raises(ValueError, match=r"cells\.obo: term 'CL:3' has the parent 'CL:7', which is no term"):
        read_hierarchy(obo)


def test_a_label_that_is_no_term(hierarchy):
    with pytest.raises(ValueError, match="label 'T cel' is not in the hierarchy of 5 terms; did you mean 'T cell'"):
        hierarchy.split(["T cel"])
    with pytest.raises(ValueError, match="'zygote' is not in the hierarchy of 5 terms; leave it out, cells may lack"):
        hierarchy.split(["zygote"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.obo", "", "holds no terms"),
        ("a.csv", "child,parent\n", "holds no terms"),
        ("a.csv", "term,above\na,b\n", r"has the columns \['term', 'above'\]; 'child' and 'parent' are needed"),
        ("a.csv", "", "No columns"),
        ("a.obo.gz", "no gzip", "gzip"),
    ],
)
def test_files_that_hold_no_hierarchy(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}: .*{message}"):
        read_hierarchy(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_hierarchy(tmp_path / "absent.obo")


def test_a_config_knows_its_coarse_labels_after_json(hierarchy):
    leaves, groups = hierarchy.split(["cell", "T cell", "killer"])
    config = ScPrintConfig(classes={"kind": leaves}, groups={"kind": groups})
    again = ScPrintConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.labels("kind") == ("T cell", "killer", "cell")
    label = Label("kind", classes=again.labels("kind"))
    read = label.read(pd.DataFrame({"kind": ["cell", "killer", "unknown"]}))
    assert encode([read], label.classes)[0].tolist() == [2, 1, -1]
