import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from grnlab.backbones.published.read import WeightReader, read_dictionary, read_tensors


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def flag(tmp_path):
    return tmp_path / "opened"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_no_pickle_ever_runs(tmp_path, flag, zipped):
    content = {"weights": torch.arange(3.0), "trap": Trap(flag), "half": torch.ones(2, dtype=torch.float16)}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"is a pickle: reading one can run any code .* pass allow_pickle=True"):
        read_tensors(tmp_path / "x.pt")
    got = read_tensors(tmp_path / "x.pt", allow_pickle=True)
    assert torch.equal(got["weights"], content["weights"])
    assert torch.equal(got["half"], content["half"])
    assert not flag.exists()
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert flag.exists()  # the trap works


def test_a_bare_pickle_does_not_run_either(tmp_path, flag):
    for name in ("x.pt", "x.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap(flag)))
    for allow in (False, True):
        with pytest.raises(ValueError, match=r"x\.pt is (a pickle|not a complete file)"):
            read_tensors(tmp_path / "x.pt", allow_pickle=allow)
    with pytest.raises(ValueError, match=r"x\.pkl is no dictionary of names and numbers: it holds a "):
        read_dictionary(tmp_path / "x.pkl")
    assert not flag.exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_dictionaries_of_numbers(tmp_path, protocol):
    content = {"a": 1, "b": 2.5, "c": np.float64(0.1), "d": np.float32(0.5), "e": np.int64(-3), "f": "ENSG1", "g": None}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    assert read_dictionary(tmp_path / "x.pkl") == content


@pytest.mark.parametrize("value", [np.arange(3), np.dtype("O"), print, np.datetime64(1, "s"), Path("x")], ids=str)
def test_anything_else_in_a_dictionary_is_refused(tmp_path, value):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": value}))
    with pytest.raises(ValueError, match="is no dictionary of names and numbers"):
        read_dictionary(tmp_path / "x.pkl")


def test_what_is_no_dictionary(tmp_path):
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds a list; expected a dictionary"):
        read_dictionary(tmp_path / "x.json")
    (tmp_path / "x.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match="is no dictionary"):
        read_dictionary(tmp_path / "x.pkl")
    (tmp_path / "x.safetensors").write_bytes(b"abc")
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        read_tensors(tmp_path / "x.safetensors")


def test_every_weight_is_taken_once():
    reader = WeightReader({"a.weight": torch.ones(2), "a.bias": torch.ones(2), "head.x": torch.ones(1), "n": 3}, "here")
    assert list(reader.linear("mine", "a")) == ["mine.weight", "mine.bias"]
    with pytest.raises(ValueError, match=r"here lacks the weights 'a\.bias'"):
        reader.take("a.bias")
    with pytest.raises(ValueError, match=r"here holds 1 weights .* \['head\.x'\]"):
        reader.finish()
    reader.finish(not_needed=("head.",))
