import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from grnlab.backbones import ScPrintConfig, load_model
from grnlab.genes import GeneVocab
from grnlab.training import Interrupted, states

LONG = {"max_steps": 12, "val_every": 4, "log_every": 1, "accumulate": 2, "average": 0.9, "schedule": "plateau"}
KILLED = """
import os, pickle, signal, sys
import torch
from grnlab.training import PretrainConfig, batches, pretrain

torch.set_num_threads(1)
job, out = sys.argv[1:]
vocab, cells, model, options = pickle.load(open(job, "rb"))
draw = batches.CellStream.draw

def deadly(self, *numbers):
    if 17 in numbers:  # the second batch of the ninth step
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(self, *numbers)

batches.CellStream.draw = deadly
pretrain(vocab, cells, model=model, config=PretrainConfig(**options), name="planted", out=out, progress=False)
"""


def same_weights(first, second):
    assert list(first.state_dict()) == list(second.state_dict())
    return all(torch.equal(weight, second.state_dict()[name]) for name, weight in first.state_dict().items())


def pressed(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_after_sigkill_the_curve_goes_on_as_if_nothing_had_happened(
    short_run, recorder, write_job, tmp_path, one_thread
):
    options = LONG | {"checkpoint_every": 3}
    job = write_job(tmp_path / "job", **options)
    killed = subprocess.run([sys.executable, "-c", KILLED, job, tmp_path / "model"], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    kept = tmp_path / "model.run" / "state"
    assert sorted(path.name for path in kept.iterdir()) == ["step-000000003", "step-000000006"]
    whole, rest = recorder(), recorder()
    expected = short_run(loggers=[whole], **options)
    got = short_run(tmp_path / "model", loggers=[rest], resume=True, **options)
    assert sorted(rest.rows) == [7, 8, 9, 10, 11, 12]
    assert rest.rows == {step: row for step, row in whole.rows.items() if step > 6}
    assert same_weights(got, expected)
    assert got.provenance["loss_curve"] == expected.provenance["loss_curve"]
    logs = tmp_path / "model.run" / "logs" / "csv"
    assert sorted(path.name for path in logs.iterdir()) == ["from_step_000000000", "from_step_000000006"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_bit_for_bit(short_run, recorder, tmp_path, one_thread, number):
    whole, first, second = recorder(), recorder(), recorder()
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    expected = short_run(loggers=[whole], **LONG)
    first.at[6] = pressed(number)  # while the losses of step 6 are logged
    with pytest.raises(Interrupted, match=r"stopped after step 7; the state is in .*model.run. Go on with resume=True"):
        short_run(tmp_path / "model", loggers=[first], **LONG)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    assert not (tmp_path / "model").exists()
    got = short_run(tmp_path / "model", loggers=[second], resume=True, **LONG)
    assert first.rows | second.rows == whole.rows
    assert sorted(second.rows) == [8, 9, 10, 11, 12]
    assert same_weights(got, expected)
    assert got.provenance["loss_curve"] == expected.provenance["loss_curve"]
    assert (got.provenance["steps"], got.provenance["cells_seen"]) == (12, 192)
    assert not (tmp_path / "model.run" / "state").exists()
    with pytest.raises(FileExistsError, match="holds a finished model: nothing to resume"):
        short_run(tmp_path / "model", resume=True, **LONG)


def interrupted(short_run, recorder, out, *, at=2, **options):
    one = recorder()
    one.at[at] = pressed(signal.SIGINT)
    with pytest.raises(Interrupted):
        short_run(out, loggers=[one], log_every=1, **options)


def test_minutes_used_count(short_run, recorder, tmp_path):
    """The learning rate of a run with a time limit goes on where it was; the time between does not count."""
    options = {"max_steps": 1_000_000, "max_minutes": 60.0, "val_every": 1_000}
    interrupted(short_run, recorder, tmp_path / "model", **options)
    state = tmp_path / "model.run" / "state" / "step-000000003"
    values = json.loads((state / "state.json").read_text())
    assert 0 < values["progress"]["minutes"] < 1
    values["progress"]["minutes"] = 59.99
    (state / "state.json").write_text(json.dumps(values))
    after = recorder()
    model = short_run(tmp_path / "model", loggers=[after], resume=True, log_every=1, **options)
    assert 59.99 < model.provenance["minutes"] < 60.2
    assert after.rows[4]["lr"] < 2e-4 * 1e-3 * 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, "settings.lr: 0.001 in the run, now 0.5"),
        ({"objectives": ("mask",)}, "settings.objectives: .*'mvc'.* now .'mask'."),
        ({"model": ScPrintConfig(n_layers=2, d_model=16, n_heads=2)}, "model.n_layers: 1 in the run, now 2"),
        ({"data": "genes"}, "vocabulary: "),
        ({"data": "cells"}, "data.cells of.one: 75 in the run, now 74"),
        ({"data": "counts"}, "data.total counts: "),
        ({"data": "labels"}, "data.labels.cell_type: "),
    ],
)
def test_another_run_is_not_resumed(planted_cells, short_run, recorder, tmp_path, change, message):
    interrupted(short_run, recorder, tmp_path / "model")
    vocab, cells = planted_cells
    data = {
        "genes": lambda: (GeneVocab(vocab.table.assign(symbol=vocab.table["symbol"] + "x")), cells),
        "cells": lambda: (vocab, replace(
            cells, counts=cells.counts[1:], datasets=cells.datasets[1:], totals=cells.totals[1:],
            labels={"cell_type": cells.labels["cell_type"][1:]},
        )),
        "counts": lambda: (vocab, replace(cells, totals=cells.totals + 1)),
        "labels": lambda: (vocab, replace(cells, labels={"cell_type": cells.labels["cell_type"][::-1]})),
    }  # fmt: skip
    if "data" in change:
        change = {"data": data[change["data"]]()}
    with pytest.raises(ValueError, match=message) as error:
        short_run(tmp_path / "model", resume=True, **({"log_every": 1} | change))
    assert "belongs to another run; resume with what it was started with" in str(error.value)


def test_where_a_run_is_carried_out_may_change(short_run, recorder, tmp_path):
    interrupted(short_run, recorder, tmp_path / "model")
    expected = short_run()
    got = short_run(tmp_path / "model", resume=True, workers=1, log=(), checkpoint_every=1)
    assert same_weights(got, expected)


def test_a_run_that_was_stopped_is_not_begun_anew(short_run, recorder, tmp_path):
    interrupted(short_run, recorder, tmp_path / "model")
    with pytest.raises(FileExistsError, match=r"stopped after step 3; pass resume=True \(--resume\)"):
        short_run(tmp_path / "model")


def test_nothing_to_resume(short_run, tmp_path, caplog):
    with pytest.raises(FileNotFoundError, match=r"there is no run to resume: .*model.run does not exist"):
        short_run(tmp_path / "model", resume=True)
    with pytest.raises(ValueError, match="resume=True needs out"):
        short_run(resume=True)
    (tmp_path / "model.run").mkdir()  # of a run that was killed before its first state
    short_run(tmp_path / "model", resume=True, max_steps=1)
    assert "starts from the beginning" in caplog.text
    assert load_model(tmp_path / "model").provenance["steps"] == 1


def test_stopped_between_the_last_step_and_the_model(short_run, tmp_path, monkeypatch):
    import grnlab.training as package

    module = sys.modules[package.pretrain.__module__]
    save = module.save_model
    monkeypatch.setattr(module, "save_model", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        short_run(tmp_path / "model", average=0.9)
    monkeypatch.setattr(module, "save_model", save)
    got = short_run(tmp_path / "model", average=0.9, resume=True)
    expected = short_run(average=0.9)
    assert same_weights(got, expected)
    assert got.provenance["loss_curve"] == expected.provenance["loss_curve"]
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_a_full_disk_does_not_end_the_run(short_run, recorder, tmp_path, monkeypatch, caplog):
    save_file = sys.modules["safetensors.torch"].save_file

    def full(tensors, path):
        if "step-000000002" in str(path):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr("safetensors.torch.save_file", full)
    interrupted(short_run, recorder, tmp_path / "model", checkpoint_every=1)
    assert "state of step 2 could not be saved ([Errno 28] No space left" in caplog.text
    assert "that of step 1 is kept. Training goes on" in caplog.text
    assert states.StateFolder(tmp_path / "model.run" / "state").steps() == [1, 3]
    assert same_weights(short_run(tmp_path / "model", resume=True, log_every=1), short_run())


def test_a_disk_that_is_full_when_a_run_is_stopped_is_told(short_run, recorder, tmp_path, monkeypatch):
    def full(tensors, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    one = recorder()
    one.at[2] = pressed(signal.SIGTERM)
    with pytest.raises(OSError, match=r"the state of step 3 could not be saved .* there is no earlier one"):
        short_run(tmp_path / "model", loggers=[one], log_every=1)


def test_a_second_ctrl_c_acts_at_once(short_run, recorder, tmp_path):
    one = recorder()
    one.at[2] = lambda: [pressed(signal.SIGINT)() for _ in range(2)]
    with pytest.raises(KeyboardInterrupt) as error:
        short_run(tmp_path / "model", loggers=[one], log_every=1)
    assert not isinstance(error.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not (tmp_path / "model.run" / "state").exists()


def test_ctrl_c_in_the_last_step_changes_nothing(short_run, recorder, tmp_path):
    one = recorder()
    one.at[3] = pressed(signal.SIGINT)  # seen in the step after, the fourth of four
    got = short_run(tmp_path / "model", loggers=[one], log_every=1)
    assert same_weights(got, short_run())
    assert [point["step"] for point in got.provenance["loss_curve"]] == [2, 4]
    assert (tmp_path / "model").is_dir()
