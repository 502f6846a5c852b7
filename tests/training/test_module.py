import logging
import time
import warnings
from types import SimpleNamespace

import pytest
import torch

from grnlab.objectives import build_objectives
from grnlab.training.batches import seeded


@pytest.fixture
def make_module(tiny_model):
    from grnlab.training.module import PretrainModule

    def make(**options):
        options = {
            "lr": 0.1, "weight_decay": 0.5, "warmup": 4, "max_steps": 10, "max_minutes": None, "seed": 0
        } | options  # fmt: skip
        names = options.pop("objectives", ["denoise", {"name": "mask", "weight": 2.0}, "mvc", "classify"])
        return PretrainModule(tiny_model, build_objectives(names), **options)

    return make


@torch.no_grad()
def test_losses_are_weighted_and_corruptions_chained(make_module, make_tokens):
    tokens, module = make_tokens((9, 4, 7)), make_module()
    got = module.losses(tokens, generator=seeded(0, 1))
    generator, seen = seeded(0, 1), tokens
    for objective in module.objectives:
        seen = objective.corrupt(seen, generator=generator)
    encoded = module.model.encode(seen)
    for name, weight, objective in zip(got, (1, 2, 1, 1), module.objectives, strict=True):
        expected = weight * objective.loss(module.model, encoded, seen=seen, target=tokens)
        torch.testing.assert_close(got[name], expected)
    assert list(got) == ["denoise", "mask", "mvc", "classify"]
    assert seen.hidden_BT.any()


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


def fit(module, tokens, **options):
    import lightning as L

    rates = []

    class Rates(L.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            rates.append([group["lr"] for group in optimizer.param_groups])

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            while True:
                yield tokens

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore")
        trainer = L.Trainer(
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            accelerator="cpu", devices=1, callbacks=[Rates()], max_steps=module.max_steps, **options,
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader(Endless(), batch_size=None))
    return trainer, rates


def test_the_rate_rises_then_falls_to_zero(make_module, make_tokens):
    module = make_module()
    _, rates = fit(module, make_tokens())
    expected = [0.1 * min((step + 1) / 4, 1) * (1 - step / 10) for step in range(10)]
    assert [rate for rate, _ in rates] == pytest.approx(expected)
    assert all(first == second for first, second in rates)
    assert module.cells_seen == 30


def test_progress_is_the_larger_of_steps_and_minutes(make_module, monkeypatch):
    module = make_module(max_minutes=2.0)
    module._trainer = SimpleNamespace(global_step=3)
    monkeypatch.setattr(type(module), "global_step", property(lambda self: 3))
    monkeypatch.setattr(time, "monotonic", lambda: module.started + 12)
    assert module.progress() == pytest.approx(0.3)
    monkeypatch.setattr(time, "monotonic", lambda: module.started + 60)
    assert module.progress() == pytest.approx(0.5)
    monkeypatch.setattr(time, "monotonic", lambda: module.started + 600)
    assert module.progress() == 1.0


def test_the_clock_ends_the_run(make_module, make_tokens):
    trainer, rates = fit(make_module(max_steps=1_000_000, max_minutes=1e-7), make_tokens())
    assert trainer.global_step <= 2
    assert rates[-1] == [0.0, 0.0]


def test_corruption_depends_on_seed_and_step(make_module, make_tokens):
    tokens, module = make_tokens(), make_module()
    one, same, other = (module.losses(tokens, generator=seeded(0, step))["mask"].item() for step in (1, 1, 2))
    assert one == same
    assert one != other


def test_training_loss_does_not_depend_on_the_global_generator(make_module, make_tokens, monkeypatch):
    module = make_module()
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.append(module.training_step(make_tokens(), 0).item())
    assert losses[0] == losses[1]
