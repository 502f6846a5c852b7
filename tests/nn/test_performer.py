import numpy as np
import pytest
import torch
from torch import nn

from grnlab.nn import FavorAttention, PerformerStack
from grnlab.nn.performer import as_recorded, favor_features, linear_attention, orthogonal_features

D_HEAD = 6


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def qkv():
    return torch.randn(3, 2, 9, 3, D_HEAD, generator=drawn(), dtype=torch.float64).unbind()


@pytest.fixture
def pad():
    return torch.arange(9) >= torch.tensor([[9], [5]])


@pytest.fixture
def module():
    torch.manual_seed(1)
    module = FavorAttention(12, 3, n_features=10)
    nn.init.normal_(module.qkv.bias)
    return module.double()


def softmax_map(q, k):
    return (torch.einsum("bthd,bshd->bhts", q, k) / D_HEAD**0.5).softmax(-1)


def kernel_map(q, k, projection, pad=None, eps=1e-4):
    """Equation 7 of the paper with the constants of its authors' code; loops over cells, heads, tokens."""
    q, k, omega = q.numpy(), k.numpy(), projection.double().numpy()
    n_cells, n_tokens, n_heads, d_head = q.shape
    maps = np.zeros((n_cells, n_heads, n_tokens, n_tokens))
    for cell in range(n_cells):
        real = np.ones(n_tokens, bool) if pad is None else ~pad[cell].numpy()
        largest = max(
            (omega @ k[cell, j, h] / d_head**0.25).max() for j in np.flatnonzero(real) for h in range(n_heads)
        )
        for head in range(n_heads):
            for i in range(n_tokens):
                project = omega @ q[cell, i, head] / d_head**0.25
                norm = (q[cell, i, head] ** 2).sum() / d_head**0.5 / 2
                phi_q = np.exp(project - norm - project.max()) + eps
                for j in np.flatnonzero(real):
                    norm = (k[cell, j, head] ** 2).sum() / d_head**0.5 / 2
                    maps[cell, head, i, j] = phi_q @ (
                        np.exp(omega @ k[cell, j, head] / d_head**0.25 - norm - largest) + eps
                    )
    return maps / maps.sum(-1, keepdims=True)


def features(q, k, projection, pad=None, **options):
    return (
        favor_features(q, projection, is_query=True, **options),
        favor_features(k, projection, is_query=False, pad_BT=pad, **options),
    )


@pytest.mark.parametrize("padded", [False, True])
def test_attention_equals_the_paper(qkv, pad, padded):
    q, k, v = qkv
    pad = pad if padded else None
    projection = orthogonal_features(20, D_HEAD, generator=drawn(1)).double()
    phi_q, phi_k = features(q, k, projection, pad)
    expected = kernel_map(q, k, projection, pad)
    out = np.einsum("bhts,bshd->bthd", expected, v.numpy())
    np.testing.assert_allclose(linear_attention(phi_q, phi_k, v), out, atol=1e-12)
    recorded = torch.einsum("bthr,bshr->bhts", *as_recorded(phi_q, phi_k, pad))
    np.testing.assert_allclose(recorded, expected, atol=1e-12)


def test_the_kernel_is_unbiased(qkv):
    """The mean over draws of φ(q) · φ(k), constants put back, is exp(q · k / √d) within its standard error."""
    q, k = qkv[0][0, :4, 0] / 2, qkv[1][0, :4, 0] / 2
    found = []
    for seed in range(400):
        omega = orthogonal_features(D_HEAD, D_HEAD, generator=drawn(seed)).double()
        phi = favor_features(torch.stack([q, k]).unsqueeze(2), omega, is_query=False, eps=0.0)  # c is that of a cell
        largest = (torch.stack([q, k]) * D_HEAD**-0.25 @ omega.T).amax((1, 2))
        found.append((phi[0, :, 0] @ phi[1, :, 0].T * largest.sum().exp()).numpy())
    exact = (q @ k.T / D_HEAD**0.5).exp().numpy()
    error = np.std(found, axis=0) / len(found) ** 0.5
    assert (np.abs(np.mean(found, axis=0) - exact) < 4 * error).all()
    assert (error < 0.2 * exact).all()


def test_more_features_come_closer_to_softmax(qkv):
    q, k = qkv[0] / 2, qkv[1] / 2
    exact, errors = softmax_map(q, k), []
    for n_features in (30, 480, 7680):
        found = []
        for seed in range(6):
            projection = orthogonal_features(n_features, D_HEAD, generator=drawn(seed)).double()
            estimate = torch.einsum("bthr,bshr->bhts", *as_recorded(*features(q, k, projection, eps=0.0)))
            found.append((estimate - exact).square().mean())
        errors.append(torch.stack(found).mean().sqrt().item())
    ratios = np.divide(errors[:-1], errors[1:])
    assert ((ratios > 2.5) & (ratios < 6)).all()  # 16 times the features, a quarter of the error
    assert errors[2] < 0.005


def test_directions_are_orthogonal_and_as_long_as_normal_ones():
    omega = orthogonal_features(2_000 * 8 + 3, 8, generator=drawn())
    assert omega.shape == (16_003, 8)
    block = omega[8:16] @ omega[8:16].T
    torch.testing.assert_close(block, block.diagonal().diag(), rtol=0, atol=1e-5)
    torch.testing.assert_close(omega.T @ omega / len(omega), torch.eye(8), rtol=0, atol=0.05)
    assert omega.mean(0).abs().max() < 0.05


def test_invariant_of_what_is_recorded(module, pad):
    x, seen = torch.randn(2, 9, 12, generator=drawn(), dtype=torch.float64), []
    out = module(x, pad_BT=pad, record=lambda *what: seen.append(what))
    ((layer, q, k, v, recorded),) = seen
    assert layer == 0
    assert q.shape == k.shape == (2, 9, 3, 10)
    kernel = torch.einsum("bthr,bshr->bhts", q, k)
    torch.testing.assert_close(kernel.sum(-1), torch.ones(2, 3, 9).double())
    torch.testing.assert_close(torch.einsum("bhts,bshd->bthd", kernel, v), recorded)
    torch.testing.assert_close(module.out(recorded.flatten(-2)), out)
    torch.testing.assert_close(k.mean(-1).sum(1) / (~pad).sum(1, keepdim=True), torch.ones(2, 3).double())
    module.record_qk(x, pad_BT=pad, layer=0, record=lambda *what: seen.append(what))
    assert all(torch.equal(*pair) for pair in zip(seen[0][1:3], seen[1][1:3], strict=True))
    assert seen[1][3:] == (None, None)


def test_padding_is_never_attended_to(module, pad):
    x = torch.randn(2, 9, 12, generator=drawn(), dtype=torch.float64)
    alone = module(x[1:, :5])
    x[pad] = 50.0
    torch.testing.assert_close(module(x, pad_BT=pad)[1, :5], alone[0])


def test_gradients(module, pad):
    x = torch.randn(2, 9, 12, generator=drawn(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: module(x, pad_BT=pad), x)
    assert torch.autograd.gradcheck(
        lambda weight: torch.func.functional_call(module, {"qkv.weight": weight}, x.detach()), module.qkv.weight
    )


def test_a_stack_learns_and_redraws():
    torch.manual_seed(0)
    stack = PerformerStack(2, 16, 4, n_features=12, seed=3)
    x, target = torch.randn(2, 8, 10, 16, generator=drawn())
    optimiser, losses = torch.optim.Adam(stack.parameters(), lr=3e-3), []
    for _ in range(25):
        loss = (stack(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    first = [block.attention.projection_RD.clone() for block in stack.layers]
    assert not torch.equal(*first)
    stack.redraw(4)
    assert not torch.equal(stack.layers[0].attention.projection_RD, first[0])
    stack.redraw(3)
    assert all(torch.equal(block.attention.projection_RD, old) for block, old in zip(stack.layers, first, strict=True))
    seen, alone = [], []
    stack(x, record=lambda layer, q, k, v, out: seen.extend([q, k]))
    stack.record_qk(x, record=lambda layer, q, k, v, out: alone.extend([q, k]))
    assert all(torch.equal(*pair) for pair in zip(seen, alone, strict=True))


def test_memory_grows_with_the_tokens_not_their_square():
    module, sizes = FavorAttention(16, 2, n_features=8).eval(), []

    def pack(x):
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        module(torch.zeros(1, 3_000, 16))
    assert max(sizes) <= 3_000 * 2 * 3 * 16


def test_sizes():
    assert FavorAttention(512, 8).projection_RD.shape == (266, 64)
    assert FavorAttention(10, 4, d_head=3, n_features=5)(torch.zeros(1, 2, 10)).shape == (1, 2, 10)
    with pytest.raises(ValueError, match="d_model=10 must be a multiple of n_heads=4, or give d_head"):
        FavorAttention(10, 4)


def test_dropout_is_for_training_alone():
    torch.manual_seed(0)
    stack = PerformerStack(2, 12, 3, dropout=0.5)
    x = torch.randn(2, 5, 12)
    assert not torch.equal(stack(x), stack(x))
    still = stack.eval()(x)
    assert torch.equal(still, stack(x))
    plain = PerformerStack(2, 12, 3).train()
    plain.load_state_dict(stack.state_dict())
    torch.testing.assert_close(plain(x), still)
