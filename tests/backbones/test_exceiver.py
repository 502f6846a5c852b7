import dataclasses
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import grnlab as gl
from grnlab.backbones import Backbone, Exceiver, ExceiverConfig, load_model, save_model
from grnlab.backbones.exceiver import QueriedTokens
from grnlab.backbones.exceiver_statistics import gene_statistics
from grnlab.data import CellCollection
from grnlab.data.tokens import CellTokens

CLASSES = {"cell_type": ("B", "T", "NK"), "sex": ("f", "m")}
CONFIGS = [{}, {"mixing": False}, {"classes": {}}, {"n_layers": 3, "n_heads": 2, "n_latents": 3}]


def make(vocab, *, seed=0, **config):
    torch.manual_seed(seed)
    sizes = {"n_latents": 5, "n_layers": 2, "d_model": 16, "n_heads": 4, "classes": CLASSES}
    model = Exceiver(vocab, ExceiverConfig(**sizes | config), name="tiny").eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
        model.mean_G.copy_(torch.rand(len(vocab)) * 2)
        model.sd_G.copy_(torch.rand(len(vocab)) + 0.5)
        model.expressed_G.copy_(torch.rand(len(vocab)))
    return model


@pytest.fixture
def model(tiny_vocab):
    return make(tiny_vocab)


@pytest.fixture(scope="session")
def with_zeros(make_tokens):
    """Cells that do not express some of their genes."""

    def tokens(*args, **options):
        whole = make_tokens(*args, **options)
        return dataclasses.replace(whole, values_BT=whole.values_BT * (whole.values_BT > 2))

    return tokens


def recorded(run):
    layers = {}
    run(lambda layer, *rest: layers.update({layer: rest}))
    assert list(layers) == [0]
    return layers[0]


def outputs(encoded):
    return {"genes": encoded.genes_BTM, "cell": encoded.cell_BM, **encoded.classes_BM}


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("lengths", [(9, 9, 9), (9, 4, 7)], ids=["full", "padded"])
@torch.no_grad()
def test_invariant(tiny_vocab, with_zeros, config, lengths):
    """Two hops rebuilt from what is recorded, times values, are what the two attentions make of the values."""
    model, tokens = make(tiny_vocab, **config), with_zeros(lengths, hidden=True)
    q, k, v, out = recorded(lambda record: model.encode(tokens, record=record))
    spec = model.attention
    assert (spec.kind, spec.n_layers, spec.n_heads) == ("two_hop", 1, model.config.n_heads**2)
    assert q.shape == k.shape == (3, spec.n_prefix + 9, spec.n_heads, spec.d_head)
    rows = torch.einsum("bqpn,btpn->bpqt", q, k)
    assert (rows >= 0).all()
    torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.einsum("bpqt,btpd->bqpd", rows, v), out, rtol=0, atol=1e-5)
    short = recorded(lambda record: model.record_qk(tokens, record=record))
    assert torch.equal(short[0], q)
    assert torch.equal(short[1], k)


@torch.no_grad()
def test_zeros_are_not_attended_to_but_may_ask(model, with_zeros):
    tokens = with_zeros()
    zero = tokens.values_BT == 0
    assert zero.any()
    q, k, *_ = recorded(lambda record: model.encode(tokens, record=record))
    assert (k[:, 2:][zero] == 0).all()
    assert (k[:, 2:][~zero] > 0).all()
    assert (q > 0).all()
    changed = dataclasses.replace(tokens, genes_BT=torch.where(zero, (tokens.genes_BT + 1) % 30, tokens.genes_BT))
    torch.testing.assert_close(model.encode(changed).cell_BM, model.encode(tokens).cell_BM)


@torch.no_grad()
def test_token_is_the_embedding_times_the_shifted_score(model, with_zeros):
    tokens = with_zeros((9, 4, 7), hidden=True)
    x, blind = model.embed(tokens)
    for cell in range(3):
        for place in range(9):
            gene, value = int(tokens.genes_BT[cell, place]), float(tokens.values_BT[cell, place])
            logged = np.log1p(value * 1e4 / float(tokens.totals_B[cell]))
            score = np.clip((logged - float(model.mean_G[gene])) / float(model.sd_G[gene]), -10, 10) + 1
            hidden = bool(tokens.hidden_BT[cell, place])
            expected = model.mask_embedding if hidden else model.gene_embedding.weight[gene] * score
            torch.testing.assert_close(x[cell, 2 + place], expected.float(), rtol=1e-4, atol=1e-5)
            padded = bool(tokens.pad_BT[cell, place])
            assert bool(blind[cell, 2 + place]) == (padded or (value == 0 and not hidden))
    torch.testing.assert_close(x[:, :2], model.special.expand(3, -1, -1))
    assert not blind[:, :2].any()


@torch.no_grad()
def test_hidden_genes_and_counts_never_reach_the_model(model, with_zeros):
    """Neither the count of a hidden gene nor which gene it is, but in the question."""
    tokens = with_zeros((9, 4, 7), hidden=True)
    other = dataclasses.replace(
        tokens,
        values_BT=tokens.values_BT.masked_fill(tokens.hidden_BT, 1234.0),
        genes_BT=torch.where(tokens.hidden_BT, (tokens.genes_BT + 1) % 30, tokens.genes_BT),
    )
    assert torch.equal(model.encode(tokens).latents_BNM, model.encode(other).latents_BNM)
    seen = dataclasses.replace(tokens, hidden_BT=None)
    assert not torch.allclose(model.encode(seen).cell_BM, model.encode(tokens).cell_BM, atol=1e-3)


@torch.no_grad()
def test_a_cell_is_a_set_of_genes_and_padding_nothing(model, with_zeros):
    tokens = with_zeros((9, 4, 7))
    order = torch.from_numpy(np.random.default_rng(0).permutation(9))
    permuted = CellTokens(
        tokens.genes_BT[:, order], tokens.values_BT[:, order], tokens.totals_B, tokens.pad_BT[:, order]
    )
    before, after = outputs(model.encode(tokens)), outputs(model.encode(permuted))
    before["genes"] = before["genes"][:, order]
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-5)
    for cell, length in enumerate((9, 4, 7)):
        alone = CellTokens(tokens.genes_BT[[cell], :length], tokens.values_BT[[cell], :length], tokens.totals_B[[cell]])
        torch.testing.assert_close(model.encode(alone).cell_BM[0], model.encode(tokens).cell_BM[cell])


@torch.no_grad()
def test_only_genes_asked_for_are_decoded(model, with_zeros):
    tokens = with_zeros((9, 4, 7))
    query = torch.tensor([[2, 0], [1, 3], [6, 4]])
    some = QueriedTokens(
        tokens.genes_BT, tokens.values_BT, tokens.totals_B, tokens.pad_BT, labels=tokens.labels, query_BQ=query
    ).to("cpu")
    whole, part = model.encode(tokens), model.encode(some)
    expected = whole.genes_BTM.gather(1, query.unsqueeze(-1).expand(-1, -1, 16))
    torch.testing.assert_close(part.genes_BTM, expected)
    torch.testing.assert_close(model.predict(part), model.predict(whole).gather(1, query))
    assert torch.equal(part.genes_BQ, tokens.genes_BT.gather(1, query))
    assert {name: x.shape for name, x in model.classify(part).items()} == {"cell_type": (3, 3), "sex": (3, 2)}


@torch.no_grad()
def test_decode_is_the_inverse_of_scores(model, with_zeros):
    """Counts from predicted scores: those of a gene whose score is predicted right come out right."""
    tokens = with_zeros()
    encoded = model.encode(tokens)
    model.predict = lambda _: model.scores(tokens)
    decoded = model.decode(encoded, torch.zeros(3))
    assert decoded.kind == "mse"
    torch.testing.assert_close(decoded.mean_BT, tokens.values_BT, rtol=1e-3, atol=1e-3)


def test_statistics_by_the_definition(tiny_vocab):
    """Over the cells of the data sets that measured a gene; some cells only; more cells than are read at once."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 2.0, 30), (40, 30)).astype(np.float32)
    counts[:, 0] += 1
    counts[:, 1:] += rng.random((40, 29)) < 0.3
    counts[:, 7] = 0
    counts[20:, :5:2] = 0
    datasets, rows = np.repeat([0, 1], 20), np.arange(1, 40)
    available = [np.arange(30), np.setdiff1d(np.arange(30), [0, 2, 4])]
    totals = counts.sum(1) + 3
    cells = CellCollection(sp.csr_matrix(counts), datasets, ["a", "b"], available, totals)
    found = gene_statistics(cells, rows, limit=1.5)
    logged = np.log1p(counts * 1e4 / totals[:, None])
    for gene in range(30):
        if gene == 7:
            assert (found.mean_G[7], found.sd_G[7], found.expressed_G[7]) == (0, 1, 0)
            continue
        measured = rows[[gene in available[datasets[row]] for row in rows]]
        mean, sd = logged[measured, gene].mean(), max(logged[measured, gene].std(), 0.02)
        scores = ((logged[measured, gene] - mean) / sd).clip(-1.5, 1.5)
        expressed = scores[counts[measured, gene] > 0].mean()
        got = found.mean_G[gene], found.sd_G[gene], found.expressed_G[gene]
        np.testing.assert_allclose(got, (mean, sd, expressed), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="two cells or more; got 1"):
        gene_statistics(cells, rows[:1])
    empty = dataclasses.replace(cells, totals=np.zeros(40))
    with pytest.raises(ValueError, match="39 cells have no counts"):
        gene_statistics(empty, rows)


def test_standardised_on_another_data_set(human_vocab, make_cells):
    model, adata = make(human_vocab), make_cells()
    mine = model.standardised(adata)
    assert mine.gene_embedding is model.gene_embedding
    assert mine.name == "tiny, standardised on 20 cells"
    found = gl.genes.align(list(adata.var_names), human_vocab)
    known, rest = found.tokens, np.setdiff1d(np.arange(60), found.tokens)
    assert torch.equal(mine.mean_G[rest], model.mean_G[rest])
    counts = adata.X[:, found.columns].toarray()
    logged = np.log1p(counts * 1e4 / np.asarray(adata.X.sum(1)))
    np.testing.assert_allclose(mine.mean_G[known], logged.mean(0), rtol=1e-5)
    assert not torch.allclose(mine.mean_G[known], model.mean_G[known])
    shuffled = model.standardised(adata[:, ::-1].copy())
    torch.testing.assert_close(shuffled.sd_G, mine.sd_G)
    maps = gl.tl.attention(adata, mine, genes="all")
    assert maps.provenance["model"] == "tiny, standardised on 20 cells"


def test_networks_are_the_same_whatever_the_order_of_columns(human_vocab, make_cells):
    model, adata = make(human_vocab), make_cells()
    one, other = (
        gl.tl.infer_networks(gl.tl.attention(cells, model, groupby="cell_type", genes="all"), top_k=5)["B cell"]
        for cells in (adata, adata[:, ::-1].copy())
    )
    columns = ["source", "target"]
    left, right = (net.edges.sort_values(columns).reset_index(drop=True) for net in (one, other))
    pd.testing.assert_frame_equal(left, right, rtol=1e-4)
    text = json.dumps(dict(one.provenance), default=str)
    assert one.provenance["attention_kind"] == "two_hop"
    assert text.count("softmax") == text.count("no softmax") > 0


def test_a_checkpoint_gives_the_same(model, with_zeros, tmp_path):
    assert isinstance(model, Backbone)
    again = load_model(save_model(model, tmp_path / "kept"))
    assert again.config == model.config
    tokens = with_zeros()
    assert torch.equal(again.encode(tokens).genes_BTM, model.encode(tokens).genes_BTM)
    assert "5 latents (two-hop maps)" in (tmp_path / "kept" / "README.md").read_text()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_latents": 0}, "n_latents=0 must be above 0"),
        ({"d_model": 10, "n_heads": 4}, "d_model=10 must be a multiple of n_heads=4"),
        ({"classes": {"sex": ("f", "f")}}, r"class 'sex' has the labels \['f'\] twice"),
    ],
)
def test_configs_that_do_not_fit(values, message):
    with pytest.raises(ValueError, match=message):
        ExceiverConfig(**values)


@pytest.mark.parametrize("method", ["attention", "attention_cells", "jacobian", "perturbation", "cosine_centred"])
def test_read_outs(human_vocab, make_cells, method):
    scores = gl.tl.read_out(make_cells(), make(human_vocab), method, regulators="all", max_cells=3)
    assert scores.provenance["attention_kind"] == "two_hop"
    assert np.isfinite(scores.groups["all"]).sum() > 100


def test_read_outs_it_cannot_serve(human_vocab, make_cells):
    with pytest.raises(ValueError, match=r"predictions of hidden genes flow through\. It can serve \['attention'"):
        gl.tl.read_out(make_cells(), make(human_vocab), "attention_gradient", max_cells=3)


@torch.no_grad()
def test_a_cell_that_shows_none_of_its_counts(model):
    """Its genes ask, and nothing answers but the latents themselves."""
    silent = make(model.vocab, classes={})
    tokens = CellTokens(torch.tensor([[1, 2]]), torch.zeros(1, 2), torch.tensor([100.0]))
    encoded = silent.encode(tokens)
    assert torch.isfinite(encoded.genes_BTM).all()
    _, k, *_ = recorded(lambda record: silent.encode(tokens, record=record))
    assert (k == 0).all()


def test_embeddings(human_vocab, make_cells):
    adata = make_cells()
    assert isinstance(adata, ad.AnnData)
    gl.tl.embed(adata, make(human_vocab))
    assert adata.obsm["X_grnlab"].shape == (20, 16)
    assert adata.obsm["X_grnlab_cell_type_logits"].shape == (20, 3)
