import logging

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from grnlab.data import CellCollection, QualityRules, load_collection

ALL = QualityRules(min_genes=1)


@pytest.fixture
def two_files(make_cells, tmp_path):
    paths = []
    for number, n_each in enumerate((10, 15)):
        adata = make_cells(n_each=n_each, seed=number)
        paths.append(tmp_path / f"set{number}.h5ad")
        adata.write_h5ad(paths[-1])
    return paths


def test_files_are_aligned_by_name_to_the_vocabulary(two_files, human_vocab, make_cells):
    cells = load_collection(two_files, human_vocab, rules=ALL)
    assert len(cells) == 50
    assert cells.counts.shape == (50, 60)
    assert cells.names == ["set0", "set1"]
    assert np.bincount(cells.datasets).tolist() == [20, 30]
    adata = make_cells(n_each=15, seed=1)
    for name in ("TF0", "GENE0", adata.var_names[3]):
        expected = adata[:, name].X.toarray().ravel()
        np.testing.assert_array_equal(cells.counts[20:, human_vocab.token(name)].toarray().ravel(), expected)
    np.testing.assert_array_equal(cells.totals[20:], np.asarray(adata.X.sum(1)).ravel())
    known = {human_vocab.token(name) for name in adata.var_names} - {None}
    assert set(cells.available[1]) == known


def test_permuted_columns_give_the_same_collection(human_vocab, make_cells, tmp_path):
    adata = make_cells()
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata[:, np.random.default_rng(0).permutation(adata.n_vars)].copy().write_h5ad(tmp_path / "b.h5ad")
    a, b = (load_collection([tmp_path / name], human_vocab, rules=ALL) for name in ("a.h5ad", "b.h5ad"))
    assert (a.counts != b.counts).nnz == 0
    np.testing.assert_array_equal(a.counts.indices, b.counts.indices)
    np.testing.assert_array_equal(a.totals, b.totals)


def test_thin_cells_are_left_out_with_their_labels(human_vocab, make_cells, tmp_path):
    adata = make_cells()
    dense = adata.X.toarray()
    dense[[2, 7], 1:] = 0
    adata.X = sp.csr_matrix(dense)
    adata.write_h5ad(tmp_path / "a.h5ad")
    cells = load_collection(
        tmp_path / "a.h5ad",
        human_vocab,
        rules=QualityRules(min_genes=3),
        label=lambda adata: {"place": np.arange(adata.n_obs)},
    )
    assert cells.labels["place"].tolist() == [n for n in range(20) if n not in (2, 7)]


def test_split_is_a_seeded_partition(two_files, human_vocab):
    cells = load_collection(two_files, human_vocab, rules=ALL)
    train, validation = cells.split(0.2, seed=3)
    assert len(validation) == 10
    assert sorted([*train, *validation]) == list(range(50))
    np.testing.assert_array_equal(train, cells.split(0.2, seed=3)[0])
    assert not np.array_equal(validation, cells.split(0.2, seed=4)[1])


def test_sampling_weights_even_out_frequent_labels(two_files, human_vocab):
    label = {"kind": np.repeat([0, 1], [1, 19])}
    cells = load_collection(two_files[:1], human_vocab, rules=ALL, label=lambda _: label)
    weights = cells.sampling_weights("kind")
    np.testing.assert_allclose(weights, np.repeat([50 / 51, 50 / 69], [1, 19]))


def test_batches_hold_the_counts_and_pad_short_data_sets(two_files, human_vocab):
    cells = load_collection(two_files, human_vocab, rules=ALL, label=lambda adata: {"kind": np.arange(adata.n_obs) % 3})
    rows = np.array([40, 0, 19])
    batch = cells.batch(rows, 60, generator=np.random.default_rng(0))
    assert batch.genes_BT.shape == (3, 60)
    assert batch.pad_BT.sum(1).tolist() == [60 - len(cells.available[number]) for number in (1, 0, 0)]
    for place, row in enumerate(rows):
        real = batch.real_BT[place]
        expected = cells.counts[row].toarray().ravel()[batch.genes_BT[place][real]]
        np.testing.assert_array_equal(batch.values_BT[place][real], expected)
    assert batch.labels["kind"].tolist() == [20 % 3, 0, 19 % 3]
    np.testing.assert_array_equal(batch.totals_B, cells.totals[rows])


def test_errors_name_the_file(two_files, human_vocab, make_cells, tmp_path):
    adata = make_cells()
    adata.X = adata.X * 0.3
    adata.write_h5ad(tmp_path / "scaled.h5ad")
    with pytest.raises(ValueError, match=r"scaled\.h5ad: adata\.X holds values that are not whole numbers"):
        load_collection([*two_files, tmp_path / "scaled.h5ad"], human_vocab, rules=ALL)
    with pytest.raises(ValueError, match=r"set0\.h5ad: min_cells: 0 of 20 cells are left \(20 by min_genes"):
        load_collection(two_files, human_vocab)
    whole = two_files[0].read_bytes()
    for content in (whole[: len(whole) // 2], b"text", whole[: len(whole) - 2_000] + bytes(2_000)):
        (tmp_path / "bad.h5ad").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.h5ad: "):
            load_collection([tmp_path / "bad.h5ad"], human_vocab)


def test_the_alignment_is_logged(two_files, human_vocab, caplog):
    caplog.set_level(logging.INFO, logger="grnlab")
    load_collection(two_files[:1], human_vocab, rules=ALL)
    assert "genes mapped" in caplog.text
    assert "20 of 20 cells" in caplog.text


def test_splits_keep_held_out_data_sets_away(two_files, human_vocab):
    cells = load_collection(two_files, human_vocab, rules=ALL)
    test = cells.rows_of(["set0"])
    train, validation = cells.split(0.2, seed=3, held_out=["set0"])
    assert test.tolist() == list(range(20))
    assert len(validation) == 6
    assert sorted([*train, *validation, *test]) == list(range(50))
    with pytest.raises(ValueError, match=r"no data set \['set7'\]; there are \['set0', 'set1'\]"):
        cells.split(0.2, seed=3, held_out=["set7"])
    with pytest.raises(ValueError, match="leaves none to train on"):
        cells.split(0.2, seed=3, held_out=["set0", "set1"])


@given(st.data())
def test_weights_are_50_over_the_cells_alike_plus_50(data):
    n_cells = data.draw(st.integers(1, 60))
    codes = st.lists(st.integers(-1, 3), min_size=n_cells, max_size=n_cells)
    labels = {name: np.array(data.draw(codes)) for name in ("a", "b")}
    datasets = np.array(data.draw(codes)) + 1
    cells = CellCollection(sp.csr_matrix((n_cells, 2)), datasets, ["x"], [], np.ones(n_cells), labels)
    names = data.draw(st.lists(st.sampled_from(["dataset", "a", "b"]), unique=True))
    columns = {"dataset": datasets} | labels
    kinds = [tuple(int(columns[name][row]) for name in names) for row in range(n_cells)]
    expected = [50 / (kinds.count(kind) + 50) for kind in kinds]
    np.testing.assert_allclose(cells.sampling_weights(names), expected)
    np.testing.assert_array_equal(cells.sampling_weights("a"), cells.sampling_weights(["dataset", "a"]))


def test_weights_by_a_label_that_is_not_there(two_files, human_vocab, caplog):
    cells = load_collection(two_files, human_vocab, rules=ALL)
    np.testing.assert_array_equal(cells.sampling_weights("cell_type"), cells.sampling_weights())
    assert "has no labels" in caplog.text
    cells = load_collection(two_files, human_vocab, rules=ALL, label={"kind": "cell_type"})
    with pytest.raises(ValueError, match=r"labels names \['cell_type'\]; there are \['dataset', 'kind'\]"):
        cells.sampling_weights("cell_type")


def test_weighted_draws_even_out_a_rare_label():
    rare = np.arange(5_000) < 50
    cells = CellCollection(sp.csr_matrix((5_000, 2)), 0 * rare, ["x"], [], np.ones(5_000), {"rare": rare.astype(int)})
    weights = cells.sampling_weights("rare")
    drawn = np.random.default_rng(0).choice(5_000, 20_000, p=weights / weights.sum())
    share = 50 * 0.5 / (50 * 0.5 + 4_950 * 50 / 5_000)
    assert rare[drawn].mean() == pytest.approx(share, abs=0.01)
