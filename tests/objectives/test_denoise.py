import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import nbinom, poisson

from grnlab.data.tokens import CellTokens
from grnlab.objectives import Denoise


def constant(count, n_cells=400, n_tokens=100):
    values = torch.full((n_cells, n_tokens), float(count))
    return CellTokens(torch.zeros(n_cells, n_tokens, dtype=torch.int64), values, torch.full((n_cells,), 5_000.0))


def corrupt(objective, tokens, seed=0):
    return objective.corrupt(tokens, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rate", [0.3, 0.6])
def test_two_halves_of_the_loss(rate):
    """A share of the genes vanishes; the rest loses a Poisson number of counts with the same mean share."""
    share = rate * 0.55
    seen = corrupt(Denoise(rate=rate), constant(200)).values_BT.numpy().ravel()
    assert (seen == 0).mean() == pytest.approx(share, abs=0.01)
    lost = 200 - seen[seen > 0]
    assert lost.mean() == pytest.approx(200 * share, rel=0.01)
    assert lost.var() == pytest.approx(200 * share, rel=0.03)
    assert seen.mean() / 200 == pytest.approx((1 - share) ** 2, abs=0.01)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_small_counts_follow_the_formula(count):
    """E max((x - p) · π, 0) with p ~ Poisson(x · share), π = 1 with probability 1 - share."""
    share = 0.6 * 0.55
    seen = corrupt(Denoise(), constant(count)).values_BT.numpy().ravel()
    lost = np.arange(count + 1)
    expected = (1 - share) * ((count - lost) * poisson.pmf(lost, count * share)).sum()
    assert seen.mean() == pytest.approx(expected, rel=0.02)
    assert set(np.unique(seen)) <= set(range(count + 1))


def test_rate_and_factor_set_the_share():
    assert torch.equal(corrupt(Denoise(rate=0.0), constant(7)).values_BT, constant(7).values_BT)
    one = corrupt(Denoise(rate=0.4, factor=0.5), constant(7)).values_BT
    assert torch.equal(one, corrupt(Denoise(rate=0.5, factor=0.4), constant(7)).values_BT)


def test_totals_are_those_to_be_restored(make_tokens):
    tokens = make_tokens((9, 4, 7))
    assert corrupt(Denoise(), tokens).totals_B is tokens.totals_B
    assert corrupt(Denoise(), constant(0, 2, 3)).values_BT.sum() == 0


class Drawn:
    """A generator stands for its draws: Poisson and uniform numbers, in that order."""

    device = torch.device("cpu")


def test_formula_by_hand(monkeypatch):
    """x' = max((x - p) · π, 0) for p = (1, 5, 2, 0), u = (0.331, 0.9, 0.329, 0.5) and the share 0.6 · 0.55 = 0.33."""
    rates = []
    monkeypatch.setattr(torch, "poisson", lambda x, generator: rates.append(x) or torch.tensor([[1.0, 5.0, 2.0, 0.0]]))
    draws = torch.tensor([[0.331, 0.9, 0.329, 0.5]])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: draws)
    tokens = CellTokens(torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[4.0, 3.0, 9.0, 6.0]]), torch.tensor([9.0]))
    assert Denoise().corrupt(tokens, generator=Drawn()).values_BT.tolist() == [[3.0, 0.0, 0.0, 6.0]]
    torch.testing.assert_close(rates[0], 0.33 * tokens.values_BT)


@pytest.mark.parametrize("name", ["rate", "factor"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_shares_lie_between_0_and_1(name, value):
    with pytest.raises(ValueError, match=f"{name}=.* must lie between 0 and 1"):
        Denoise(**{name: value})


def test_pure_and_reproducible(make_tokens):
    tokens = make_tokens((9, 4, 7), hidden=True)
    values, totals = tokens.values_BT.clone(), tokens.totals_B.clone()
    state = torch.random.get_rng_state()
    first, same, other = (corrupt(Denoise(), tokens, seed).values_BT for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(tokens.values_BT, values)
    assert torch.equal(tokens.totals_B, totals)
    assert torch.equal(torch.random.get_rng_state(), state)
    seen = corrupt(Denoise(), tokens)
    assert seen.genes_BT is tokens.genes_BT
    assert seen.hidden_BT is tokens.hidden_BT
    assert seen.labels is tokens.labels
    assert seen.values_BT[tokens.pad_BT].abs().max() == 0


@pytest.mark.parametrize("hidden", [False, True])
@torch.no_grad()
def test_loss_is_the_likelihood_of_the_true_counts_of_the_genes_seen(make_model, make_tokens, hidden):
    model, tokens = make_model(decoder="nb"), make_tokens((9, 4, 7), hidden=hidden)
    seen = corrupt(Denoise(), tokens)
    encoded = model.encode(seen)
    got = Denoise(weight=7.0).loss(model, encoded, seen=seen, target=tokens)
    decoded = model.decode(encoded, tokens.values_BT.sum(-1))
    mean, theta = decoded.mean_BT.double().numpy(), decoded.log_theta_BT.double().exp().numpy()
    nll = -nbinom.logpmf(tokens.values_BT.numpy(), theta, theta / (theta + mean))
    where = ~tokens.pad_BT.numpy()
    if hidden:
        where &= ~tokens.hidden_BT.numpy()
    assert got.item() == pytest.approx(nll[where].mean(), rel=1e-5)
    totals = np.where(tokens.pad_BT, 0, mean).sum(-1)
    np.testing.assert_allclose(totals, tokens.values_BT.sum(-1), rtol=1e-5)


@torch.no_grad()
def test_all_hidden_gives_zero(tiny_model, make_tokens):
    tokens = make_tokens()
    seen = dataclasses.replace(tokens, hidden_BT=torch.ones_like(tokens.real_BT))
    assert Denoise().loss(tiny_model, tiny_model.encode(seen), seen=seen, target=tokens).item() == 0.0
