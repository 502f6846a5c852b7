import pytest
import torch

from grnlab.nn import SequenceDecoder


@pytest.fixture(params=["mlp", "lstm"])
def decoder(request):
    torch.manual_seed(0)
    return SequenceDecoder(8, kind=request.param, d_hidden=6).eval()


def tokens(n_genes=7, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    genes = torch.stack([torch.randperm(20, generator=generator)[:n_genes] for _ in range(3)])
    return torch.randn(3, n_genes, 8, generator=generator), genes


def test_the_order_of_the_genes_changes_nothing(decoder):
    x, genes = tokens()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    torch.testing.assert_close(decoder(x[:, order], genes[:, order]), decoder(x, genes)[:, order])


def test_padding_changes_nothing(decoder):
    x, genes = tokens()
    pad = torch.zeros_like(genes, dtype=torch.bool)
    pad[1, 4:] = True
    padded = decoder(x, genes, pad_BT=pad)
    alone = decoder(x[1:2, :4], genes[1:2, :4])
    torch.testing.assert_close(padded[1:2, :4], alone)
    torch.testing.assert_close(padded[0], decoder(x, genes)[0])
    scattered = x.clone()
    scattered[1, 4:] = 99.0
    torch.testing.assert_close(decoder(scattered, genes, pad_BT=pad)[1, :4], padded[1, :4])


def test_an_lstm_lets_genes_speak_to_each_other_and_an_mlp_does_not(decoder):
    x, genes = tokens()
    moved = x.clone()
    moved[:, 2] += 1.0
    others = [0, 1, 3, 4, 5, 6]
    same = torch.allclose(decoder(moved, genes)[:, others], decoder(x, genes)[:, others])
    assert same == (decoder.kind == "mlp")


def test_gradients_reach_every_weight(decoder):
    x, genes = tokens()
    decoder(x, genes).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in decoder.parameters())


def test_what_is_wrong_is_named():
    with pytest.raises(ValueError, match="decoder 'gru' is unknown"):
        SequenceDecoder(8, kind="gru")
    with pytest.raises(ValueError, match="d_hidden=5 must be even"):
        SequenceDecoder(8, kind="lstm", d_hidden=5)
