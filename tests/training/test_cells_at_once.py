"""Activations held a few cells at a time: the losses and gradients of the parts of a batch, and less memory."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from grnlab.backbones import CellLM, CellLMConfig
from grnlab.data import CellTokens
from grnlab.objectives import DropoutContrast, build_objectives
from grnlab.objectives.divide import split_cells
from grnlab.training.module import WeightedLosses

TASKS = [{"name": "dropout_contrast", "at_once": 4, "weight": 0.5}, "mask_bins", "classify"]


@pytest.fixture
def batch(tiny_vocab, make_tokens):
    torch.manual_seed(0)
    config = CellLMConfig(
        n_layers=2, d_model=16, n_heads=2, n_features=6, dropout=0.3, classes={"cell_type": ("a", "b", "c")}
    )
    model, target = CellLM(tiny_vocab, config).train(), make_tokens((9,) * 10)
    objectives, generator = build_objectives(TASKS), torch.Generator().manual_seed(0)
    seen = target
    for objective in objectives:
        seen = objective.corrupt(seen, generator=generator)
    return model, objectives, seen, target


def run(model, losses_of):
    held = {}

    def keep(x):
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    torch.manual_seed(1)
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        losses = losses_of()
    losses.sum().backward()
    return losses.detach(), {n: x.grad for n, x in model.named_parameters() if x.grad is not None}, sum(held.values())


def test_losses_of_parts_are_averaged_and_those_across_cells_are_whole(batch):
    model, objectives, seen, target = batch
    contrast, *within = objectives

    def by_hand():
        parts = list(zip(split_cells(seen, 4), split_cells(target, 4), strict=True))
        rows = []
        for some, true in parts:
            encoded = model.encode(some)
            rows.append(torch.stack([x.loss(model, encoded, seen=some, target=true) for x in within]) * len(some) / 10)
        whole = contrast.weight * contrast.loss(model, None, seen=seen, target=target)
        return torch.cat([whole[None], torch.stack(rows).sum(0)])

    losses, gradients, held = run(model, lambda: WeightedLosses(model, objectives, at_once=4)(seen, target))
    expected, end_to_end, all_held = run(model, by_hand)
    torch.testing.assert_close(losses, expected)
    assert gradients.keys() == end_to_end.keys()
    for name, gradient in end_to_end.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6)
    assert held < all_held / 3


def test_validation_and_small_batches_are_one_part(batch):
    model, objectives, seen, target = batch
    model.eval()
    with torch.no_grad():
        whole, parts = (WeightedLosses(model, objectives, at_once=n)(seen, target) for n in (None, 4))
    assert torch.equal(whole, parts)
    small = WeightedLosses(model.train(), objectives, at_once=10)
    torch.manual_seed(0)
    first = small(seen, target)
    torch.manual_seed(0)
    assert torch.equal(WeightedLosses(model, objectives)(seen, target), first)


def test_tasks_across_cells_alone(batch):
    model, _, seen, target = batch
    task = DropoutContrast(at_once=3)
    alone, _, held = run(model, lambda: WeightedLosses(model, [task], at_once=4)(seen, target))
    torch.manual_seed(1)
    assert alone.item() == pytest.approx(task.loss(model, None, seen=seen, target=target).item())
    assert held < run(model, lambda: WeightedLosses(model, [task])(seen, target))[2] / 2


def test_fields_of_other_tokens_are_cut_too(make_tokens):
    @dataclass(frozen=True)
    class Deep(CellTokens):
        asked_B: torch.Tensor | None = None

    cells = make_tokens((9, 4, 7, 3, 2))
    deep = Deep(cells.genes_BT, cells.values_BT, cells.totals_B, cells.pad_BT, None, cells.labels, torch.arange(5))
    parts = split_cells(deep, 2)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert [part.asked_B.tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert torch.equal(torch.cat([part.labels["sex"] for part in parts]), cells.labels["sex"])
    assert torch.equal(torch.cat([part.pad_BT for part in parts]), cells.pad_BT)


def test_a_run(short_run):
    model = short_run(cells_at_once=3, max_steps=2)
    assert model.provenance["settings"]["cells_at_once"] == 3
    assert np.isfinite(list(model.provenance["loss_curve"][-1].values())).all()
    with pytest.raises(ValueError, match="cells_at_once=0 must be above 0"):
        short_run(cells_at_once=0)
