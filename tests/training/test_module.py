from dataclasses import dataclass

import pytest
import torch
from torch import nn

from grnlab.backbones import Encoded
from grnlab.objectives import build_objectives
from grnlab.training.batches import Batch, seeded

TASKS = ("denoise", {"name": "mask", "weight": 2.0}, "mvc", "classify")


@pytest.fixture
def make_module(tiny_model):
    from grnlab.training.module import PretrainModule

    def make(model=tiny_model, *, objectives=TASKS, **options):
        tasks = build_objectives(objectives) if isinstance(objectives[0], str) else objectives
        return PretrainModule(model, tasks, **({"lr": 0.1, "weight_decay": 0.5, "seed": 0} | options))

    return make


def corrupted(module, target, number=1):
    generator, seen = seeded(0, number), target
    for objective in module.losses.objectives:
        seen = objective.corrupt(seen, generator=generator)
    return Batch(number, None, target, seen)


@torch.no_grad()
def test_losses_are_weighted(make_module, make_tokens):
    module = make_module()
    batch = corrupted(module, make_tokens((9, 4, 7)))
    got = module.losses(batch.seen, batch.target)
    encoded = module.model.encode(batch.seen)
    for loss, weight, objective in zip(got, (1, 2, 1, 1), module.losses.objectives, strict=True):
        expected = weight * objective.loss(module.model, encoded, seen=batch.seen, target=batch.target)
        torch.testing.assert_close(loss, expected)
    assert module.losses.names == ["denoise", "mask", "mvc", "classify"]


def test_a_step_notes_its_losses(make_module, make_tokens):
    module = make_module()
    batch = corrupted(module, make_tokens(), number=7)
    total = module.training_step(batch, 0)
    [(number, losses)] = module.recent
    assert number == 7
    assert not losses.requires_grad
    torch.testing.assert_close(total, losses.sum())
    total.backward()


def test_a_step_does_not_depend_on_the_global_generator(make_model, make_module, make_tokens):
    module = make_module(make_model(dropout=0.5, drop_path=0.5).train())
    batch, losses = corrupted(module, make_tokens()), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.append(module.training_step(batch, 0).item())
    assert losses[0] == losses[1]
    assert module.training_step(batch._replace(number=2), 0).item() != losses[0]


def test_decay_of_matrices_only(make_module):
    module = make_module()
    decayed, free = module.configure_optimizers().param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0.0)
    names = {id(weight): name for name, weight in module.model.named_parameters()}
    assert len(decayed["params"]) + len(free["params"]) == len(names)
    decayed, free = ({names[id(weight)] for weight in group["params"]} for group in (decayed, free))
    assert not decayed & free
    assert "transformer.blocks.0.attention.qkv.weight" in decayed
    assert {"gene_embedding.weight", "special", "value_encoder.hidden", "transformer.norm.weight"} <= free
    assert {"transformer.blocks.0.attention.qkv.bias", "value_encoder.mlp.1.weight"} <= free


def test_frozen_weights_are_not_trained(make_module, tiny_model):
    tiny_model.gene_embedding.weight.requires_grad_(False)
    groups = make_module().configure_optimizers().param_groups
    assert not any(tiny_model.gene_embedding.weight is weight for group in groups for weight in group["params"])


@dataclass(frozen=True)
class Total:
    """Task of a backbone that is nothing like scPRINT: predict the total counts."""

    weight: float = 3.0

    def corrupt(self, tokens, *, generator):
        return tokens

    def loss(self, model, encoded, *, seen, target):
        return (model.total(encoded) - target.totals_B.log()).square().mean()


class Other(nn.Module):
    """Backbone with no more than training needs."""

    def __init__(self):
        super().__init__()
        self.genes, self.out = nn.Embedding(30, 4), nn.Linear(4, 1)

    def encode(self, tokens):
        x_BTM = self.genes(tokens.genes_BT)
        return Encoded(x_BTM, x_BTM.mean(1), {}, x_BTM)

    def total(self, encoded):
        return self.out(encoded.cell_BM).squeeze(-1)


def test_any_backbone_can_be_trained(make_module, make_tokens):
    module = make_module(Other(), objectives=[Total()])
    optimizer, batch = module.configure_optimizers(), corrupted(module, make_tokens())
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert module.losses.names == ["total"]
