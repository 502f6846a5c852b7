import pytest
import torch
from scipy.stats import nbinom

from grnlab.data.tokens import CellTokens
from grnlab.objectives import Mask


def corrupt(objective, tokens, seed=0):
    return objective.corrupt(tokens, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rate", [0.0, 0.15, 0.5, 1.0])
def test_rate(rate):
    shape = (300, 100)
    tokens = CellTokens(torch.zeros(shape, dtype=torch.int64), torch.ones(shape), torch.ones(300))
    hidden = corrupt(Mask(rate=rate), tokens).hidden_BT.float()
    assert hidden.mean().item() == pytest.approx(rate, abs=0.01)
    if 0 < rate < 1:
        assert hidden.mean(1).std() > 0.01  # a draw per gene, not a fixed number


def test_padding_is_not_hidden(make_tokens):
    tokens = make_tokens((9, 4, 7))
    assert torch.equal(corrupt(Mask(rate=1.0), tokens).hidden_BT, ~tokens.pad_BT)


def test_pure_and_reproducible(make_tokens):
    tokens = make_tokens((9, 4, 7))
    state = torch.random.get_rng_state()
    first, same, other = (corrupt(Mask(), tokens, seed) for seed in (1, 1, 2))
    assert torch.equal(first.hidden_BT, same.hidden_BT)
    assert not torch.equal(first.hidden_BT, other.hidden_BT)
    assert tokens.hidden_BT is None
    assert first.values_BT is tokens.values_BT
    assert first.totals_B is tokens.totals_B
    assert torch.equal(torch.random.get_rng_state(), state)


@torch.no_grad()
def test_loss_is_the_likelihood_of_hidden_counts_only(make_model, make_tokens):
    model, tokens = make_model(decoder="nb"), make_tokens((9, 4, 7))
    seen = corrupt(Mask(rate=0.4), tokens)
    encoded = model.encode(seen)
    decoded = model.decode(encoded, tokens.values_BT.sum(-1))
    mean, theta = decoded.mean_BT.double().numpy(), decoded.log_theta_BT.double().exp().numpy()
    nll = -nbinom.logpmf(tokens.values_BT.numpy(), theta, theta / (theta + mean))
    got = Mask(rate=0.4).loss(model, encoded, seen=seen, target=tokens)
    assert got.item() == pytest.approx(nll[seen.hidden_BT.numpy()].mean(), rel=1e-5)


@torch.no_grad()
def test_nothing_hidden(tiny_model, make_tokens):
    tokens = make_tokens()
    seen = corrupt(Mask(rate=0.0), tokens)
    assert Mask().loss(tiny_model, tiny_model.encode(seen), seen=seen, target=tokens).item() == 0.0
    with pytest.raises(ValueError, match=r"apply Mask\.corrupt"):
        Mask().loss(tiny_model, tiny_model.encode(tokens), seen=tokens, target=tokens)
