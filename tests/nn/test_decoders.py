import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from grnlab.nn import CellDecoder, ClassDecoder, CountDistribution, ExpressionDecoder
from grnlab.nn.decoders import log_prob_of_any

KINDS = ("zinb", "nb", "mse")
DEPTH = torch.tensor([100.0, 3.0])


@pytest.fixture
def x():
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pad():
    return torch.arange(5) >= torch.tensor([[5], [3]])


@pytest.fixture(params=["expression", "cell"])
def decode(request):
    def run(kind, x, depth=DEPTH, pad=None):
        torch.manual_seed(1)
        if request.param == "expression":
            return ExpressionDecoder(8, kind=kind)(x, depth, pad_BT=pad)
        return CellDecoder(8, kind=kind)(x, x[:, 0], depth, pad_BT=pad)

    return run


@pytest.mark.parametrize("kind", ["zinb", "nb"])
@pytest.mark.parametrize("padded", [True, False])
def test_means_share_the_depth(decode, kind, padded, x, pad):
    got = decode(kind, x, pad=pad if padded else None)
    real = ~pad if padded else torch.ones_like(pad)
    torch.testing.assert_close((got.mean_BT * real).sum(-1), DEPTH)
    assert (got.zero_logit_BT is None) == (kind == "nb")
    assert got.log_theta_BT.shape == got.log_mean_BT.shape == (2, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing_and_passes_no_nan(decode, kind, x, pad):
    x = x.clone().requires_grad_()
    got = decode(kind, x, pad=pad)
    short = decode(kind, x[1:, :3], DEPTH[1:])
    for name in ("log_mean_BT", "log_theta_BT", "zero_logit_BT"):
        if getattr(got, name) is not None:
            torch.testing.assert_close(getattr(got, name)[1:, :3], getattr(short, name))
    assert torch.isfinite(got.log_mean_BT).all()
    got.log_mean_BT[~pad].sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_expression_decoder_by_hand(kind, x):
    torch.manual_seed(1)
    decoder = ExpressionDecoder(8, kind=kind)
    got = decoder(x, DEPTH)
    raw = decoder.mlp(x).detach().numpy()
    assert raw.shape[-1] == {"zinb": 3, "nb": 2, "mse": 1}[kind]
    if kind == "mse":
        np.testing.assert_array_equal(got.log_mean_BT.detach(), raw[..., 0])
        np.testing.assert_allclose(got.mean_BT.detach(), 2 ** raw[..., 0] - 1, rtol=1e-5)
        return
    expected = softmax(raw[..., 0], axis=-1) * DEPTH[:, None].numpy()
    np.testing.assert_allclose(got.mean_BT.detach(), expected, rtol=1e-5)
    np.testing.assert_array_equal(got.log_theta_BT.detach(), raw[..., 1])
    if kind == "zinb":
        np.testing.assert_array_equal(got.zero_logit_BT.detach(), raw[..., 2])


def test_cell_decoder_is_bilinear_in_the_embedding(x):
    torch.manual_seed(1)
    decoder = CellDecoder(8, kind="nb")
    cell = torch.randn(2, 8)
    got = decoder(x, cell, DEPTH)
    query = decoder.query(x).detach().numpy()
    keys = decoder.cell(cell).detach().numpy().reshape(2, 2, 8)  # first the mean, then the dispersion
    np.testing.assert_allclose(got.log_theta_BT.detach(), np.einsum("btm,bm->bt", query, keys[:, 1]), atol=1e-5)
    share = softmax(np.einsum("btm,bm->bt", query, keys[:, 0]), axis=-1)
    np.testing.assert_allclose(got.mean_BT.detach(), share * DEPTH[:, None].numpy(), rtol=1e-4)


def test_an_empty_cell_has_a_finite_mean(x):
    got = ExpressionDecoder(8)(x, torch.zeros(2))
    assert torch.isfinite(got.log_mean_BT).all()
    assert got.mean_BT.sum() < 1e-5


@pytest.mark.parametrize("bias", [1e3, -1e3])
def test_dispersion_is_capped(bias, x):
    decoder = ExpressionDecoder(8)
    torch.nn.init.constant_(decoder.mlp[-1].bias, bias)
    assert (decoder(x, DEPTH).log_theta_BT == np.sign(bias) * 15.0).all()


def test_half_precision_gives_float32():
    decoder = ExpressionDecoder(8).to(torch.bfloat16)
    got = decoder(torch.randn(2, 5, 8, dtype=torch.bfloat16), DEPTH)
    assert got.log_mean_BT.dtype == got.log_theta_BT.dtype == torch.float32


def test_class_decoder(x):
    torch.manual_seed(0)
    decoder = ClassDecoder(8, 3)
    hidden = torch.relu(torch.nn.functional.layer_norm(x[:, 0] @ decoder.mlp[0].weight.T + decoder.mlp[0].bias, (8,)))
    torch.testing.assert_close(decoder(x[:, 0]), hidden @ decoder.mlp[3].weight.T + decoder.mlp[3].bias)


def test_members_of_labels():
    assert ClassDecoder(8, 2).members_LK.tolist() == [[True, False], [False, True]]
    decoder = ClassDecoder(8, 3, groups=[[0, 2], [1]])
    assert decoder.members_LK.int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]]
    assert decoder.state_dict().keys() == ClassDecoder(8, 3).state_dict().keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_log_prob_of_any(dtype):
    logits = torch.tensor([[0.0, 1.0, 2.0], [3e4, 0.0, -3e4], [0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    members = torch.tensor([[True, False, True], [False, True, False], [True, True, True]])
    got = log_prob_of_any(logits, members)
    expected = logsumexp(np.where(members, logits.detach().double(), -np.inf), axis=1) - logsumexp(
        logits.detach().double(), axis=1
    )
    np.testing.assert_allclose(got.detach(), expected, rtol=1e-6, atol=1e-7)
    assert got.dtype == torch.float32
    got.sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[2].any()  # all leaves: probability 1, nothing to learn


@pytest.mark.parametrize("decoder", [ExpressionDecoder, CellDecoder])
def test_unknown_kind(decoder):
    with pytest.raises(ValueError, match="'poisson' is unknown"):
        decoder(8, kind="poisson")


def test_mean_of_counts():
    log_mean = torch.tensor([[0.0, 2.0]])
    torch.testing.assert_close(CountDistribution("nb", log_mean).mean_BT, log_mean.exp())
    assert CountDistribution("mse", log_mean).mean_BT.tolist() == [[0.0, 3.0]]
