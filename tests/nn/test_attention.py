import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from grnlab.nn import SelfAttention, attend


def softmax_attention(q, k, v, pad=None):
    """From the definition, float64, loops over cells and heads."""
    q, k, v = (x.double().numpy() for x in (q, k, v))
    out = np.zeros_like(q)
    for cell, head in np.ndindex(q.shape[0], q.shape[2]):
        real = slice(None) if pad is None else ~pad[cell].numpy()
        logits = q[cell, :, head] @ k[cell, real, head].T / np.sqrt(q.shape[-1])
        exponential = np.exp(logits - logits.max(1, keepdims=True))
        out[cell, :, head] = exponential / exponential.sum(1, keepdims=True) @ v[cell, real, head]
    return out


@pytest.fixture
def qkv():
    return torch.randn(3, 2, 7, 4, 5, generator=torch.Generator().manual_seed(0)).unbind()


@pytest.fixture
def pad():
    return torch.arange(7) >= torch.tensor([[7], [4]])


@pytest.fixture
def module():
    torch.manual_seed(1)
    module = SelfAttention(12, 3, dropout=0.5).eval()
    torch.nn.init.normal_(module.qkv.bias)
    return module


def test_attend_equals_the_definition(qkv, pad):
    np.testing.assert_allclose(attend(*qkv), softmax_attention(*qkv), atol=1e-6)
    np.testing.assert_allclose(attend(*qkv, pad_BT=pad), softmax_attention(*qkv, pad), atol=1e-6)


def test_padding_is_never_attended_to(qkv, pad):
    q, k, v = qkv
    expected = attend(q, k, v, pad_BT=pad)
    k, v = k.clone(), v.clone()
    k[pad], v[pad] = 50.0, -50.0
    torch.testing.assert_close(attend(q, k, v, pad_BT=pad), expected, rtol=0, atol=0)


def test_unknown_backend(qkv):
    with pytest.raises(ValueError, match="'fast' is unknown"):
        attend(*qkv, backend="fast")


def test_flash_asked_for_and_missing(qkv, monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    with pytest.raises(ImportError, match=r'pip install "grnlab\[flash\]"'):
        attend(*qkv, backend="flash")


def test_flash_refuses_what_it_cannot_do(qkv, monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_func=lambda *_, **__: None))
    with pytest.raises(RuntimeError, match=r"half precision on a CUDA device; got torch\.float32 on cpu"):
        attend(*qkv, backend="flash")


def test_module_records_what_it_used(module):
    x = torch.randn(2, 5, 12)
    seen = []
    y = module(x, layer=3, record=lambda *args: seen.append(args))
    [(layer, q, k, v, out)] = seen
    assert layer == 3
    assert q.shape == k.shape == v.shape == out.shape == (2, 5, 3, 4)
    np.testing.assert_allclose(out.detach(), softmax_attention(*(z.detach() for z in (q, k, v))), atol=1e-6)
    torch.testing.assert_close(module.out(out.flatten(-2)), y, rtol=0, atol=0)
    by_hand = (x @ module.qkv.weight.T + module.qkv.bias).view(2, 5, 3, 3, 4)
    torch.testing.assert_close(torch.stack([q, k, v], 2), by_hand)
    torch.testing.assert_close(module(x), y, rtol=0, atol=0)


def test_record_qk_is_the_same_and_ignores_the_values(module):
    x = torch.randn(2, 5, 12)
    seen = []
    module(x, layer=1, record=lambda *args: seen.append(args))
    with torch.no_grad():
        module.qkv.weight[24:] = torch.nan
        module.qkv.bias[24:] = torch.nan
    module.record_qk(x, layer=1, record=lambda *args: seen.append(args))
    (_, q, k, *_), (layer, q_only, k_only, v, out) = seen
    assert (layer, v, out) == (1, None, None)
    torch.testing.assert_close(q_only, q)
    torch.testing.assert_close(k_only, k)


def test_dropout_only_while_training(module):
    x = torch.randn(2, 5, 12)
    assert torch.equal(module(x), module(x))
    module.train()
    assert not torch.equal(module(x), module(x))


def test_width_must_fit_the_heads():
    with pytest.raises(ValueError, match="d_model=10 must be a multiple of n_heads=4"):
        SelfAttention(10, 4)
