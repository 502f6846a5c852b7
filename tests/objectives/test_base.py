import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import expit, gammaln

from grnlab.data.tokens import CellTokens
from grnlab.nn import CountDistribution
from grnlab.objectives import (
    REGISTRY,
    Bottleneck,
    Classify,
    Contrast,
    Denoise,
    DiscreteNoise,
    Mask,
    MaskBins,
    MaskValues,
    Mvc,
    ReadDepth,
    build_objectives,
    check_objectives,
    count_loss,
    masked_mean,
)
from grnlab.objectives.base import uniform


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
    specs = ["denoise", {"name": "mask", "rate": 0.1, "weight": 2.0}, "mvc", "classify", "bottleneck", "contrast"]
    expected = [Denoise(), Mask(0.1, 2.0), Mvc(), Classify(), Bottleneck(), Contrast()]
    assert build_objectives(specs) == expected
    assert specs[1] == {"name": "mask", "rate": 0.1, "weight": 2.0}
    assert {type(objective) for objective in expected} <= set(REGISTRY.values())
    assert build_objectives([]) == []


def test_weight_0_switches_off():
    assert build_objectives(["mask", {"name": "denoise", "weight": 0}]) == [Mask()]
    for weight in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"'mask' has weight={weight}"):
            build_objectives([{"name": "mask", "weight": weight}])


def test_listed_twice():
    with pytest.raises(ValueError, match="'mask' is listed twice"):
        build_objectives(["mask", {"name": "mask", "rate": 0.5}])


@pytest.mark.parametrize("spec", ["contrastive", {"name": "contrastive"}, {"rate": 0.1}])
def test_unknown_objective(spec):
    with pytest.raises(ValueError, match=r"is unknown; choose among \['bottleneck', 'classify', 'contrast', 'denoise'"):
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


def test_masked_mean():
    values = torch.tensor([[1.0, 5.0], [torch.inf, 4.0]], requires_grad=True)
    mean = masked_mean(values, torch.tensor([[True, False], [False, True]]))
    mean.backward()
    assert mean.item() == 2.5
    assert values.grad.tolist() == [[0.5, 0.0], [0.0, 0.5]]
    assert masked_mean(values, torch.zeros(2, 2, dtype=torch.bool)).item() == 0.0


_TWO_PROCESSES = """
import sys, torch, torch.distributed as dist
from grnlab.objectives import masked_mean
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
values = torch.arange(6.0).reshape(2, 3)[rank].square().requires_grad_()
where = torch.tensor([[True, True, True], [False, False, True]])[rank]
masked_mean(values, where).backward()
with torch.no_grad():
    alone = masked_mean(values, where) if rank == 1 else None  # a process that validates one batch more
print(*values.grad.tolist(), alone)
"""


def test_means_of_two_processes_average_to_the_mean_over_all_places(tmp_path):
    """Three places here, one there: a quarter each, after the average over the two processes."""
    command = [sys.executable, "-c", _TWO_PROCESSES]
    runs = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    first, second = (run.communicate(timeout=60)[0].split() for run in runs)
    assert [float(x) / 2 for x in first[:3]] == [0.25, 0.25, 0.25]
    assert [float(x) / 2 for x in second[:3]] == [0.0, 0.0, 0.25]
    assert second[3] == "tensor(25.)"


def test_draws_come_from_the_generator():
    like = torch.empty(3, 4, dtype=torch.float64)
    one, same = (uniform(like, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.shape == (3, 4)
    assert torch.equal(one, same)


def zinb_float64(x, log_mean, log_theta, zero_logit=None):
    x, log_mean, log_theta = (np.asarray(a, dtype=np.float64) for a in (x, log_mean, log_theta))
    theta, log_sum = np.exp(log_theta), np.logaddexp(log_mean, log_theta)
    log_nb = gammaln(x + theta) - gammaln(theta) - gammaln(x + 1) + theta * (log_theta - log_sum)
    log_nb = log_nb + x * (log_mean - log_sum)
    if zero_logit is None:
        return -log_nb
    share = expit(np.asarray(zero_logit, dtype=np.float64))
    return np.where(x == 0, -np.log(share + (1 - share) * np.exp(log_nb)), -np.log1p(-share) - log_nb)


EXTREME = torch.tensor([[0.0, 1.0, 60_000.0, 3e6, 0.0, 2.0, 7.0, 0.0, 1.0]] * 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["zinb", "nb", "mse"])
def test_half_precision_with_extreme_counts(make_model, make_tokens, dtype, kind):
    """Every task, on counts that half precision cannot hold: all is finite, and the loss as exact as its inputs."""
    model = make_model(decoder=kind).train()
    tokens = dataclasses.replace(make_tokens(), values_BT=EXTREME, totals_B=EXTREME.sum(-1) * 2)
    objectives = build_objectives(["bottleneck", "classify", "contrast", "denoise", "dropout_contrast", "mask", "mvc"])
    seen, generator = tokens, torch.Generator().manual_seed(0)
    for objective in objectives:
        seen = objective.corrupt(seen, generator=generator)
    with torch.autocast("cpu", dtype=dtype):
        encoded = model.encode(seen)
        losses = [objective.loss(model, encoded, seen=seen, target=tokens) for objective in objectives]
        decoded = model.decode(encoded, tokens.values_BT.sum(-1))
        got = count_loss(decoded, tokens, tokens.real_BT)
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in losses)
    torch.stack(losses).sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters())
    log_mean = decoded.log_mean_BT.detach()
    if kind == "mse":
        expected = (log_mean.double() - torch.log2(1 + EXTREME.double())).square().numpy()
    else:
        rest = [x.detach() for x in (decoded.log_theta_BT, decoded.zero_logit_BT) if x is not None]
        expected = zinb_float64(EXTREME, log_mean, *rest)
    assert got.item() == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("log_theta", [-15.0, 0.0, 15.0])
@pytest.mark.parametrize("log_mean", [-80.0, 0.0, 15.0])
@pytest.mark.parametrize("zero_logit", [None, -60.0, 0.0, 60.0])
def test_likelihood_at_the_ends_of_its_parameters(log_theta, log_mean, zero_logit):
    counts = EXTREME[:1, :4]
    parameters = [
        None if value is None else torch.full((1, 4), value, requires_grad=True)
        for value in (log_mean, log_theta, zero_logit)
    ]
    target = CellTokens(torch.zeros(1, 4, dtype=torch.int64), counts, counts.sum(-1))
    everywhere = torch.ones(1, 4, dtype=torch.bool)
    loss = count_loss(CountDistribution("nb" if zero_logit is None else "zinb", *parameters), target, everywhere)
    loss.backward()
    assert all(torch.isfinite(x.grad).all() for x in parameters if x is not None)
    if zero_logit is None or zero_logit < 50:  # 1 - expit(60) is 0 in float64 already
        expected = zinb_float64(counts, *(x.detach() for x in parameters if x is not None))
        assert loss.item() == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("later", [Mask(rate=0.3), MaskBins(), MaskValues(rate=0.3), ReadDepth()])
def test_what_one_task_has_hidden_no_other_shows(make_tokens, later):
    """Or the model would be asked for a count that it sees."""
    tokens = make_tokens((9, 4, 7), hidden=True)
    seen = later.corrupt(tokens, generator=torch.Generator().manual_seed(0))
    assert seen.hidden_BT[tokens.hidden_BT].all()
    assert (seen.hidden_BT & ~tokens.hidden_BT).any()
    assert not (seen.hidden_BT & tokens.pad_BT).any()


def test_tasks_that_hide_equally_many_genes_come_alone(make_tokens):
    tokens = make_tokens((9, 9, 9), hidden=True)
    with pytest.raises(ValueError, match="give it its own run"):
        DiscreteNoise().corrupt(tokens, generator=torch.Generator())


def test_predictions_of_some_genes_only(target):
    some = CountDistribution("mse", torch.zeros(len(target), 1))
    with pytest.raises(ValueError, match="only some genes asked for"):
        count_loss(some, target, target.real_BT)


def test_tasks_a_model_lacks_the_methods_for(tiny_model):
    check_objectives(build_objectives(["denoise", "mask", "bottleneck", "mvc", "classify", "contrast"]), tiny_model)
    with pytest.raises(ValueError, match=r"'tiny' cannot be trained on 'mask_bins': a ScPrint has no decode_bins and"):
        check_objectives([MaskBins()], tiny_model)
