import pytest
import torch
import torch.nn.functional as F

from grnlab.nn.perceiver import CrossAttention, CrossBlock, Perceiver, attention_map, cross_attend


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 3, 4, generator=generator) for n in (5, 7, 7))
    blind = torch.rand(2, 7, generator=generator) < 0.4
    assert blind.any()
    assert not blind.all(1).any()
    return q, k, v, blind


@pytest.mark.parametrize("with_blind", [True, False])
def test_cross_attend_against_pytorch(parts, with_blind):
    q, k, v, blind = parts
    blind = blind if with_blind else None
    mask = None if blind is None else ~blind[:, None, None, :]
    expected = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(cross_attend(q, k, v, blind_BT=blind), expected, rtol=0, atol=1e-6)
    rows = attention_map(q, k, blind_BT=blind)
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 3, 5))
    if blind is not None:
        assert (rows.transpose(2, 3)[blind[:, None].expand(-1, 3, -1)] == 0).all()


def test_where_there_is_nothing_to_attend_to(parts):
    q, k, v, blind = parts
    blind = blind.clone()
    blind[0] = True
    q.requires_grad_()
    out = cross_attend(q, k, v, blind_BT=blind)
    assert (out[0] == 0).all()
    assert (out[1] != 0).all()
    out.sum().backward()
    assert torch.isfinite(q.grad).all()
    assert (q.grad[0] == 0).all()


def test_the_scale_of_what_is_attended_to_is_not_normalised_away():
    """A norm of keys and values would make a scaled embedding the same as the embedding."""
    torch.manual_seed(0)
    block, x, y = CrossBlock(8, 2).eval(), torch.randn(1, 3, 8), torch.randn(1, 4, 8)
    assert not torch.allclose(block(x, y), block(x, 3 * y), atol=1e-2)


@pytest.mark.parametrize("mixing", [True, False])
@torch.no_grad()
def test_two_hops_are_the_module_the_long_way(mixing):
    """Rebuilt from the features: the encoder's output, mixed, under the decoder's attention; by loops in float64."""
    torch.manual_seed(1)
    model = Perceiver(5, 2, 8, n_heads=2).eval().double()
    y, query = torch.randn(2, 6, 8).double(), torch.randn(2, 4, 8).double()
    blind = torch.zeros(2, 6, dtype=torch.bool)
    blind[:, 4:] = True
    hops = model.hops(query, y, blind_BT=blind, mixing=mixing)
    q, k = hops.features()
    v, out = hops.values()
    assert (q.shape, k.shape, v.shape, out.shape) == ((2, 4, 4, 5), (2, 6, 4, 5), (2, 6, 4, 4), (2, 4, 4, 4))
    rows = torch.einsum("bqpn,btpn->bpqt", q, k)
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 4, 4).double())
    assert (rows >= 0).all()
    assert (rows[..., 4:] == 0).all()
    torch.testing.assert_close(torch.einsum("bpqt,btpd->bqpd", rows, v), out, rtol=0, atol=1e-12)

    captured, maps = {}, []
    model.encoder.attention.out.register_forward_pre_hook(lambda _, x: captured.update(read=x[0]))
    model.decoder.attention.q.register_forward_hook(lambda *args: captured.update(ask=args[-1]))
    model.decoder.attention.kv.register_forward_hook(lambda *args: captured.update(answer=args[-1][..., :8]))
    latents = model.encode(y, blind_BT=blind)
    model.decode(query, latents)
    start = model.encoder(model.latents.expand(2, -1, -1), y, blind_BT=blind)
    model.process(start, record=lambda layer, q, k, *_: maps.append(attention_map(q, k).mean(1)))
    for cell in range(2):
        mixed = torch.eye(5).double()
        for step in maps if mixing else []:
            mixed = (step[cell] + torch.eye(5)) / 2 @ mixed
        for a in range(2):
            for b in range(2):
                ask, answer = (captured[name][cell].unflatten(-1, (2, 4))[:, a] for name in ("ask", "answer"))
                read = captured["read"][cell].unflatten(-1, (2, 4))[:, b]
                asked = (ask @ answer.T / 2).softmax(-1)
                torch.testing.assert_close(out[cell, :, 2 * a + b], asked @ mixed @ read, rtol=0, atol=1e-12)


def test_heads_must_fit():
    with pytest.raises(ValueError, match="d_model=10 must be a multiple of n_heads=4"):
        CrossAttention(10, 4)
