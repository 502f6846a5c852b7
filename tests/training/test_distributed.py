import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from grnlab.training import PretrainConfig
from grnlab.training.distributed import Agreement, like, make_strategy, whole

# Four batches of eight cells make a step: four after one another here, two and two in two processes. Every context has
# the same number of genes, so that the mean over the places of a batch is the mean over its cells.
SHARED = {"accumulate": 4, "max_steps": 4, "val_every": 2, "log_every": 1, "average": 0.9, "lr": 1e-2}
TASKS = ("denoise", "mvc")
TWO_PROCESSES = """
import pickle, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from grnlab.training import PretrainConfig, distributed, pretrain, states
from grnlab.training.module import PretrainModule

torch.set_num_threads(1)
folder = Path(sys.argv[1])
vocab, cells, model, options = pickle.loads((folder / "job").read_bytes())
first = {}

def keep(self, optimizer):
    weights = dict(self.model.named_parameters())
    found = {name: distributed.whole(w.grad).clone() for name, w in weights.items() if w.grad is not None}
    first.setdefault("gradients", found)
    first.setdefault("sharded", any(hasattr(weight, "full_tensor") for weight in weights.values()))

PretrainModule.on_before_optimizer_step = keep
clear, states.StateFolder.clear = states.StateFolder.clear, lambda self: None
for strategy in ("ddp", "fsdp"):
    first.clear()
    config = PretrainConfig(**options, devices=2, strategy=strategy, checkpoint_every=2)
    made = pretrain(vocab, cells, model=model, config=config, out=folder / strategy, progress=False)
    rank = torch.distributed.get_rank()
    save_file({k: v.contiguous() for k, v in made.state_dict().items()}, folder / f"{strategy}-{rank}.weights")
    save_file(first["gradients"], folder / f"{strategy}-{rank}.gradients")
    assert first["sharded"] == (strategy == "fsdp")
"""


@pytest.fixture(scope="module")
def two_processes(write_job, tmp_path_factory):
    """Folder with what two processes started by torchrun made."""
    folder = tmp_path_factory.mktemp("two")
    write_job(folder / "job", objectives=TASKS, **SHARED)
    (folder / "script.py").write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run([*command, folder / "script.py", folder], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def one_process(planted_cells, write_job, tmp_path_factory):
    """Model, gradients of the first step, and folder, of the same run in this process."""
    from grnlab.training import pretrain
    from grnlab.training.module import PretrainModule

    folder = tmp_path_factory.mktemp("one")
    *_, model, options = pickle.loads(write_job(folder / "job", objectives=TASKS, **SHARED).read_bytes())
    gradients = {}

    def keep(self, optimizer):
        for name, weight in self.model.named_parameters():
            if weight.grad is not None:
                gradients.setdefault(name, weight.grad.clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainModule, "on_before_optimizer_step", keep, raising=False)
        made = pretrain(
            *planted_cells, model=model, config=PretrainConfig(**options), out=folder / "one", progress=False
        )
    return made, gradients, folder


def assert_same_weights(got, expected, gradients):
    """Where a gradient is 0 by symmetry (the bias of a softmax), Adam makes a step of its rounding error: left out."""
    assert set(got) == set(expected)
    for name, gradient in gradients.items():
        real = gradient.abs() > 1e-6
        torch.testing.assert_close(got[name][real], expected[name][real], rtol=1e-5, atol=2e-6, msg=name)
    assert torch.cat([(gradient.abs() > 1e-6).flatten() for gradient in gradients.values()]).float().mean() > 0.8


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_are_one(one_process, two_processes, strategy):
    model, gradients, _ = one_process
    for rank in (0, 1):
        torch.testing.assert_close(
            load_file(two_processes / f"{strategy}-{rank}.gradients"), gradients, rtol=1e-5, atol=1e-6
        )
        assert_same_weights(load_file(two_processes / f"{strategy}-{rank}.weights"), model.state_dict(), gradients)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_checkpoints_and_curves_of_two_processes(one_process, two_processes, strategy):
    import json

    model, _, _ = one_process
    made = json.loads((two_processes / strategy / "config.json").read_text())["provenance"]
    expected = model.provenance["loss_curve"]
    for got, point in zip(made["loss_curve"], expected, strict=True):
        assert got == pytest.approx(point, abs=2e-5)
    assert made["cells_seen"] == model.provenance["cells_seen"] == 128


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_state_of_two_processes_goes_on_in_one(planted_cells, one_process, two_processes, tmp_path, strategy):
    """The same settings but for the number of processes, from the state after two of the four steps."""
    import shutil

    from grnlab.training import pretrain

    model, gradients, folder = one_process
    *_, architecture, options = pickle.loads((folder / "job").read_bytes())
    shutil.copytree(two_processes / f"{strategy}.run", tmp_path / "model.run")
    shutil.rmtree(tmp_path / "model.run" / "state" / "step-000000004")
    got = pretrain(
        *planted_cells, model=architecture, config=PretrainConfig(**options), out=tmp_path / "model", resume=True,
        progress=False,
    )  # fmt: skip
    assert_same_weights(got.state_dict(), model.state_dict(), gradients)
    assert [point["step"] for point in got.provenance["loss_curve"]] == [2, 4]


def test_strategies():
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

    assert make_strategy(PretrainConfig()) == "auto"
    assert isinstance(make_strategy(PretrainConfig(devices=2, accumulate=2)), DDPStrategy)
    assert isinstance(make_strategy(PretrainConfig(strategy="ddp")), DDPStrategy)
    assert isinstance(make_strategy(PretrainConfig(strategy="fsdp")), ModelParallelStrategy)
    with pytest.raises(ValueError, match="'fsdp' does not go with precision='16-mixed'"):
        make_strategy(PretrainConfig(strategy="fsdp", precision="16-mixed"))


def test_one_process_agrees_with_itself():
    agreement = Agreement(1)
    assert agreement.largest([1.5, False]) == [1.5, False]
    assert agreement.total([2.0]) == [2.0]


def test_whole_tensors():
    value = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(whole(value.T.requires_grad_()), value.T)
    assert whole(value.T).is_contiguous()
    assert like(value, torch.zeros(1)) is value
