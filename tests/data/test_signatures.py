import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from grnlab.data import (
    SignatureTokens,
    cell_signatures,
    check_signatures,
    collect_signatures,
    read_signatures,
    scale_signatures,
)

FEATURES = pd.DataFrame({"a": [1.0, 2.0], "b": [0.0, 1.0]}, index=["x", "y"])


@pytest.fixture
def signatures(tiny_vocab):
    """Six signatures of all 30 genes, in a mixed order."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"drug": ["x", "y"] * 3, "cell": ["A375", "A375", "MCF7"] * 2, "dose": [1.0, 10.0, None, 0.1, 1.0, 1.0]},
        index=[f"s{number}" for number in range(6)],
    )
    names = rng.permutation(tiny_vocab.symbols)
    return ad.AnnData(rng.normal(size=(6, 30)).astype(np.float32), obs=obs, var=pd.DataFrame(index=names))


def test_a_wide_table_and_a_long_one_hold_the_same(tmp_path, signatures):
    wide = signatures.to_df().assign(pert=signatures.obs["drug"], line=signatures.obs["cell"], um=[1, 2, 3, 4, 5, 6])
    wide.to_csv(tmp_path / "wide.csv.gz", index=False)
    long = wide.melt(["pert", "line", "um"], var_name="symbol", value_name="z").sample(frac=1, random_state=0)
    long.to_csv(tmp_path / "long.tsv", sep="\t", index=False)
    columns = {"drug": "pert", "cell": "line", "dose": "um"}
    first = read_signatures(tmp_path / "wide.csv.gz", **columns)
    second = read_signatures(tmp_path / "long.tsv", **columns, gene="symbol", value="z")
    assert first.obs.columns.tolist() == ["drug", "cell", "dose"]
    np.testing.assert_allclose(first.X, signatures.X, rtol=1e-6)
    order = np.argsort(second.obs["dose"].to_numpy())
    np.testing.assert_allclose(second[order, first.var_names].X, first.X, rtol=1e-6)


def test_pairs_that_a_long_table_leaves_out_are_no_change(tmp_path):
    pd.DataFrame({"p": ["x", "x", "y"], "g": ["A", "B", "A"], "z": [1.0, -2.0, 3.0]}).to_csv(
        tmp_path / "t.csv", index=False
    )
    assert read_signatures(tmp_path / "t.csv", gene="g", value="z").X.tolist() == [[1, -2], [3, 0]]


@pytest.mark.parametrize("long", [False, True])
def test_signatures_of_which_a_condition_is_unknown_are_kept(tmp_path, long):
    obs = {"p": ["x", None, "x"], "line": ["A375", "A375", None], "um": [1.0, None, None]}
    table = pd.DataFrame(obs | {"A": [1.0, 2, 3], "B": [-1.0, -2, -3]})
    if long:
        table = table.melt(list(obs), var_name="g", value_name="z")
    table.to_csv(tmp_path / "t.csv", index=False)
    options = {"gene": "g", "value": "z"} if long else {}
    found = read_signatures(tmp_path / "t.csv", cell="line", dose="um", **options)
    found = found[np.argsort(found[:, "A"].X.ravel())]
    assert found.X.tolist() == [[1, -1], [2, -2], [3, -3]]
    assert found.obs["drug"].isna().tolist() == [False, True, False]
    assert found.obs["cell"].isna().tolist() == [False, False, True]
    assert found.obs["dose"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize(("z", "message"), [([1, None, 2], "'z' is empty in 1 rows"), ([1, "x", 2], "'z' holds text")])
def test_a_long_table_without_a_change_is_refused(tmp_path, z, message):
    pd.DataFrame({"p": ["x", "x", "y"], "g": ["A", "B", "A"], "z": z}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match=message):
        read_signatures(tmp_path / "t.csv", gene="g", value="z")


def test_checking_leaves_the_matrix_alone():
    stored = sp.csr_matrix(([1.0, 0.0, -1.0], [0, 1, 0], [0, 2, 3]), shape=(2, 2), dtype=np.float32)
    adata = ad.AnnData(stored)
    assert check_signatures(adata).nnz == 2
    assert (adata.X.nnz, adata.X.indptr.tolist(), adata.X.data.tolist()) == (3, [0, 2, 3], [1, 0, -1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drug": "nothing"}, r"no column \['nothing'\]"),
        ({"gene": "g"}, "gene and value go together"),
        ({"drug": "p"}, r"columns \['g'\] hold text"),
        ({"drug": "p", "gene": "g", "value": "z"}, "twice, the first"),
        ({"drug": "p", "cell": "g", "dose": "d"}, "dose must be above 0.*the first is 0 of"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path, options, message):
    table = pd.DataFrame({"p": ["x", "x"], "g": ["A", "A"], "z": [1.0, -2.0], "d": [1.0, 0.0]})
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match=message):
        read_signatures(tmp_path / "t.csv", **options)


def test_values_that_are_no_changes_are_refused(signatures):
    counts = ad.AnnData(np.array([[3.0, 0], [1, 2]]))
    with pytest.raises(ValueError, match=r"no negative value .*cell_signatures"):
        check_signatures(counts)
    signatures.X[2, 3] = np.nan
    with pytest.raises(ValueError, match=f"signature 's2', gene '{signatures.var_names[3]}'"):
        check_signatures(signatures)
    signatures.X[2] = 0
    with pytest.raises(ValueError, match="1 signatures change no gene, the first is 's2'"):
        check_signatures(signatures)
    with pytest.raises(ValueError, match="layer='z' is not in"):
        check_signatures(signatures, layer="z")


def test_scaling_keeps_direction_and_the_original(signatures):
    before = signatures.X.copy()
    scaled = scale_signatures(signatures)
    np.testing.assert_allclose((scaled.X**2).mean(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(scaled.X * scaled.obs["strength"].to_numpy()[:, None], before, rtol=1e-5)
    np.testing.assert_array_equal(signatures.X, before)


def test_cells_become_changes_against_their_controls(make_cells):
    cells = make_cells()
    control = (cells.obs["cell_type"] == "B cell").to_numpy()
    changes = cell_signatures(cells, control)
    np.testing.assert_allclose(changes.X[control].mean(axis=0), 0.0, atol=1e-4)
    assert check_signatures(changes).shape == cells.shape
    with pytest.raises(ValueError, match="reference marks 0 of 20 cells"):
        cell_signatures(cells, np.zeros(20, dtype=bool))
    with pytest.raises(ValueError, match="negative values"):
        cell_signatures(changes, control)


def test_genes_are_aligned_by_name_and_conditions_numbered(signatures, tiny_vocab):
    cells = collect_signatures(signatures, tiny_vocab, features=FEATURES)
    expected = signatures[:, tiny_vocab.symbols].X
    np.testing.assert_array_equal(cells.counts.toarray(), expected)
    assert cells.label_values == {"drug": ("x", "y"), "cell": ("A375", "MCF7")}
    assert cells.labels["cell"].tolist() == [0, 0, 1, 0, 0, 1]
    np.testing.assert_allclose(cells.log_dose, [0, 1, np.nan, -1, 0, 0])
    permuted = signatures[:, ::-1].copy()
    np.testing.assert_array_equal(collect_signatures(permuted, tiny_vocab).counts.toarray(), expected)


def test_batches_carry_the_conditions_but_do_not_give_them(signatures, tiny_vocab):
    cells = collect_signatures(signatures, tiny_vocab, features=FEATURES)
    batch = cells.batch(np.array([1, 2]), 12, generator=np.random.default_rng(0))
    assert isinstance(batch, SignatureTokens)
    assert not batch.given
    assert batch.genes_BT.shape == (2, 12)
    expected = cells.counts.toarray()[[[1], [2]], batch.genes_BT.numpy()]
    np.testing.assert_array_equal(batch.values_BT.numpy(), expected)
    assert batch.drug_BF.tolist() == [[2.0, 1.0], [1.0, 0.0]]
    assert batch.log_dose_B[0] == 1
    assert batch.log_dose_B[1].isnan()
    moved = batch.to("cpu")
    assert isinstance(moved, SignatureTokens)
    torch.testing.assert_close(moved.drug_BF, batch.drug_BF)


def test_a_signature_without_a_drug_has_no_features(signatures, tiny_vocab):
    signatures.obs["drug"] = [None, "y", "x", "y", "x", "y"]
    batch = collect_signatures(signatures, tiny_vocab, features=FEATURES).conditions(np.arange(2))
    assert batch["drug_BF"][0].isnan().all()
    assert batch["drug_BF"][1].tolist() == [2.0, 1.0]


def test_missing_genes_of_the_panel(signatures, tiny_vocab, caplog):
    few = signatures[:, :10].copy()
    with pytest.raises(ValueError, match=r"10 of the 30 genes of the panel \(33%"):
        collect_signatures(few, tiny_vocab)
    cells = collect_signatures(few, tiny_vocab, min_panel=0.3)
    assert "20 of 30 genes of the panel are not measured" in caplog.text
    batch = cells.batch(np.arange(6), 30, generator=np.random.default_rng(0))
    shown = set(batch.genes_BT[batch.real_BT].tolist())
    assert shown == set(cells.available[0].tolist())
    assert len(shown) == 10


def test_unknown_conditions_are_named(signatures, tiny_vocab):
    with pytest.raises(ValueError, match=r"obs\['cell'\] holds \['MCF7'\], which the model does not know"):
        collect_signatures(signatures, tiny_vocab, cells=("A375",))
    with pytest.raises(ValueError, match=r"1 drugs have no features: \['y'\]"):
        collect_signatures(signatures, tiny_vocab, features=FEATURES.loc[["x"]])
    signatures.obs["dose"] = [1.0, -2.0, 1.0, 1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match=r"dose must be above 0.*the first is -2 of 's1'.*control"):
        collect_signatures(signatures, tiny_vocab)
    del signatures.obs["drug"]
    with pytest.raises(ValueError, match=r"features needs adata.obs"):
        collect_signatures(signatures, tiny_vocab, features=FEATURES)
