import importlib
import json
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from grnlab import objectives
from grnlab.backbones import ScPrintConfig, load_model
from grnlab.training import PretrainConfig, batches, pretrain
from grnlab.training.gene_vectors import coexpression_vectors


@dataclass(frozen=True)
class Poison:
    """Loss that is not finite from a given batch on: the one in which the model sees this total first."""

    total: float
    weight: float = 1.0

    def corrupt(self, tokens, *, generator):
        return tokens

    def loss(self, model, encoded, *, seen, target):
        return encoded.cell_BM.sum() * (torch.nan if (target.totals_B == self.total).any() else 0.0)


def test_the_loss_falls(short_run):
    model = short_run(max_steps=60, val_every=10, batch_size=16, lr=3e-3, n_tokens=30, warmup=5)
    curve = model.provenance["loss_curve"]
    assert [point["step"] for point in curve] == list(range(10, 61, 10))
    assert [point["cells"] for point in curve] == list(range(160, 961, 160))
    for name in ("train/denoise", "train/mask", "train/mvc", "val/denoise", "val/mask", "val/mvc", "val/loss"):
        assert curve[-1][name] < curve[0][name] - 0.05, name
    assert curve[-1]["val/loss"] == pytest.approx(
        sum(curve[-1][f"val/{name}"] for name in ("denoise", "mask", "mvc")), abs=1e-4
    )


def test_checkpoint_and_provenance(planted_cells, short_run, tmp_path):
    vocab, _ = planted_cells
    model = short_run(tmp_path / "model", objectives=("denoise", {"name": "mask", "rate": 0.2}), seed=5, accumulate=2)
    assert not model.training
    made = model.provenance
    assert made["data"] == {"datasets": {"one": 75, "two": 75}, "n_cells_train": 135, "n_cells_validation": 15}
    assert made["settings"]["seed"] == 5
    assert made["settings"]["objectives"] == ("denoise", {"name": "mask", "rate": 0.2})
    assert (made["steps"], made["cells_seen"]) == (4, 64)
    assert [point["step"] for point in made["loss_curve"]] == [2, 4]
    assert set(made["loss_curve"][0]) == {
        "step", "cells", "train/denoise", "train/mask", "val/denoise", "val/mask", "val/loss"
    }  # fmt: skip
    assert made["minutes"] >= 0
    assert made["hardware"]
    assert made["versions"]["torch"] == torch.__version__
    loaded = load_model(tmp_path / "model")
    assert loaded.provenance == json.loads(json.dumps(made))
    assert loaded.name == "planted"
    assert loaded.config == model.config
    assert loaded.vocab.hash == vocab.hash
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight, rtol=1e-3, atol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.run"]
    assert [path.name for path in (tmp_path / "model.run").iterdir()] == ["logs"]


def test_same_seed_same_weights(short_run):
    first, same, other = (short_run(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["special"], other["special"])


def test_rare_labels_are_drawn_more_often(planted_cells, short_run, monkeypatch):
    seen = []
    fit = importlib.import_module("grnlab.training.fit")

    class Stream(batches.CellStream):
        def __init__(self, cells, rows, weights, **options):
            seen.append((rows, weights))
            super().__init__(cells, rows, weights, **options)

    monkeypatch.setattr(fit, "CellStream", Stream)
    vocab, cells = planted_cells
    cells = replace(cells, labels={"state": (np.arange(len(cells)) < 5).astype(int)})
    short_run(data=(vocab, cells), max_steps=1, label="state")
    [(rows, weights)] = seen
    np.testing.assert_array_equal(weights, cells.sampling_weights("state")[rows])
    assert weights[rows < 5].min() > weights[rows >= 5].max()


def test_gradients_are_clipped(short_run):
    """Adam does not move for gradients far below its ε."""
    start = short_run(max_steps=1, lr=0.0).state_dict()
    still, moved, free = (short_run(clip=clip, weight_decay=0.0).state_dict() for clip in (1e-13, 1.0, None))
    torch.testing.assert_close(still, start, rtol=0, atol=1e-6)
    for weights in (moved, free):
        assert (weights["special"] - start["special"]).abs().max() > 1e-4


def test_every_objective_reaches_its_part_of_the_model(short_run):
    model = ScPrintConfig(n_layers=1, d_model=16, n_heads=2, classes={"cell_type": ("a", "b", "c")})
    tasks = ("denoise", "mask", "mvc", "classify")
    before = short_run(model=model, max_steps=1, lr=0.0, objectives=tasks).state_dict()
    after = short_run(model=model, objectives=tasks).state_dict()
    changed = {name.split(".")[0] for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == {name.split(".")[0] for name in after}


def test_accumulated_batches_count_as_the_mean_of_their_losses(short_run, recorder):
    """The losses of one step of four batches are those of four steps of one batch that teach nothing."""
    one, four = recorder(), recorder()
    options = {"lr": 0.0, "log_every": 1, "objectives": ("mask", "mvc")}
    short_run(loggers=[one], max_steps=4, **options)
    short_run(loggers=[four], max_steps=1, accumulate=4, **options)
    for name in ("train/mask", "train/mvc"):
        assert four.rows[1][name] == pytest.approx(np.mean([one.rows[step][name] for step in (1, 2, 3, 4)]), rel=1e-6)


def test_the_average_is_validated_and_returned(short_run):
    plain, averaged = (short_run(max_steps=8, val_every=8, average=average) for average in (None, 0.5))
    steps = [short_run(max_steps=step, schedule="constant").state_dict() for step in (0 + 1, 2, 3)]
    expected = short_run(max_steps=1, lr=0.0).state_dict()
    for step, weights in enumerate(steps, start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {name: decay * expected[name] + (1 - decay) * weights[name] for name in weights}
    torch.testing.assert_close(short_run(max_steps=3, schedule="constant", average=0.5).state_dict(), expected)
    first, second = (model.provenance["loss_curve"][-1] for model in (plain, averaged))
    assert first["train/mask"] == second["train/mask"]  # training goes on from the weights themselves
    assert first["val/mask"] != second["val/mask"]


def test_validation_that_does_not_get_better_stops_the_run(short_run):
    model = short_run(max_steps=50, val_every=1, lr=0.0, early_stop=3)
    assert model.provenance["steps"] == 4


def test_gene_vectors_start_from_the_training_cells(planted_cells, short_run):
    _, cells = planted_cells
    model = short_run(gene_vectors="coexpression", max_steps=1, lr=0.0, seed=3)
    rows, _ = cells.split(0.1, seed=3)
    expected = coexpression_vectors(cells.counts[rows], 16, seed=3)
    np.testing.assert_allclose(model.gene_embedding.weight.detach(), expected, atol=1e-6)


def test_low_precision(short_run):
    curve = short_run(precision="bf16-mixed").provenance["loss_curve"]
    full = short_run().provenance["loss_curve"]
    assert curve[-1]["val/loss"] == pytest.approx(full[-1]["val/loss"], rel=0.05)
    assert curve[-1]["val/loss"] != full[-1]["val/loss"]


def test_batches_are_the_same_from_workers(short_run):
    alone, helped = (short_run(workers=workers).state_dict() for workers in (0, 2))
    assert all(torch.equal(alone[name], helped[name]) for name in alone)


def test_logs(short_run, tmp_path):
    short_run(tmp_path / "model", log=("csv", "tensorboard"), log_every=2)
    logs = tmp_path / "model.run" / "logs"
    lines = (logs / "csv" / "from_step_000000000" / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    assert {"step", "lr", "cells/s", "minutes", "train/loss", "train/mask", "val/loss", "val/mask"} <= set(columns)
    step = columns.index("step")
    assert sorted({line.split(",")[step] for line in lines[1:]}) == ["2", "4"]
    assert list((logs / "tensorboard").glob("events.out.tfevents*"))


def test_an_existing_folder_is_refused_before_training(short_run, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "precious").write_text("x")
    module = importlib.import_module("grnlab.training.pretrain")  # the package holds a function of this name
    monkeypatch.setattr(module, "build_model", lambda *_, **__: pytest.fail("began to work"))
    with pytest.raises(FileExistsError, match=r"model' exists already; choose another folder"):
        short_run(tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["precious"]


def test_a_loss_that_is_not_finite_stops_the_run(planted_cells, short_run, tmp_path, monkeypatch):
    vocab, cells = planted_cells
    cells = replace(cells, totals=np.arange(len(cells)) + 1.0)
    seen = []  # totals of the cells of each batch
    draw = batches.CellStream.draw
    monkeypatch.setitem(objectives.REGISTRY, "poison", Poison)

    def noted(self, *numbers):
        drawn = draw(self, *numbers)
        seen.extend((batch.number, set(batch.target.totals_B.tolist())) for batch in drawn)
        return drawn

    monkeypatch.setattr(batches.CellStream, "draw", noted)
    short_run(data=(vocab, cells), max_steps=7)
    earlier = set().union(*(totals for number, totals in seen if number < 5))
    [there] = [totals for number, totals in seen if number == 5][:1]
    tasks = ("mask", {"name": "poison", "total": min(there - earlier)})
    with pytest.raises(RuntimeError, match=r"of poison is not finite at step 5, batch 5: .*'poison': nan") as error:
        short_run(tmp_path / "model", data=(vocab, cells), objectives=tasks, max_steps=7, checkpoint_every=3)
    assert "the state of step 3 is kept" in str(error.value)
    run = tmp_path / "model.run"
    assert [path.name for path in (run / "state").iterdir()] == ["step-000000003"]
    saved = load_file(run / "bad_batch_5.safetensors")
    assert str(run / "bad_batch_5.safetensors") in str(error.value)
    assert set((saved["rows"] + 1).tolist()) == there
    assert set(saved["target.totals_B"].tolist()) == there
    assert saved["seen.hidden_BT"].any()
    assert torch.equal(saved["target.labels.cell_type"], saved["rows"] % 3)
    assert not (tmp_path / "model").exists()


def test_an_unknown_objective_is_refused(short_run, tmp_path):
    with pytest.raises(ValueError, match="objective 'guess' is unknown"):
        short_run(tmp_path / "model", objectives=("guess",))
    with pytest.raises(ValueError, match="leaves nothing to train on"):
        short_run(tmp_path / "model", objectives=({"name": "mask", "weight": 0},))
    assert list(tmp_path.iterdir()) == []


def test_a_time_limit_ends_the_run(short_run):
    model = short_run(max_steps=10_000, val_every=10_000, max_minutes=1e-6)
    assert model.provenance["steps"] == 1
    assert [point["step"] for point in model.provenance["loss_curve"]] == [1]


def test_lightning_missing(short_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(ImportError, match=r'pip install "grnlab\[train\]"'):
        short_run()


def test_a_validation_loss_that_is_not_finite_stops_the_run(planted_cells, short_run, tmp_path, monkeypatch):
    vocab, cells = planted_cells
    cells = replace(cells, totals=np.arange(len(cells)) + 1.0)
    _, held_out = cells.split(0.1, seed=0)
    monkeypatch.setitem(objectives.REGISTRY, "poison", Poison)
    tasks = ("mask", {"name": "poison", "total": held_out[0] + 1.0})
    with pytest.raises(RuntimeError, match=r"the validation loss is not finite at step 2: .*'poison': nan"):
        short_run(tmp_path / "model", data=(vocab, cells), objectives=tasks, checkpoint_every=1)
    assert [path.name for path in (tmp_path / "model.run" / "state").iterdir()] == ["step-000000001"]


def test_the_bar_tells_steps_and_loss(planted_cells, tiny, capsys):
    architecture, settings = tiny
    config = PretrainConfig(**settings, log_every=2)
    pretrain(*planted_cells, model=architecture, config=config)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "100%" in shown.err
    assert "step=4" in shown.err
    assert "loss=" in shown.err
