"""Read-outs of single cells against their formula, on a tiny model in float64."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from grnlab_kernels import reference

from grnlab.attention import ReadOutConfig, cell_maps, responses
from grnlab.attention.cell import cells_of

TOKENS = np.array([4, 9, 0, 21, 13, 29, 7, 2])
REGULATORS, TARGETS = np.array([0, 2, 5, 6]), np.array([0, 1, 3, 5, 6, 7])


@pytest.fixture
def cell(tiny_model):
    counts = sp.csr_matrix(np.array([[3, 1, 0, 2, 7, 0, 4, 1]]), dtype=np.float32)
    return next(cells(tiny_model, counts))


def cells(model, counts, context="shared"):
    return cells_of(
        model,
        counts,
        TOKENS,
        np.full(counts.shape[0], 500.0),
        regulators=REGULATORS,
        targets=TARGETS,
        context=context,
        seed=(5, "group"),
    )


def double(model, cell):
    """The same in float64."""
    tokens = replace(cell.tokens, values_BT=cell.tokens.values_BT.double(), totals_B=cell.tokens.totals_B.double())
    return model.double(), replace(cell, tokens=tokens)


def recorded(model, tokens):
    layers = {}
    with torch.no_grad():
        model.encode(tokens, record=lambda layer, *rest: layers.update({layer: [x[0].double() for x in rest]}))
    return [layers[layer] for layer in sorted(layers)]


def only(blocks):
    (block,) = list(blocks)
    return block


def test_expressed_context_shows_what_is_expressed(tiny_model):
    rows = [[3, 1, 0, 2, 7, 0, 4, 1], [0] * 8, [0, 0, 5, 0, 0, 0, 0, 0]]
    counts = sp.csr_matrix(np.array(rows), dtype=np.float32)
    first, second = cells(tiny_model, counts, "expressed")
    assert first.genes_T.tolist() == [0, 1, 3, 4, 6, 7]
    assert first.genes_T[first.regulators].tolist() == [0, 6]
    assert first.genes_T[first.targets].tolist() == [0, 1, 3, 6, 7]
    assert first.tokens.genes_BT[0].tolist() == TOKENS[first.genes_T].tolist()
    assert first.tokens.values_BT[0].tolist() == [3, 1, 2, 7, 4, 1]
    assert second.genes_T.tolist() == [2]
    assert list(second.masks(0.3, 2)) == []  # nothing to predict from


def test_a_model_that_shows_genes_in_an_order_of_its_own(monkeypatch, tiny_model):
    counts = sp.csr_matrix(np.array([[3, 1, 0, 2, 7, 0, 4, 1]]), dtype=np.float32)
    (plain,) = cells(tiny_model, counts, "expressed")
    show = tiny_model.tokenize

    def turned(*args, **more):
        tokens = show(*args, **more)
        return replace(tokens, genes_BT=tokens.genes_BT.flip(1), values_BT=tokens.values_BT.flip(1))

    monkeypatch.setattr(tiny_model, "tokenize", turned)
    (other,) = cells(tiny_model, counts, "expressed")
    assert other.genes_T.tolist() == plain.genes_T[::-1].tolist()
    _, _, want = only(cell_maps.value_norm(tiny_model, plain, ReadOutConfig()))
    regulators, _, found = only(cell_maps.value_norm(tiny_model, other, ReadOutConfig()))
    assert other.genes_T[regulators].tolist() == [6, 0]
    np.testing.assert_allclose(found[::-1, ::-1], want, rtol=1e-4)


def test_masks_hide_a_share_and_differ(cell):
    masks = list(cell.masks(0.3, 4))
    assert len({tuple(masked.tokens.hidden_BT[0].tolist()) for masked in masks}) > 1
    for masked in masks:
        hidden = masked.tokens.hidden_BT[0].numpy()
        assert hidden.sum() == round(0.3 * 8)
        assert masked.targets.tolist() == [place for place in TARGETS if hidden[place]]
        assert masked.regulators.tolist() == [place for place in REGULATORS if not hidden[place]]


def test_attention_cells_is_the_map_of_the_cell(tiny_model, cell):
    spec = tiny_model.attention
    want = torch.zeros(8, 8, dtype=torch.float64)
    for q, k, _, _ in recorded(tiny_model, cell.tokens):
        genes = [x[spec.n_prefix :].transpose(0, 1) for x in (q, k)]
        want += reference.attention(*genes, scale=spec.scale).mean(0) / spec.n_layers
    want = (want + want.T) / 2
    regulators, targets, scores = only(cell_maps.attention_cells(tiny_model, cell, ReadOutConfig()))
    assert regulators.tolist() == REGULATORS.tolist()
    assert targets.tolist() == TARGETS.tolist()
    np.testing.assert_allclose(scores, want[TARGETS][:, REGULATORS].T, atol=1e-6)


def test_value_norm_is_the_length_of_what_a_head_adds(tiny_model, cell):
    """Head by head, token by token: the vector that reaches the residual stream, from the weights of the module."""
    spec = tiny_model.attention
    want = np.zeros((len(REGULATORS), len(TARGETS)))
    for layer, (q, k, v, out) in enumerate(recorded(tiny_model, cell.tokens)):
        module = tiny_model.transformer.layers[layer].attention
        added = torch.zeros(len(q), spec.n_heads * spec.d_head, dtype=torch.float64)
        for head in range(spec.n_heads):
            weights = (spec.scale * q[:, head] @ k[:, head].T).softmax(-1)
            columns = slice(head * spec.d_head, (head + 1) * spec.d_head)
            vectors = v[:, head] @ module.out.weight[:, columns].double().T
            added += weights @ vectors
            for i, regulator in enumerate(REGULATORS):
                for j, target in enumerate(TARGETS):
                    place, source = target + spec.n_prefix, regulator + spec.n_prefix
                    vector = weights[place, source] * vectors[source]
                    want[i, j] += vector.norm().item() / (spec.n_heads * spec.n_layers)
        whole = out.flatten(1) @ module.out.weight.double().T  # the parts are really those of the module's output
        torch.testing.assert_close(added, whole, rtol=0, atol=1e-5)
    _, _, scores = only(cell_maps.value_norm(tiny_model, cell, ReadOutConfig()))
    np.testing.assert_allclose(scores, want, rtol=1e-4)


def test_gradient_of_the_attention_against_a_changed_attention(monkeypatch, tiny_model, cell):
    """∂ℓ/∂A by finite differences: attention is computed densely and one entry is moved."""
    from grnlab.nn import attention as module
    from grnlab.objectives.base import count_loss

    model, cell = double(tiny_model, cell)
    spec, config = model.attention, ReadOutConfig(mask_rate=0.4)
    (masked,) = cell.masks(config.mask_rate, 1)
    hidden = masked.tokens.hidden_BT.clone()
    hidden[0] = torch.isin(torch.arange(8), torch.from_numpy(masked.targets))
    moved = {}

    def dense(q, k, v, *, pad_BT=None, dropout=0.0, backend="sdpa"):
        weights = (torch.einsum("bihd,bjhd->bhij", q, k) * spec.scale).softmax(-1)
        number = moved["calls"]
        moved["calls"] += 1
        if number == moved.get("layer"):
            weights = weights.clone()
            weights[0, moved["head"], moved["row"], moved["column"]] += moved["by"]
        return torch.einsum("bhij,bjhd->bihd", weights, v)

    def likelihood(**where):
        moved.clear()
        moved.update(calls=0, **where)
        with torch.no_grad():
            distribution = model.decode(model.encode(masked.tokens), masked.tokens.values_BT.sum(-1))
            return -float(count_loss(distribution, masked.tokens, hidden)) * len(masked.targets)

    layers = recorded(model, masked.tokens)
    _, _, scores = only(cell_maps.attention_gradient(model, cell, config))
    monkeypatch.setattr(module, "attend", dense)
    target, regulator = masked.targets[0], masked.regulators[-1]
    want = 0.0
    for layer, (q, k, _, _) in enumerate(layers):
        for head in range(spec.n_heads):
            weights = (spec.scale * q[:, head] @ k[:, head].T).softmax(-1)
            row, column = target + spec.n_prefix, regulator + spec.n_prefix
            where = {"layer": layer, "head": head, "row": row, "column": column}
            slope = (likelihood(by=1e-3, **where) - likelihood(by=-1e-3, **where)) / 2e-3
            want += max(float(weights[row, column]) * slope, 0) / (spec.n_heads * spec.n_layers)
    assert want > 0
    np.testing.assert_allclose(scores[-1, 0], want, rtol=1e-3, atol=1e-9)


def brute_jacobian(model, masked):
    at = masked.cell.log_values_T
    return torch.autograd.functional.jacobian(lambda x: masked.predict(model, x[None])[0], at)[
        :, torch.from_numpy(masked.regulators)
    ].T.numpy()


@pytest.mark.parametrize("decoder", ["zinb", "nb", "mse"])
@pytest.mark.parametrize(
    ("derivative", "value_scale"),
    [("jvp", "log2"), ("jvp", "fraction"), ("difference", "log2")],  # fractions bend too much for float32 differences
)
def test_jacobian_is_that_of_autograd(make_model, cell, decoder, derivative, value_scale):
    model, cell = double(make_model(decoder=decoder, value_scale=value_scale), cell)
    config = ReadOutConfig(mask_rate=0.4, n_masks=3, derivative=derivative, step=2e-3, batch=3)
    blocks, masks = list(responses.jacobian(model, cell, config)), list(cell.masks(0.4, 3))
    assert len(blocks) == len(masks) > 1
    for (regulators, targets, scores), masked in zip(blocks, masks, strict=True):
        assert regulators.tolist() == masked.regulators.tolist()
        assert targets.tolist() == masked.targets.tolist()
        rounding = 1e-6 if derivative == "jvp" else 1e-3  # of the decoder, which is in float32, over the step
        np.testing.assert_allclose(scores, brute_jacobian(model, masked), rtol=1e-3, atol=rounding)


@pytest.mark.parametrize("decoder", ["zinb", "mse"])
def test_prediction_is_that_of_the_masked_objective(make_model, cell, decoder):
    """Counts are shares of a total: their logarithm is centred over the genes of the cell; log2(1 + count) is not."""
    model = make_model(decoder=decoder)
    (masked,) = cell.masks(0.4, 1)
    with torch.no_grad():
        predicted = model.decode(model.encode(masked.tokens), cell.tokens.values_BT.sum(-1))
        found = masked.predict(model, cell.log_values_T.expand(3, -1))
    want = predicted.log_mean_BT[0]
    if decoder == "zinb":
        share = predicted.mean_BT[0] / predicted.mean_BT[0].sum()
        want = share.log() - share.log().mean()
    torch.testing.assert_close(found, want[masked.targets].expand(3, -1), rtol=1e-4, atol=1e-4)


def test_the_count_of_a_hidden_gene_has_no_influence(tiny_model, cell):
    (masked,) = cell.masks(0.4, 1)
    other = cell.log_values_T.clone()
    other[masked.tokens.hidden_BT[0]] += 3.0
    with torch.no_grad():
        first, second = (masked.predict(tiny_model, x[None]) for x in (cell.log_values_T, other))
    assert torch.equal(first, second)


def test_perturbation_is_the_slope_of_the_response_curve(tiny_model, cell):
    model, cell = double(tiny_model, cell)
    curves = {gene: np.array([0.0, 1.0, 4.0 + gene]) for gene in range(8)}
    config = ReadOutConfig(mask_rate=0.4, batch=2)
    regulators, targets, scores = only(responses.perturbation(model, cell, config, levels=curves.get))
    (masked,) = cell.masks(0.4, 1)
    assert targets.tolist() == masked.targets.tolist()
    for i, place in enumerate(regulators):
        responses_at = []
        for count in curves[place]:
            changed = cell.log_values_T.clone()
            changed[place] = np.log2(1 + count)
            with torch.no_grad():
                responses_at.append(masked.predict(model, changed[None])[0].numpy())
        want = np.polyfit(np.log2(1 + curves[place]), np.array(responses_at), 1)[0]
        np.testing.assert_allclose(scores[i], want, rtol=1e-6, atol=1e-9)


def test_integrated_gradients_are_complete(tiny_model, cell):
    """Attributions of all visible genes add up to the difference of the predictions at both ends of the path."""
    pytest.importorskip("captum")
    model, cell = double(tiny_model, cell)
    cell = replace(cell, regulators=np.arange(8))
    config = ReadOutConfig(mask_rate=0.4, n_steps=400, batch=2)
    regulators, targets, scores = only(responses.integrated_gradients(model, cell, config))
    (masked,) = cell.masks(0.4, 1)
    assert targets.tolist() == masked.targets.tolist()
    with torch.no_grad():
        ends = masked.predict(model, torch.stack([torch.zeros_like(cell.log_values_T), cell.log_values_T])).numpy()
    assert np.abs(ends[1] - ends[0]).max() > 0.05
    np.testing.assert_allclose(scores.sum(axis=0), ends[1] - ends[0], atol=5e-3)
    silent = cell.tokens.values_BT[0].numpy()[regulators] == 0
    np.testing.assert_allclose(scores[silent], 0, atol=1e-12)  # the path does not move them


def test_cosine_of_embeddings(human_model, make_cells):
    from grnlab.attention import read_out

    found = read_out(make_cells(), human_model, "cosine", genes="all", regulators="all", min_fraction=0)
    weight = human_model.gene_embedding.weight.detach().double().numpy()[found.genes["token"]]
    unit = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    want, got = unit @ unit.T, found.group("all")
    seen = ~np.isnan(got)
    assert seen.sum() > 100
    np.testing.assert_allclose(got[seen], want[seen], atol=1e-6)


def test_centred_cosine_and_consensus(human_model, make_cells):
    from scipy.stats import rankdata

    from grnlab.attention import read_out

    options = {"genes": "all", "regulators": "all", "min_fraction": 0}
    attention, cosine, centred, consensus = (
        read_out(make_cells(), human_model, method, **options).group("all")
        for method in ("attention", "cosine", "cosine_centred", "consensus")
    )
    scored = np.flatnonzero(~np.isnan(cosine).all(axis=1))
    inner = cosine[np.ix_(scored, scored)].astype(np.float64)
    np.fill_diagonal(inner, 1.0)
    want = inner - inner.mean(axis=0) - inner.mean(axis=1)[:, None] + inner.mean()
    got = centred[np.ix_(scored, scored)]
    apart = ~np.eye(len(scored), dtype=bool)
    np.testing.assert_allclose(got[apart], want[apart], atol=1e-5)

    seen = ~np.isnan(consensus)
    assert (seen == ~(np.isnan(attention) | np.isnan(centred))).all()
    ranks = [rankdata(scores[seen]) for scores in (attention, centred)]
    want = (np.mean(ranks, axis=0) - 1) / (seen.sum() - 1)
    np.testing.assert_allclose(consensus[seen], want, atol=1e-6)
