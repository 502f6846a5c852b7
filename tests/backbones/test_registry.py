from dataclasses import asdict, dataclass

import pytest
import torch
from torch import nn

from grnlab.backbones import AttentionSpec, ScPrint, ScPrintConfig, load_model, registry, save_model
from grnlab.backbones.registry import architecture_of, architectures, build_model, register_architecture


@dataclass(frozen=True)
class OtherConfig:
    width: int = 3

    def to_dict(self):
        return asdict(self)

    @classmethod
    def from_dict(cls, values):
        return cls(**values)


class Other(nn.Module):
    """Architecture that shares nothing with the built-in one: tied weights, and a buffer of integers."""

    def __init__(self, vocab, config, *, name):
        super().__init__()
        self.vocab, self.config, self.name, self.provenance, self.weights_hash = vocab, config, name, {}, ""
        self.encoder = nn.Linear(len(vocab), config.width, bias=False)
        self.again = self.encoder
        self.register_buffer("seen", torch.tensor([2**40 + 1]))

    @property
    def attention(self):
        return AttentionSpec(1, 2, self.config.width, 1.0, 0)


@pytest.fixture
def other(monkeypatch):
    monkeypatch.setattr(registry, "_ARCHITECTURES", architectures())
    register_architecture("other", Other, OtherConfig)


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("half", [False, True])
def test_another_architecture_is_saved_and_loaded(tiny_vocab, tmp_path, half):
    torch.manual_seed(0)
    model = build_model(tiny_vocab, OtherConfig(width=5), name="mine")
    loaded = load_model(save_model(model, tmp_path / "mine", half=half))
    assert isinstance(loaded, Other)
    assert (loaded.config, loaded.name) == (OtherConfig(width=5), "mine")
    torch.testing.assert_close(loaded.encoder.weight, model.encoder.weight, rtol=1e-3 if half else 0, atol=1e-4 * half)
    assert loaded.seen.tolist() == [2**40 + 1]


def test_the_built_in_architecture(tiny_vocab):
    model = build_model(tiny_vocab, ScPrintConfig(n_layers=1, d_model=8, n_heads=2), name="x")
    assert type(model) is ScPrint
    assert architecture_of(model) == architecture_of(ScPrintConfig()) == "scprint"


def test_what_is_not_registered_is_refused(tiny_vocab, tmp_path):
    with pytest.raises(TypeError, match=r"OtherConfig is no registered architecture \(.*scprint.*\)"):
        build_model(tiny_vocab, OtherConfig(), name="x")
    with pytest.raises(TypeError, match="Other is no registered architecture"):
        save_model(Other(tiny_vocab, OtherConfig(), name="x"), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("other")
def test_names_and_configurations_are_taken_once():
    register_architecture("other", Other, OtherConfig)
    with pytest.raises(ValueError, match=r"architecture 'scprint' with OtherConfig: .* registered already"):
        register_architecture("scprint", Other, OtherConfig)
    with pytest.raises(ValueError, match="registered already"):
        register_architecture("third", ScPrint, OtherConfig)
