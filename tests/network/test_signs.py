import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scipy.stats

import grnlab as gl
from grnlab.network.signs import sign_edges


@pytest.fixture
def cells(build_random):
    net = build_random(12, 60)
    rng = np.random.default_rng(1)
    return net, rng.poisson(2.0, (50, 12)).astype(float), net.genes.index.tolist()


@pytest.mark.parametrize(
    ("method", "reference"), [("pearson", scipy.stats.pearsonr), ("spearman", scipy.stats.spearmanr)]
)
def test_against_scipy(cells, method, reference):
    net, values, names = cells
    found = sign_edges(net, values, names, method=method, alpha=1)
    expected = [reference(values[:, names.index(s)], values[:, names.index(t)]) for s, t in zip(
        net.edges["source"], net.edges["target"], strict=True)]  # fmt: skip
    r, p = np.array([(x.statistic, x.pvalue) for x in expected]).T
    np.testing.assert_allclose(found.edges["correlation"], r, atol=1e-6)
    np.testing.assert_allclose(found.edges["correlation_padj"], scipy.stats.false_discovery_control(p), rtol=1e-4)
    assert (found.edges["sign"] == np.sign(r)).all()
    assert found.edges["weight"].equals(net.edges["weight"])


def test_sparse_and_permuted_columns_are_the_same(cells):
    net, values, names = cells
    order = np.random.default_rng(0).permutation(12)
    a = sign_edges(net, values, names)
    b = sign_edges(net, sp.csr_array(values[:, order]), [names[i] for i in order])
    assert a.equals(b)


def test_unclear_and_constant_genes_have_no_sign(build):
    rng = np.random.default_rng(0)
    a = rng.normal(size=200)
    values = np.column_stack([a, a + rng.normal(size=200), -a, rng.normal(size=200), np.ones(200)])
    net = build([("A", "B", 5), ("A", "C", 4), ("A", "D", 3), ("A", "E", 2)])
    found = sign_edges(net, values, list("ABCDE")).edges
    assert found["sign"].tolist() == [1, -1, 0, 0]
    assert np.isnan(found["correlation"].iloc[3])


def test_bad_expression(cells):
    net, values, names = cells
    with pytest.raises(ValueError, match="expected one per column"):
        sign_edges(net, values, names[:-1])
    with pytest.raises(ValueError, match="'G000' more than once"):
        sign_edges(net, values, [*names[:-1], "G000"])
    with pytest.raises(ValueError, match="have no column in expression, the first is 'G011'"):
        sign_edges(net, values, [*names[:-1], "X"])
    with pytest.raises(ValueError, match="at least 3"):
        sign_edges(net, values[:2], names)
    with pytest.raises(ValueError, match="not finite"):
        sign_edges(net, values * np.nan, names)
    with pytest.raises(ValueError, match="method must be"):
        sign_edges(net, values, names, method="kendall")


def test_no_edges(empty):
    assert len(sign_edges(empty, np.ones((5, 1)), ["A"]).edges) == 0


def test_signs_from_counts(make_cells, human_model):
    cells = make_cells(n_each=30)
    cells.obs["donor"] = "one"
    nets = gl.tl.infer_networks(gl.tl.attention(cells, human_model, groupby="cell_type", genes=30), regulators="all")
    signed = gl.tl.sign_edges(cells, nets, groupby="cell_type", alpha=1)
    net = signed["T cell"]
    assert set(net.edges["sign"]) == {-1, 1}
    rows = (cells.obs["cell_type"] == "T cell").to_numpy()
    x = cells.X.toarray()[rows]
    x = pd.DataFrame(np.log1p(x / x.sum(1, keepdims=True) * 1e4), columns=cells.var_names)
    edge = net.edges.iloc[0]
    assert edge["correlation"] == pytest.approx(x[edge["source"]].corr(x[edge["target"]], method="spearman"), abs=1e-5)
    assert {name[-3:] for name in net.to_regulons()} == {"(+)", "(-)"}
    with pytest.raises(ValueError, match="no cell of the group"):
        gl.tl.sign_edges(cells, nets, groupby="donor")


def test_signs_need_a_set_of_networks(make_cells, blood):
    with pytest.raises(ValueError, match=r"must be a NetworkSet, got GeneNetwork; write NetworkSet\(\[network\]\)"):
        gl.tl.sign_edges(make_cells(), blood)
