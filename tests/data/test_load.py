import logging
import multiprocessing
import os
import pickle

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from grnlab.data import Label, QualityRules, load_collection
from grnlab.genes import GeneVocab

ALL = QualityRules(min_genes=None)


def write(adata, path, kind):
    """An h5ad file or a zarr store, its matrix by rows, by columns or dense; the path with its suffix."""
    adata = adata.copy()
    adata.X = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda x: x.toarray()}[kind.split("-")[1]](adata.X)
    path = path.with_suffix("." + kind.split("-")[0])
    if path.suffix == ".zarr":
        pytest.importorskip("zarr")
        adata.write_zarr(path)
    else:
        adata.write_h5ad(path, compression="gzip")
    return path


def same_batches(first, second, n_tokens=20):
    rng = np.random.default_rng(0)
    for number in range(4):
        rows = rng.integers(0, len(first), 7)
        a, b = (x.batch(rows, n_tokens, generator=np.random.default_rng(number)) for x in (first, second))
        for name in ("genes_BT", "values_BT", "totals_B", "real_BT"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        for name in first.labels:
            np.testing.assert_array_equal(a.labels[name], b.labels[name])


@pytest.fixture
def folder(make_cells, tmp_path):
    for number in range(3):
        make_cells(n_each=6, seed=number).write_h5ad(tmp_path / f"set{number}.h5ad")
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*zarr.*:UserWarning", "ignore:.*[Cc]onsolidated.*")
@pytest.mark.parametrize("kind", ["h5ad-csr", "h5ad-dense", "zarr-csr", "zarr-dense"])
def test_disk_and_memory_give_the_same_batches(make_cells, human_vocab, tmp_path, kind):
    paths = [write(make_cells(n_each=8, seed=seed), tmp_path / f"set{seed}", kind) for seed in range(3)]
    options = {"rules": QualityRules(min_genes=24), "label": {"kind": "cell_type"}}
    memory, disk = (load_collection(paths, human_vocab, memory_bytes=n, **options) for n in (1 << 20, 0))
    assert isinstance(memory.counts, sp.csr_matrix)
    assert not isinstance(disk.counts, sp.csr_matrix)
    assert 31 < len(memory) < 48
    assert disk.counts.shape == memory.counts.shape
    for rows in (np.array([5, 0, 5, 30, 2]), slice(3, 9), slice(None), np.array([], dtype=int)):
        read = disk.counts[rows]
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read.indices, memory.counts[rows].indices)
        assert (read != memory.counts[rows]).nnz == 0
    same_batches(memory, disk)
    same_batches(memory, pickle.loads(pickle.dumps(disk)))
    with pytest.raises(ValueError, match=rf"rows holds 0 to {len(memory)}; expected cell numbers"):
        disk.counts[np.array([0, len(memory)])]


@settings(max_examples=20)
@given(st.data())
def test_any_counts_are_the_same_on_disk_and_in_memory(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("drawn")
    vocab = GeneVocab(
        pd.DataFrame({"symbol": [f"G{n}" for n in range(12)], "position": range(12), "species": "test"}).assign(
            ensembl_id="", aliases="", is_tf=False
        )
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 1_000)))
    for number in range(data.draw(st.integers(1, 3))):
        names = rng.permutation([f"G{n}" for n in range(12)] + ["X", "Y", "Z"])[: rng.integers(5, 15)]
        counts = rng.poisson(rng.choice([0.2, 3.0]), (rng.integers(1, 9), len(names)))
        counts[0, list(names).index(next(n for n in names if n.startswith("G")))] += 1
        matrix = sp.csr_matrix(counts.astype(rng.choice(["f4", "f8", "i4", "u2"])))
        matrix.data[rng.random(matrix.nnz) < 0.1] = 0  # zeros may be stored, and entries be out of order
        matrix.indices[: matrix.indptr[1]] = matrix.indices[: matrix.indptr[1]][::-1].copy()
        matrix.data[0] = 1
        ad.AnnData(matrix, var=pd.DataFrame(index=names)).write_h5ad(folder / f"{number}.h5ad")
    rules = QualityRules(min_genes=data.draw(st.sampled_from([None, 1])))
    memory, disk = (load_collection(folder, vocab, rules=rules, memory_bytes=n) for n in (1 << 20, 0))
    same_batches(memory, disk, n_tokens=10)
    read = disk.counts[:]
    assert read.has_canonical_format
    assert (read.data > 0).all()
    for a, b in ((read.data, memory.counts.data), (read.indices, memory.counts.indices)):
        np.testing.assert_array_equal(a, b)


def test_several_batches_at_once_are_the_single_ones(folder, human_vocab):
    cells = load_collection(folder, human_vocab, rules=ALL, memory_bytes=0)
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 36, size) for size in (5, 1, 9)]
    together = cells.batches(rows, 20, generators=[np.random.default_rng(n) for n in range(3)])
    for number, (part, batch) in enumerate(zip(rows, together, strict=True)):
        alone = cells.batch(part, 20, generator=np.random.default_rng(number))
        np.testing.assert_array_equal(alone.genes_BT, batch.genes_BT)
        np.testing.assert_array_equal(alone.values_BT, batch.values_BT)


def test_each_row_is_read_once(folder, human_vocab, monkeypatch):
    from grnlab.data.files import CountsFile

    cells = load_collection(folder, human_vocab, rules=ALL, memory_bytes=0)
    read, original = [], CountsFile.rows
    monkeypatch.setattr(CountsFile, "rows", lambda file, rows: (read.append(rows.tolist()), original(file, rows))[1])
    rows = [np.array([20, 3, 3]), np.array([3, 1, 35])]
    cells.batches(rows, 20, generators=[np.random.default_rng(n) for n in range(2)])
    assert read == [[1, 3], [8], [11]]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_processes_open_the_files_for_themselves(folder, human_vocab):
    cells = load_collection(folder, human_vocab, rules=ALL, memory_bytes=0)
    expected = cells.counts[np.arange(36)].toarray()
    _FORKED.append(cells)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for part, read in zip(
            np.arange(36).reshape(6, 6), pool.map(read_rows, np.arange(36).reshape(6, 6)), strict=True
        ):
            np.testing.assert_array_equal(read, expected[part])
    np.testing.assert_array_equal(cells.counts[np.arange(36)].toarray(), expected)


_FORKED = []


def read_rows(rows):
    return _FORKED[-1].counts[rows].toarray()


def test_files_by_column_are_for_memory_only(make_cells, human_vocab, tmp_path):
    by_row, by_column = (write(make_cells(), tmp_path / kind, f"h5ad-{kind}") for kind in ("csr", "csc"))
    first, second = (load_collection(path, human_vocab, rules=ALL) for path in (by_row, by_column))
    same_batches(first, second)
    with pytest.raises(ValueError, match=r"csc\.h5ad: X is stored by columns .* adata\.X\.tocsr"):
        load_collection(by_column, human_vocab, rules=ALL, memory_bytes=100)


def test_few_files_are_open_at_once(folder, human_vocab, monkeypatch):
    monkeypatch.setattr("grnlab.data.store._OPEN_FILES", 1)
    memory, disk = (load_collection(folder, human_vocab, rules=ALL, memory_bytes=n) for n in (1 << 20, 0))
    same_batches(memory, disk)
    assert len(disk.counts._opened) == 1


def test_a_file_that_changes_under_way_is_noticed(folder, human_vocab, make_cells):
    cells = load_collection(folder, human_vocab, rules=ALL, memory_bytes=0)
    make_cells(n_each=6, seed=9).write_h5ad(folder / "set1.h5ad")
    cells.counts[np.array([0, 30])]
    with pytest.raises(ValueError, match=r"set1\.h5ad: the file has changed since it was scanned"):
        cells.batch(np.array([0, 15]), 9, generator=np.random.default_rng(0))


@pytest.mark.parametrize("slot", ["raw/X", "layers/spliced"])
def test_counts_of_another_slot(make_cells, human_vocab, tmp_path, slot):
    counts = make_cells()
    adata = counts.copy()
    if slot == "raw/X":
        adata.raw = counts
        adata = adata[:, :20].copy()
    else:
        adata.layers["spliced"] = counts.X.copy()
    adata.X = adata.X * 0.3
    adata.write_h5ad(tmp_path / "a.h5ad")
    counts.write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(ValueError, match=f"a.h5ad: .*not whole numbers.* Here {slot} does hold counts: pass slot="):
        load_collection(tmp_path / "a.h5ad", human_vocab, rules=ALL)
    found = load_collection(tmp_path / "a.h5ad", human_vocab, rules=ALL, slot=slot)
    same_batches(found, load_collection(tmp_path / "b.h5ad", human_vocab, rules=ALL))
    counts.X = counts.X * 0.3
    counts.write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(ValueError, match=r"b\.h5ad: .*\(pass slot='layers/counts'\)"):
        load_collection(tmp_path / "b.h5ad", human_vocab, rules=ALL)
    with pytest.raises(ValueError, match=r"slot='layers/none' is not in the file; there are \['X', "):
        load_collection(tmp_path / "a.h5ad", human_vocab, rules=ALL, slot="layers/none")


def bad_files(folder, make_cells):
    """Path → beginning of what is wrong with it."""
    good = make_cells(n_each=6, seed=0)
    good.write_h5ad(folder / "whole.h5ad")
    whole = (folder / "whole.h5ad").read_bytes()
    (folder / "whole.h5ad").unlink()
    scaled, strangers, mouse, twice = (good.copy() for _ in range(4))
    scaled.X = scaled.X * 0.3
    strangers.var_names = [f"NOBODY{n}" for n in range(good.n_vars)]
    mouse.var_names = [f"Mous{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(good.n_vars)]
    twice.var_names = ["GENE0", *good.var_names[1:-1], "GENE1"]
    empty = good.copy()
    empty.X = sp.csr_matrix(good.shape, dtype="f4")
    for name, adata in {"d": scaled, "e": strangers, "f": mouse, "g": twice, "h": empty}.items():
        adata.write_h5ad(folder / f"{name}.h5ad")
    (folder / "a.h5ad").write_bytes(whole[: len(whole) // 2])
    (folder / "b.h5ad").write_bytes(b"text")
    (folder / "c.zarr").mkdir()
    return {
        "a.h5ad": "Unable to",
        "b.h5ad": "Unable to",
        "c.zarr": "",
        "d.h5ad": "adata.X holds values that are not whole numbers",
        "e.h5ad": "None of the",
        "f.h5ad": "The gene names look like mouse genes",
        "g.h5ad": "2 gene names occur more than once",
        "h.h5ad": "adata.X has shape (12, 50) and no count",
    }


def test_bad_files_are_named_and_the_rest_goes_on(folder, human_vocab, make_cells, caplog):
    bad = bad_files(folder, make_cells)
    options = {"rules": ALL, "label": {"kind": "cell_type"}}
    cells = load_collection(folder, human_vocab, on_error="skip", report=folder / "report.tsv", **options)
    assert cells.names == ["set0", "set1", "set2"]
    assert len(cells) == 36
    for name in bad:
        assert f"{name}: left out: " in caplog.text
    table = pd.read_csv(folder / "report.tsv", sep="\t", keep_default_na=False).set_index("path")
    assert table["status"].value_counts().to_dict() == {"failed": 8, "used": 3}
    assert len(cells.report) == 11
    for name, reason in bad.items():
        assert table.loc[str(folder / name), "reason"].startswith(reason)
        with pytest.raises(ValueError, match=name.replace(".", r"\.") + ": "):
            load_collection([folder / "set0.h5ad", folder / name], human_vocab, **options)
    for number in range(3):
        (folder / f"set{number}.h5ad").unlink()
    with pytest.raises(ValueError, match=r"No cell is left of 8 files\. The first: .*a\.h5ad: Unable"):
        load_collection(folder, human_vocab, on_error="skip", report=folder / "report.tsv", **options)
    assert len(pd.read_csv(folder / "report.tsv", sep="\t")) == 8


def test_a_file_that_makes_the_reader_hang_is_named(folder, human_vocab, monkeypatch):
    from grnlab.data.probe import Probe

    impatient = Probe(seconds=0.0)
    monkeypatch.setattr("grnlab.data.scan.PROBE", impatient)
    with pytest.raises(ValueError, match=r"set0\.h5ad: its structure cannot be read within 0 s"):
        load_collection(folder, human_vocab, rules=ALL)
    impatient.seconds = 30.0
    assert len(load_collection(folder, human_vocab, rules=ALL)) == 36
    impatient._process.kill()
    impatient._process.wait()
    assert len(load_collection(folder, human_vocab, rules=ALL)) == 36
    impatient.close()


def test_wrong_arguments(folder, human_vocab, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for paths, message in {
        empty: "in which there is no .h5ad file and no .zarr store",
        empty / "no.h5ad": "which does not exist",
        (): "paths is empty",
        (folder, folder / "set1.h5ad"): r"set1.h5ad' twice",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_collection(paths, human_vocab)
    with pytest.raises(ValueError, match="on_error='ignore' is unknown; choose 'raise' or 'skip'"):
        load_collection(folder, human_vocab, on_error="ignore")


def test_folders_are_searched_and_equal_names_told_apart(make_cells, human_vocab, tmp_path):
    for part in ("one/deep", "two/deep"):
        (tmp_path / part).mkdir(parents=True)
        make_cells().write_h5ad(tmp_path / part / "set.h5ad")
    make_cells().write_h5ad(tmp_path / "two/other.h5ad")
    cells = load_collection(tmp_path, human_vocab, rules=ALL)
    assert cells.names == ["one/deep/set", "two/deep/set", "other"]


def test_a_missing_label_column(folder, human_vocab, make_cells):
    adata = make_cells(n_each=6, seed=5)
    del adata.obs["cell_type"]
    adata.write_h5ad(folder / "set5.h5ad")
    with pytest.raises(ValueError, match=r"set5\.h5ad: obs has no column 'cell_type'.* Label\('cell_type', required"):
        load_collection(folder, human_vocab, rules=ALL, label={"kind": "cell_type"})
    cells = load_collection(folder, human_vocab, rules=ALL, label={"kind": Label("cell_type", required=False)})
    assert cells.label_values == {"kind": ("B cell", "T cell")}
    assert cells.labels["kind"].tolist() == [*([0] * 6 + [1] * 6) * 3, *[-1] * 12]


def test_a_label_function_may_know_only_some_files(folder, human_vocab):
    def label(adata):
        seen = float(adata.obs["cell_type"].eq("B cell").sum())
        assert seen == 6
        assert adata.X is None
        label.calls += 1
        return {"a": np.arange(12)} | ({"b": np.arange(12)} if label.calls == 2 else {})

    label.calls = 0
    cells = load_collection(folder, human_vocab, rules=ALL, label=label)
    assert cells.labels["a"].tolist() == [*range(12)] * 3
    assert cells.labels["b"].tolist() == [*[-1] * 12, *range(12), *[-1] * 12]
    with pytest.raises(ValueError, match=r"set0\.h5ad: label gave 3 codes of 'a' for 12 cells"):
        load_collection(folder, human_vocab, rules=ALL, label=lambda _: {"a": np.arange(3)})


def test_what_is_done_is_logged(folder, human_vocab, caplog):
    caplog.set_level(logging.INFO, logger="grnlab")
    load_collection(folder, human_vocab, rules=ALL, memory_bytes=0)
    assert "set2: " in caplog.text
    assert "36 cells of 3 files, on disk" in caplog.text


def test_cells_on_disk_take_a_few_bytes_of_memory(make_cells, human_vocab, tmp_path):
    make_cells(n_each=500).write_h5ad(tmp_path / "a.h5ad")
    cells = load_collection(tmp_path, human_vocab, rules=ALL, label={"kind": "cell_type"}, memory_bytes=0)
    cells.batch(np.arange(5), 20, generator=np.random.default_rng(0))
    held = [cells.datasets, cells.totals, cells.labels["kind"], cells.counts.files[0].rows]
    held.append(cells.counts._opened[0]._matrix._pointer)
    assert sum(array.nbytes for array in held) / len(cells) <= 4 + 4 + 4 + 4 + 8.1
    assert len(pickle.dumps(cells.counts)) / len(cells) < 6
