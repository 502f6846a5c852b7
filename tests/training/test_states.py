import errno
import json
import signal
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError

from grnlab.training.states import StateFolder

KILLED = """
import os, signal, sys
import safetensors.torch, torch
from pathlib import Path
from grnlab.training.states import StateFolder

save_file, place = safetensors.torch.save_file, sys.argv[2]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def half(tensors, path):
    path.write_bytes(b"half of it")
    die()

if place == "tensors":
    safetensors.torch.save_file = half
else:
    Path.rename = die
StateFolder(sys.argv[1]).save(9, {"x": torch.zeros(3)}, {})
"""


def tensors(number):
    return {"model/x": torch.full((3,), float(number)), "optimizer/x/step": torch.tensor(float(number))}


@pytest.fixture
def folder(tmp_path):
    states = StateFolder(tmp_path / "state")
    for step in (2, 5):
        states.save(step, tensors(step), {"progress": {"step": step}})
    return states


def step_of(folder):
    state = folder.latest()
    assert torch.equal(state.part("model")["x"], tensors(state.values["progress"]["step"])["model/x"])
    return state.values["progress"]["step"]


def test_round_trip(folder):
    state = folder.latest()
    assert state.values == {"progress": {"step": 5}}
    assert set(state.tensors) == set(tensors(5))
    assert all(torch.equal(state.tensors[name], value) for name, value in tensors(5).items())
    assert list(state.part("optimizer/x")) == ["step"]
    assert state.path.name == "step-000000005"


def test_the_last_two_stay(folder):
    folder.save(11, tensors(11), {"progress": {"step": 11}})
    assert folder.steps() == [5, 11]
    assert step_of(folder) == 11


def test_a_state_may_be_saved_again(folder):
    folder.save(5, tensors(7), {"progress": {"step": 7}})
    assert step_of(folder) == 7


def test_no_state(tmp_path):
    assert StateFolder(tmp_path / "nothing").latest() is None
    assert StateFolder(tmp_path / "nothing").steps() == []


def disk_full(path):
    path.write_bytes(b"half of it")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_earlier_states(folder, monkeypatch):
    before = sorted(path.name for path in folder.path.rglob("*"))
    monkeypatch.setattr("safetensors.torch.save_file", lambda tensors, path: disk_full(path))
    with pytest.raises(OSError, match="No space left"):
        folder.save(9, tensors(9), {})
    monkeypatch.undo()
    monkeypatch.setattr("pathlib.Path.write_text", lambda path, *_, **__: disk_full(path))
    with pytest.raises(OSError, match="No space left"):
        folder.save(9, tensors(9), {})
    assert sorted(path.name for path in folder.path.rglob("*")) == before
    assert step_of(folder) == 5


def test_an_error_of_the_library_is_one_of_the_file_system(folder, monkeypatch):
    def fail(tensors, path):
        msg = "Error while serializing: I/O error: No space left on device (os error 28)"
        raise SafetensorError(msg)

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="No space left on device"):
        folder.save(9, tensors(9), {})
    assert folder.steps() == [2, 5]


@pytest.mark.parametrize("place", ["tensors", "rename"])
def test_sigkill_leaves_the_earlier_states(folder, place):
    killed = subprocess.run([sys.executable, "-c", KILLED, folder.path, place], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert any(path.name.startswith(".step-") for path in folder.path.iterdir())  # what it left half written
    assert folder.steps() == [2, 5]
    assert step_of(folder) == 5
    folder.save(9, tensors(9), {"progress": {"step": 9}})
    assert sorted(path.name for path in folder.path.iterdir()) == ["step-000000005", "step-000000009"]


@pytest.mark.parametrize("damage", ["tensors", "values", "missing", "format"])
def test_a_damaged_state_is_passed_over(folder, damage, caplog):
    path = folder.path / "step-000000005"
    if damage == "tensors":
        (path / "tensors.safetensors").write_bytes((path / "tensors.safetensors").read_bytes()[:-4])
    elif damage == "values":
        (path / "state.json").write_text("{")
    elif damage == "missing":
        (path / "tensors.safetensors").unlink()
    else:
        (path / "state.json").write_text(json.dumps({"format": 99}))
    assert step_of(folder) == 2
    assert "step-000000005 cannot be read" in caplog.text
    (folder.path / "step-000000002" / "state.json").unlink()
    with pytest.raises(ValueError, match=r"no state in .* can be read"):
        folder.latest()


def test_values_must_be_finite(folder):
    with pytest.raises(ValueError, match="Out of range float values"):
        folder.save(9, tensors(9), {"loss": float("nan")})
    assert folder.steps() == [2, 5]
