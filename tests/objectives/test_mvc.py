import dataclasses

import pytest
import torch
from scipy.stats import nbinom

from grnlab.objectives import Mvc


@torch.no_grad()
def test_loss_is_the_likelihood_of_all_genes_from_the_cell(make_model, make_tokens):
    model, tokens = make_model(decoder="nb"), make_tokens((9, 4, 7), hidden=True)
    encoded = model.encode(tokens)
    decoded = model.decode_from_cell(encoded, tokens.values_BT.sum(-1))
    mean, theta = decoded.mean_BT.double().numpy(), decoded.log_theta_BT.double().exp().numpy()
    nll = -nbinom.logpmf(tokens.values_BT.numpy(), theta, theta / (theta + mean))
    got = Mvc().loss(model, encoded, seen=tokens, target=tokens)
    assert got.item() == pytest.approx(nll[~tokens.pad_BT.numpy()].mean(), rel=1e-5)


@torch.no_grad()
def test_gene_tokens_play_no_part(tiny_model, make_tokens):
    tokens = make_tokens()
    encoded = tiny_model.encode(tokens)
    loss = Mvc().loss(tiny_model, encoded, seen=tokens, target=tokens)
    blind = dataclasses.replace(encoded, genes_BTM=torch.full_like(encoded.genes_BTM, torch.nan))
    assert torch.equal(Mvc().loss(tiny_model, blind, seen=tokens, target=tokens), loss)


def test_sees_all(make_tokens):
    tokens = make_tokens()
    assert Mvc().corrupt(tokens, generator=torch.Generator()) is tokens
