import pytest
import torch

from grnlab.data.tokens import CellTokens
from grnlab.nn import CountDistribution
from grnlab.objectives import REGISTRY, Classify, Denoise, Mask, Mvc, build_objectives, count_loss


@pytest.fixture
def target():
    return CellTokens(torch.tensor([[0, 1, 2]]), torch.tensor([[0.0, 3.0, 7.0]]), torch.tensor([10.0]))


def test_count_loss_of_mse(target):
    distribution = CountDistribution("mse", torch.tensor([[1.0, 2.0, 0.0]]))
    where = torch.tensor([[True, True, False]])
    assert count_loss(distribution, target, where).item() == pytest.approx(0.5)  # (1 - 0)² and (2 - 2)²


def test_count_loss_of_counts(target):
    """Mean 1 and theta 1 make a geometric distribution with p = 1/2; a zero logit of 0 halves it and adds 1/2 at 0."""
    zeros = torch.zeros(1, 3)
    geometric = torch.tensor([1.0, 4.0, 8.0]) * torch.log(torch.tensor(2.0))
    where = torch.tensor([[True, False, True]])
    got = count_loss(CountDistribution("nb", zeros, zeros), target, where)
    torch.testing.assert_close(got, geometric[[0, 2]].mean())
    got = count_loss(CountDistribution("zinb", zeros, zeros, zeros), target, where)
    torch.testing.assert_close(got, (-torch.log(torch.tensor(0.75)) + torch.log(torch.tensor(512.0))) / 2)


def test_places_that_do_not_count_pass_no_gradient(target):
    log_mean = torch.tensor([[0.0, 0.0, 90.0]], requires_grad=True)
    where = torch.tensor([[True, True, False]])
    count_loss(CountDistribution("nb", log_mean, torch.zeros(1, 3)), target, where).backward()
    assert torch.isfinite(log_mean.grad).all()
    assert log_mean.grad[0, 2] == 0
    none = count_loss(CountDistribution("nb", log_mean, torch.zeros(1, 3)), target, torch.zeros_like(where))
    assert none.item() == 0.0


def test_count_loss_without_dispersion(target):
    with pytest.raises(ValueError, match="'nb' needs log_theta_BT"):
        count_loss(CountDistribution("nb", torch.zeros(1, 3)), target, torch.ones(1, 3, dtype=torch.bool))


def test_build_objectives():
    specs = ["denoise", {"name": "mask", "rate": 0.1, "weight": 2.0}, "mvc", "classify"]
    assert build_objectives(specs) == [Denoise(), Mask(0.1, 2.0), Mvc(), Classify()]
    assert specs[1] == {"name": "mask", "rate": 0.1, "weight": 2.0}
    assert set(REGISTRY) == {"denoise", "mask", "mvc", "classify"}
    assert build_objectives([]) == []


@pytest.mark.parametrize("spec", ["contrast", {"name": "contrast"}, {"rate": 0.1}])
def test_unknown_objective(spec):
    with pytest.raises(ValueError, match=r"is unknown; choose among \['classify', 'denoise', 'mask', 'mvc'\]"):
        build_objectives([spec])


def test_unknown_parameter():
    with pytest.raises(TypeError, match="ratio"):
        build_objectives([{"name": "mask", "ratio": 0.1}])


@torch.no_grad()
def test_corruptions_compose(tiny_model, make_tokens):
    """Down-sampled, then hidden: each count is scored by one of the two tasks."""
    target, seen = make_tokens((9, 4, 7)), make_tokens((9, 4, 7))
    generator = torch.Generator().manual_seed(0)
    objectives = build_objectives(["denoise", "mask"])
    for objective in objectives:
        seen = objective.corrupt(seen, generator=generator)
    encoded = tiny_model.encode(seen)
    decoded = tiny_model.decode(encoded, target.values_BT.sum(-1))
    n_hidden, n_seen = seen.hidden_BT.sum(), (~seen.pad_BT & ~seen.hidden_BT).sum()
    denoise, mask = (objective.loss(tiny_model, encoded, seen=seen, target=target) for objective in objectives)
    both = count_loss(decoded, target, ~target.pad_BT)
    torch.testing.assert_close((denoise * n_seen + mask * n_hidden) / (n_seen + n_hidden), both)
