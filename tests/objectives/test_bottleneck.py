import dataclasses

import pytest
import torch
from scipy.stats import nbinom

from grnlab.objectives import Bottleneck, Denoise


@pytest.fixture
def tokens(make_tokens):
    return make_tokens((9, 4, 7))


def test_loss_is_the_likelihood_after_a_second_pass_by_hand(make_model, tokens):
    """[depth, emb, emb of classes, gene + pos ...] through the same layers and decoder."""
    model = make_model(decoder="nb")
    seen = Denoise().corrupt(tokens, generator=torch.Generator().manual_seed(0))
    seen = dataclasses.replace(seen, totals_B=seen.totals_B / 2)  # the second pass is told the total to be made
    with torch.no_grad():
        encoded = model.encode(seen)
        got = Bottleneck(weight=7.0).loss(model, encoded, seen=seen, target=tokens)
        gene = model.gene_embedding.weight[tokens.genes_BT] + model.position(tokens.genes_BT)
        depth = model.depth_encoder(tokens.totals_B)
        special = torch.stack([depth, encoded.cell_BM, encoded.classes_BM["cell_type"], encoded.classes_BM["sex"]], 1)
        pad = torch.cat([torch.zeros(3, 4, dtype=torch.bool), tokens.pad_BT], dim=1)
        x = model.transformer(torch.cat([special, gene], dim=1), pad_BT=pad)[:, 4:]
        decoded = model.expression_decoder(x, tokens.values_BT.sum(-1), pad_BT=tokens.pad_BT)
    mean, theta = decoded.mean_BT.double().numpy(), decoded.log_theta_BT.double().exp().numpy()
    nll = -nbinom.logpmf(tokens.values_BT.numpy(), theta, theta / (theta + mean))
    assert got.item() == pytest.approx(nll[~tokens.pad_BT.numpy()].mean(), rel=1e-5)


@torch.no_grad()
def test_counts_reach_it_through_the_embeddings_alone(tiny_model, tokens):
    encoded = tiny_model.encode(tokens)
    again = tiny_model.regenerate(encoded, tokens)
    blind = dataclasses.replace(tokens, values_BT=torch.full_like(tokens.values_BT, torch.nan))
    nan = torch.full_like(encoded.genes_BTM, torch.nan)
    unseen = tiny_model.regenerate(dataclasses.replace(encoded, genes_BTM=nan, input_BTM=nan), blind)
    assert torch.equal(unseen.genes_BTM[~tokens.pad_BT], again.genes_BTM[~tokens.pad_BT])
    for change in ({"cell_BM": -encoded.cell_BM}, {"classes_BM": encoded.classes_BM | {"sex": encoded.cell_BM}}):
        changed = tiny_model.regenerate(dataclasses.replace(encoded, **change), tokens)
        assert not torch.allclose(changed.genes_BTM, again.genes_BTM, atol=1e-3)
    more = tiny_model.regenerate(encoded, dataclasses.replace(tokens, totals_B=tokens.totals_B * 10))
    assert not torch.allclose(more.genes_BTM, again.genes_BTM, atol=1e-3)


@torch.no_grad()
def test_other_genes_than_those_encoded_can_be_made(tiny_model, make_tokens):
    encoded, other = tiny_model.encode(make_tokens()), make_tokens((5, 5, 5), seed=1)
    again = tiny_model.regenerate(encoded, other)
    assert again.genes_BTM.shape == (3, 5, 16)
    assert list(again.classes_BM) == ["cell_type", "sex"]
    torch.testing.assert_close(again.input_BTM, tiny_model.gene_embedding.weight[other.genes_BT])


def test_gradient_runs_through_both_passes(tiny_model, tokens):
    encoded = tiny_model.encode(tokens)
    Bottleneck().loss(tiny_model, encoded, seen=tokens, target=tokens).backward()
    for weight in (tiny_model.value_encoder.mlp[0].weight, tiny_model.special):
        assert weight.grad.abs().max() > 0  # the first pass alone reads these
    assert Bottleneck().corrupt(tokens, generator=torch.Generator()) is tokens
