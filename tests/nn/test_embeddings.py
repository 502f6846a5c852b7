import numpy as np
import pytest
import torch

from grnlab.nn import DepthEncoder, GenomePosition, ValueEncoder
from grnlab.nn.embeddings import scale_values

SCALES = ["log2", "fraction"]
VALUES = torch.tensor([[0.0, 1.0, 3.0, 4.0], [2.0, 2.0, 0.0, 0.0]])
REAL = torch.tensor([[True] * 4, [True, True, True, False]])


def test_scales():
    assert scale_values(torch.tensor([[0.0, 1.0, 7.0]]), "log2").tolist() == [[0.0, 1.0, 3.0]]
    torch.testing.assert_close(scale_values(VALUES, "fraction")[0], torch.tensor([0.0, 0.125, 0.375, 0.5]))
    assert scale_values(torch.zeros(1, 3), "fraction").tolist() == [[0.0, 0.0, 0.0]]


def test_padded_counts_are_no_part_of_the_fraction():
    dirty = VALUES.masked_fill(~REAL, 100.0)
    torch.testing.assert_close(scale_values(dirty, "fraction", REAL)[REAL], scale_values(VALUES, "fraction")[REAL])


def test_unknown_scale():
    with pytest.raises(ValueError, match="'log10' is unknown"):
        ValueEncoder(4, scale="log10")


@pytest.mark.parametrize("scale", SCALES)
def test_equal_counts_have_equal_embeddings(scale):
    encoded = ValueEncoder(4, scale=scale)(torch.tensor([[3.0, 1.0, 3.0]]))
    assert encoded.shape == (1, 3, 4)
    assert torch.equal(encoded[0, 0], encoded[0, 2])
    assert not torch.allclose(encoded[0, 0], encoded[0, 1])


@pytest.mark.parametrize("scale", SCALES)
def test_hidden_counts_leave_no_trace(scale):
    torch.manual_seed(0)
    encoder = ValueEncoder(4, scale=scale)
    torch.nn.init.normal_(encoder.hidden)
    hidden = torch.tensor([[False, True, False, True], [True, False, False, False]])
    encoded = encoder(VALUES, hidden_BT=hidden, real_BT=REAL)
    torch.testing.assert_close(encoded[hidden], encoder.hidden.expand(3, -1))
    again = encoder(VALUES.masked_fill(hidden, 1e6), hidden_BT=hidden, real_BT=REAL)
    torch.testing.assert_close(again, encoded, rtol=0, atol=0)
    seen = encoder(VALUES.masked_fill(hidden, 0.0), real_BT=REAL)
    torch.testing.assert_close(encoded[~hidden], seen[~hidden])


def test_depth_is_read_as_log2():
    torch.manual_seed(0)
    encoder = DepthEncoder(4)
    torch.testing.assert_close(encoder(torch.tensor([7.0, 1023.0])), encoder.mlp(torch.tensor([[3.0], [10.0]])))


def test_genome_position_by_the_formula():
    ranks = np.array([0, 5, 5, 30_000])
    position = GenomePosition(ranks, 6)
    angle = ranks[:, None] / 10_000 ** (np.arange(0, 6, 2) / 6)
    expected = np.empty((4, 6))
    expected[:, 0::2], expected[:, 1::2] = np.sin(angle), np.cos(angle)
    got = position(torch.tensor([[0, 1], [2, 3]])).reshape(4, 6)
    np.testing.assert_allclose(got, expected, atol=5e-3)  # float32 angles of some 10⁴
    np.testing.assert_allclose(got[:3], expected[:3], atol=1e-6)
    assert torch.equal(got[1], got[2])
    assert not list(position.state_dict())


def test_genome_position_needs_an_even_width():
    with pytest.raises(ValueError, match="d_model=5 must be even"):
        GenomePosition(np.arange(3), 5)
