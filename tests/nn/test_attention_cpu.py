import pytest
import torch

from grnlab.nn import attend, attention_cpu
from grnlab.nn.attention_cpu import attend_in_blocks

PAD = torch.tensor([[False] * 7, [False, True, False, False, True, True, True], [False] * 6 + [True]])


def run(attention, qkv, pad=None, *, dtype=torch.bfloat16):
    """Output and gradients, float64."""
    q, k, v = (x.detach().clone().to(dtype).requires_grad_() for x in qkv)
    out = attention(q, k, v, pad)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    out.backward(weight.bfloat16().to(dtype))
    return [x.detach().double() for x in (out, q.grad, k.grad, v.grad)]


def plain(q, k, v, pad):
    logits = torch.einsum("bthd,bshd->bhts", q * q.shape[-1] ** -0.5, k)
    if pad is not None:
        logits = logits.masked_fill(pad[:, None, None, :], -torch.inf)
    return torch.einsum("bhts,bshd->bthd", logits.softmax(-1), v)


def worst(got, expected):
    return [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(got, expected, strict=True)]


@pytest.fixture(params=[1.0, 6.0], ids=["flat", "peaked"])
def qkv(request):
    x = torch.randn(3, 3, 7, 2, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    return [x[0] * request.param, x[1], x[2]]


@pytest.mark.parametrize("rows", [512, 3, 1])
@pytest.mark.parametrize("pad", [None, PAD], ids=["full", "padded"])
def test_as_exact_as_attention_by_matrix_products(qkv, pad, rows, monkeypatch):
    """Output and gradients, at most twice as far from float64 as the formula in bfloat16."""
    monkeypatch.setattr(attention_cpu, "_ROWS", rows)
    truth = run(plain, qkv, pad, dtype=torch.float64)
    for mine, theirs in zip(
        worst(run(attend_in_blocks, qkv, pad), truth), worst(run(plain, qkv, pad), truth), strict=True
    ):
        assert mine <= 2 * max(theirs, 2**-8)  # one rounding


def test_exact_in_float32(qkv):
    got, truth = (
        run(f, qkv, PAD, dtype=dtype) for f, dtype in ((attend_in_blocks, torch.float32), (plain, torch.float64))
    )
    assert max(worst(got, truth)) < 1e-6


def test_keeps_no_map():
    """What is kept for the backward pass grows with the tokens, not with their square."""
    kept = []
    for n_tokens in (64, 128):
        q, k, v = (torch.randn(1, n_tokens, 2, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            attend_in_blocks(q, k, v)
        kept.append(sum(sizes))
    assert kept[1] == 2 * kept[0]


def test_used_for_training_in_bfloat16_only(qkv, monkeypatch):
    monkeypatch.setattr(attention_cpu, "_has_bfloat16", lambda: True)
    used = []
    monkeypatch.setattr(attention_cpu, "attend_in_blocks", lambda q, *rest: used.append(1) or q)
    trained = [x.requires_grad_() for x in qkv]
    attend(*trained)
    assert len(used) == 1
    attend(*trained, dropout=0.1)
    attend(*(x.float() for x in trained))
    with torch.no_grad():
        attend(*trained)
    monkeypatch.setattr(attention_cpu, "_has_bfloat16", lambda: False)
    attend(*trained)
    assert len(used) == 1


def test_under_autocast_as_without(qkv):
    with torch.autocast("cpu", torch.bfloat16):
        inside = run(attend_in_blocks, qkv)
    assert all(torch.equal(a, b) for a, b in zip(inside, run(attend_in_blocks, qkv), strict=True))
