import json
import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import grnlab as gl
from grnlab.attention import pool_queries_keys
from grnlab.network import GeneNetwork


@pytest.fixture(scope="module")
def infer(human_model):
    """Edge table of the whole path from cells to networks."""

    def run(adata, *, genes=25, context="shared", groupby="cell_type", **more):
        maps = gl.tl.attention(adata, human_model, groupby=groupby, genes=genes, context=context, **more)
        return gl.tl.infer_networks(maps, top_k=5, regulators="all").edge_table()

    return run


@given(
    seed=st.integers(0, 10_000),
    genes=st.sampled_from([12, 25, "all"]),
    context=st.sampled_from(["shared", "expressed"]),
    ensembl=st.booleans(),
)
@settings(max_examples=10, deadline=None)
def test_permuted_columns_and_other_names_change_no_edge(seed, genes, context, ensembl, infer, make_cells, human_vocab):
    adata = make_cells(seed=seed % 5)
    permuted = adata[:, np.random.default_rng(seed).permutation(adata.n_vars)].copy()
    if ensembl:
        known = human_vocab.table.set_index("symbol")["ensembl_id"]
        permuted.var_names = [f"{known[name]}.{seed}" if name in known.index else name for name in permuted.var_names]
    expected = infer(adata, genes=genes, context=context)
    assert len(expected) > 50
    pd.testing.assert_frame_equal(infer(permuted, genes=genes, context=context), expected, check_exact=True)


@pytest.mark.parametrize("context", ["shared", "expressed"])
def test_permuted_cells_change_weights_by_rounding_only(infer, make_cells, context):
    adata = make_cells(n_each=30)
    permuted = adata[np.random.default_rng(0).permutation(adata.n_obs)]
    expected, found = (
        infer(a, context=context, genes="all").set_index(["group", "source", "target"])["weight"]
        for a in (adata, permuted)
    )
    both = expected.index.intersection(found.index)
    assert len(both) >= 0.99 * len(expected)  # an edge at the cut may swap with its equal
    np.testing.assert_allclose(found[both], expected[both], atol=1e-5)


@pytest.mark.parametrize(
    "convert",
    [
        sp.csc_matrix,
        sp.coo_matrix.toarray,
        lambda X: X.astype(np.int64),
        lambda X: X.toarray().astype("uint16"),
        sp.csr_array,
    ],
    ids=["csc", "dense", "int64", "uint16", "csr_array"],
)
def test_the_format_of_the_counts_changes_nothing(infer, make_cells, convert):
    adata = make_cells()
    other = ad.AnnData(convert(adata.X.tocoo() if convert is sp.coo_matrix.toarray else adata.X), adata.obs, adata.var)
    pd.testing.assert_frame_equal(infer(other), infer(adata), check_exact=True)


def test_a_backed_file_a_view_and_a_layer_change_nothing(infer, make_cells, tmp_path):
    adata = make_cells()
    expected = infer(adata)
    adata.write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    pd.testing.assert_frame_equal(infer(backed), expected, check_exact=True)
    pd.testing.assert_frame_equal(infer(adata[:, :]), expected, check_exact=True)
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X * 0.1
    pd.testing.assert_frame_equal(infer(adata, layer="counts"), expected, check_exact=True)


def test_unsorted_and_explicit_zero_entries_change_nothing_and_are_left_alone(infer, make_cells):
    adata = make_cells()
    coo = adata.X.tocoo()
    order = np.random.default_rng(0).permutation(coo.nnz)
    order = order[np.argsort(coo.row[order], kind="stable")]
    data = np.concatenate([coo.data[order], np.zeros(4, dtype=np.float32)])
    column = np.concatenate([coo.col[order], np.arange(4)])
    unsorted = sp.csr_matrix(adata.shape, dtype=np.float32)
    unsorted.data, unsorted.indices = data, column.astype(np.int32)
    unsorted.indptr = np.append(adata.X.indptr[:-1], len(data)).astype(np.int32)
    absent = adata.X[-1, :4].toarray().ravel() == 0
    unsorted.data = np.concatenate([coo.data[order], np.zeros(4, dtype=np.float32)])
    assert absent.any()
    other = ad.AnnData(unsorted, adata.obs, adata.var)
    before = other.X.toarray()
    pd.testing.assert_frame_equal(infer(other), infer(adata), check_exact=True)
    np.testing.assert_array_equal(other.X.toarray(), before)
    assert len(other.X.data) == len(data)


def test_genes_the_model_does_not_know_change_only_the_totals(infer, make_cells, human_model):
    adata = make_cells()
    silent = ad.AnnData(
        sp.hstack([adata.X, sp.csr_matrix((adata.n_obs, 3))], format="csr"),
        adata.obs,
        pd.DataFrame(index=[*adata.var_names, "X1", "X2", "X3"]),
    )
    pd.testing.assert_frame_equal(infer(silent), infer(adata), check_exact=True)
    loud = silent.copy()
    loud.X = sp.hstack([adata.X, sp.csr_matrix(np.full((adata.n_obs, 3), 7.0))], format="csr")
    a, b = (gl.tl.attention(x, human_model, genes="all") for x in (silent, loud))
    assert a.genes.equals(b.genes)
    assert a.expression["all"]["fraction_expressed"].equals(b.expression["all"]["fraction_expressed"])
    assert (b.expression["all"]["mean_counts"] <= a.expression["all"]["mean_counts"]).all()
    assert "X1" not in b.genes.index


def test_totals_count_the_genes_the_model_is_not_shown(make_cells, human_model):
    adata = make_cells()
    maps = gl.tl.attention(adata, human_model, genes=12, context="shared")
    counts = adata[:, maps.genes["name_in_data"].tolist()].X.tocsr()
    tokens = maps.genes["token"].to_numpy()
    for totals, same in ((adata.X, True), (counts, False)):
        expected = pool_queries_keys(human_model, counts, tokens, np.asarray(totals.sum(1)).ravel())
        assert np.allclose(maps.group("all").q_LHGD, expected.q_LHGD, atol=1e-5) == same


def test_the_gene_table_is_in_token_order_with_the_names_of_the_data(make_cells, human_model, human_vocab):
    adata = make_cells()
    adata.var_names = [f"OLD{human_vocab.token(n)}" if n == "GENE0" else n for n in adata.var_names]
    maps = gl.tl.attention(adata, human_model, genes="all")
    assert (np.diff(maps.genes["token"]) > 0).all()
    assert maps.genes.loc["GENE0", "name_in_data"] == "OLD10"
    assert maps.genes.loc["TF0", "is_tf"]
    assert maps.genes.loc["TF0", "ensembl_id"] == "ENSG00000000000"


def test_expression_is_that_of_the_group(make_cells, human_model):
    adata = make_cells()
    maps = gl.tl.attention(adata, human_model, groupby="cell_type", genes="all")
    cells = adata[adata.obs["cell_type"] == "T cell"]
    counts = cells[:, "TF0"].X.toarray().ravel()
    totals = np.asarray(cells.X.sum(1)).ravel()
    row = maps.expression["T cell"].loc["TF0"]
    assert row["mean_counts"] == pytest.approx((counts / totals * 1e4).mean(), rel=1e-5)
    assert row["fraction_expressed"] == pytest.approx((counts > 0).mean())


def test_a_group_is_pooled_as_if_it_were_alone(make_cells, human_model):
    adata = make_cells()
    together = gl.tl.attention(adata, human_model, groupby="cell_type", genes="all")
    alone = gl.tl.attention(
        adata[adata.obs["cell_type"] == "T cell"].copy(), human_model, genes=together.genes.index.tolist()
    )
    np.testing.assert_allclose(together.group("T cell").q_LHGD, alone.group("all").q_LHGD, atol=1e-5)
    assert together.group("T cell").n_cells == 10


def test_names_in_a_column_of_var_are_found(infer, make_cells, human_vocab, caplog):
    adata = make_cells()
    expected = infer(adata)
    adata.var["gene_name"] = pd.Categorical(adata.var_names)
    adata.var_names = [f"probe{number}" for number in range(adata.n_vars)]
    with caplog.at_level(logging.INFO, logger="grnlab"):
        pd.testing.assert_frame_equal(infer(adata), expected, check_exact=True)
    assert "adata.var['gene_name']" in caplog.text
    adata.var["gene_name"] = ["TF0", *adata.var["gene_name"][1:-1], "TF0"]
    with pytest.raises(ValueError, match=r"occur more than once.*names are those of adata\.var\['gene_name'\]"):
        infer(adata)


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (np.repeat([1, 2], 10), ["1", "2"]),
        (np.repeat([0.5, 1.5], 10), ["0.5", "1.5"]),
        (np.repeat([True, False], 10), ["False", "True"]),
        (pd.Categorical(np.repeat(["b", "a"], 10), categories=["z", "b", "a"]), ["a", "b"]),
        (pd.array(["x"] * 10 + ["y"] * 10, dtype="string"), ["x", "y"]),
        (pd.array([1] * 10 + [2] * 10, dtype="Int64"), ["1", "2"]),
        (np.array([1, "1"] * 10, dtype=object), ["1"]),
    ],
    ids=["int", "float", "bool", "unused category", "string", "nullable", "1 and '1'"],
)
def test_groups_of_every_kind_of_column_hold_every_cell(make_cells, human_model, labels, groups):
    adata = make_cells()
    adata.obs["group"] = labels
    maps = gl.tl.attention(adata, human_model, groupby="group", genes=10)
    assert list(maps.groups) == groups
    assert sum(group.n_cells for group in maps.groups.values()) == 20


def test_cells_without_label_are_left_out_and_said_so(make_cells, human_model, caplog):
    adata = make_cells()
    adata.obs.loc[["cell0", "cell1"], "cell_type"] = np.nan
    maps = gl.tl.attention(adata, human_model, groupby="cell_type", genes=10)
    assert {name: group.n_cells for name, group in maps.groups.items()} == {"B cell": 8, "T cell": 10}
    assert "2 cells have no cell_type" in caplog.text


def test_small_groups_are_left_out_on_request_and_said_so(make_cells, human_model, caplog):
    adata = make_cells()
    adata.obs["group"] = ["rare"] * 3 + ["common"] * 17
    maps = gl.tl.attention(adata, human_model, groupby="group", genes=10, skip_small=True)
    assert list(maps.groups) == ["common"]
    assert "rare" in caplog.text
    maps = gl.tl.attention(adata, human_model, groupby="group", genes=10, min_cells=3)
    assert list(maps.groups) == ["common", "rare"]
    with pytest.raises(ValueError, match="lower min_cells or choose another column"):
        gl.tl.attention(adata, human_model, groupby="group", genes=10, min_cells=50, skip_small=True)


def test_provenance_says_where_it_comes_from_and_is_json(make_cells, human_model):
    maps = gl.tl.attention(make_cells(), human_model, groupby="cell_type", genes=10)
    kept = json.loads(json.dumps(maps.provenance))
    assert kept["model"] == "untrained"
    assert kept["vocab_sha256"] == human_model.vocab.hash
    assert kept["cells_per_group"] == {"B cell": 10, "T cell": 10}
    assert kept["n_genes_shown"] == 10
    assert kept["groupby"] == "cell_type"
    assert "genes mapped" in kept["alignment"]


def test_an_unknown_context_is_named(make_cells, human_model):
    with pytest.raises(ValueError, match=r"context='full' is unknown; choose one of \('shared', 'expressed'\)"):
        gl.tl.attention(make_cells(), human_model, genes=10, context="full")


# --- networks stored in an AnnData


def test_networks_are_stored_as_sparse_matrices(make_cells, human_model, tmp_path):
    adata = make_cells(groups=("CD4/CD8 T", "B cell"))
    networks = gl.tl.infer_networks(gl.tl.attention(adata, human_model, groupby="cell_type", genes=20))
    gl.tl.store_networks(adata, networks)
    matrix = adata.varp["grn_CD4|CD8 T"]
    edges = networks["CD4/CD8 T"].edges
    assert matrix.nnz == len(edges)
    place = pd.Series(range(adata.n_vars), index=adata.var_names)
    for source, target, weight in edges[["source", "target", "weight"]].head(10).itertuples(index=False):
        assert matrix[place[source], place[target]] == pytest.approx(weight)
    adata.write_h5ad(tmp_path / "x.h5ad")
    kept = ad.read_h5ad(tmp_path / "x.h5ad").uns["grn"]
    assert json.loads(kept["provenance"]) == networks.provenance
    assert kept["direction"] == "row=regulator, column=target"


def test_genes_that_are_gone_are_not_stored(make_cells, human_model):
    adata = make_cells()
    networks = gl.tl.infer_networks(gl.tl.attention(adata, human_model, genes=20))
    fewer = adata[:, adata.var_names != "TF0"].copy()
    gl.tl.store_networks(fewer, networks)
    edges = networks["all"].edges
    assert fewer.varp["grn_all"].nnz == len(edges[(edges["source"] != "TF0") & (edges["target"] != "TF0")])


def test_names_that_would_share_a_key_are_refused(make_cells):
    genes = pd.DataFrame({"name_in_data": ["TF0", "GENE0"]}, index=["TF0", "GENE0"])
    edges = pd.DataFrame({"source": ["TF0"], "target": ["GENE0"], "weight": [1.0]})
    networks = gl.NetworkSet([GeneNetwork(edges, genes, name=name) for name in ("a/b", "a|b")])
    adata = make_cells()
    with pytest.raises(ValueError, match=r"differ only by '/' and '\|'"):
        gl.tl.store_networks(adata, networks)
    assert not adata.varp


@pytest.mark.parametrize("method", ["jacobian", "value_norm", "cosine"])
def test_scores_of_a_read_out_become_networks(human_model, make_cells, method):
    adata = make_cells()
    scores = gl.tl.read_out(adata, human_model, method, groupby="cell_type", genes="all")
    networks = gl.tl.infer_networks(scores, top_k=3)
    assert list(networks) == ["B cell", "T cell"]
    for network in networks.values():
        assert len(network.edges) > 20
        assert ("sign" in network.edges) == (method == "jacobian")
        assert network.provenance["readout"] == method
        assert json.loads(json.dumps(dict(network.provenance))) == dict(network.provenance)
