import pytest
import torch
import torch.nn.functional as F

from grnlab.nn import TransformerBlock, TransformerStack
from grnlab.nn.blocks import drop


@pytest.fixture
def stack():
    torch.manual_seed(0)
    stack = TransformerStack(3, 8, 2).eval()
    with torch.no_grad():
        for weight in stack.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return stack


@pytest.fixture
def x():
    return torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def pad():
    return torch.arange(6) >= torch.tensor([[6], [3]])


def test_block_is_pre_norm_with_exact_gelu(stack, x, pad):
    block = stack.layers[0]
    middle = x + block.attention(F.layer_norm(x, (8,), block.norm1.weight, block.norm1.bias, 1e-6), pad_BT=pad)
    inner = F.layer_norm(middle, (8,), block.norm2.weight, block.norm2.bias, 1e-6)
    hidden = inner @ block.mlp[0].weight.T + block.mlp[0].bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    expected = middle + hidden @ block.mlp[2].weight.T + block.mlp[2].bias
    assert hidden.shape[-1] == 32
    torch.testing.assert_close(block(x, pad_BT=pad), expected)


def test_stack_runs_blocks_in_order_and_ends_in_a_norm(stack, x, pad):
    expected = x
    for block in stack.layers:
        expected = block(expected, pad_BT=pad)
    torch.testing.assert_close(stack(x, pad_BT=pad), stack.norm(expected), rtol=0, atol=0)


def test_record_qk_equals_recording_the_whole_run(stack, x, pad):
    whole, short = {}, {}
    stack(x, pad_BT=pad, record=lambda layer, *rest: whole.update({layer: rest}))
    stack.record_qk(x, pad_BT=pad, record=lambda layer, *rest: short.update({layer: rest}))
    assert list(short) == list(whole) == [0, 1, 2]
    for layer, (q, k, v, out) in short.items():
        torch.testing.assert_close(q, whole[layer][0])
        torch.testing.assert_close(k, whole[layer][1])
        assert (v is None) == (out is None) == (layer == 2)


def test_record_qk_of_one_layer(x):
    seen = []
    TransformerStack(1, 8, 2).record_qk(x, record=lambda *args: seen.append(args))
    assert [args[0] for args in seen] == [0]


def test_rates_rise_to_the_last_layer():
    assert [block.drop_path for block in TransformerStack(3, 8, 2, drop_path=0.4).layers] == [0.0, 0.2, 0.4]
    assert [block.drop_path for block in TransformerStack(1, 8, 2, drop_path=0.4).layers] == [0.0]


def test_drop_path_skips_whole_cells_and_keeps_the_mean():
    torch.manual_seed(0)
    block = TransformerBlock(8, 2, drop_path=0.25).train()
    branch = block._branch(torch.ones(4_000, 2, 8))
    values = branch.flatten(1)
    assert torch.equal(values.min(1).values, values.max(1).values)
    torch.testing.assert_close(values.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert values.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(block.eval()._branch(torch.ones(3, 2, 8)), torch.ones(3, 2, 8))


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout(p, dtype):
    """The share is right, entries are independent, and what stays is scaled; gradients follow the same mask."""
    torch.manual_seed(0)
    x = torch.ones(1_001, 7, 13, dtype=dtype, requires_grad=True)
    out = drop(x, p)
    out.sum().backward()
    dropped = (out == 0).float()
    assert dropped.mean().item() == pytest.approx(p, abs=0.01)
    torch.testing.assert_close(out.unique().float(), torch.tensor([0.0, 1 / (1 - p)]), rtol=2**-8, atol=0)
    flat = dropped.flatten() - p
    for lag in (1, 2, 3, 4, 13):
        assert (flat[lag:] * flat[:-lag]).mean().abs() < 0.01 * p
    assert torch.equal(x.grad, out.detach())
    torch.testing.assert_close(drop(x, 0.0), x)


def test_dropout_of_a_block_while_training_only(x):
    torch.manual_seed(0)
    block = TransformerBlock(8, 2, dropout=0.5)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))
