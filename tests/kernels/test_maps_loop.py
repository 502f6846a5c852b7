import numpy as np
import pytest
import torch
from grnlab_kernels.maps_loop import add_exp, add_softmax, log_sum_exp

ONE = np.float32(1)


def bits(logits, dtype=torch.float32):
    kind, shift = {torch.float32: (torch.int32, 0), torch.bfloat16: (torch.int16, 16)}[dtype]
    return torch.as_tensor(logits).to(dtype).view(kind).numpy(), np.int32(shift)


def softmax(logits, *, dtype=torch.float32, scale=1.0, share=1.0):
    panel = np.zeros(logits.shape, np.float32)
    add_softmax(*bits(logits, dtype), np.float32(scale), np.float32(share), panel)
    return panel


def exponential(x, lse=None):
    panel = np.zeros((1, len(x)), np.float32)
    add_exp(*bits(x[None]), ONE, ONE, panel, np.zeros_like(x) if lse is None else lse)
    return panel[0]


def test_exponential_is_good_to_two_units():
    x = np.concatenate([np.linspace(-87.3, 0, 300_001), -np.geomspace(1e-30, 1, 1_001), [0.0]]).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(exponential(x) - exact) / exact).max() < 2 * 2**-24
    assert exponential(np.zeros(1, np.float32)) == 1


def test_exponential_at_the_edges():
    x = np.array([-88, -89, -1e3, -1e9, -3e38, -np.inf, 1e-3, 5, 1e30, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(exponential(x), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, np.nan])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n", [1, 2, 7, 16, 33, 257, 5_000])
def test_softmax_and_log_sum_exp(dtype, n):
    logits = torch.from_numpy(np.random.default_rng(n).normal(0, 4, (5, n))).to(dtype)
    exact = torch.softmax(0.3 * logits.double(), -1)
    np.testing.assert_allclose(softmax(logits, dtype=dtype, scale=0.3), exact, rtol=3e-6)
    np.testing.assert_allclose(softmax(logits, dtype=dtype, scale=0.3, share=0.25), 0.25 * exact, rtol=3e-6)
    lse = np.full(5, np.nan, np.float32)
    log_sum_exp(*bits(logits, dtype), np.float32(0.3), lse)
    np.testing.assert_allclose(lse, torch.logsumexp(0.3 * logits.double(), -1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n", [3, 30, 131, 1_001])
def test_equal_logits_get_equal_shares_wherever_they_stand(dtype, n):
    """The ends of a row, which no full vector covers, are computed as the rest; else ties would not be ties."""
    place = np.arange(n) % 3
    logits = np.array([[-0.3, 0.71, 1.9], [-9.1, -8.3, -7.7]], np.float32)[:, place]
    shares = softmax(logits, dtype=dtype)
    np.testing.assert_array_equal(shares, shares[:, place])
    one_by_one = exponential(logits[1], np.full(n, 0.013, np.float32))
    np.testing.assert_array_equal(one_by_one, one_by_one[place])


@pytest.mark.parametrize("place", [0, 1, 15, 16, 40])
def test_largest_of_any_sign(place):
    """Of negative, tiny, huge and mixed logits the largest is found, so that it gets a share of 1."""
    for logits in (np.full(41, -1e30), np.full(41, -1e-40), np.full(41, 1e30), np.linspace(-5e20, 1e20, 41)):
        row = logits.astype(np.float32)[None]
        row[0, place] = 3e38
        assert softmax(row)[0, place] == 1
    row = np.linspace(-900, -500, 41).astype(np.float32)[None]
    row[0, place] = -1.0
    assert softmax(row)[0, place] == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.nan])
@pytest.mark.parametrize("place", [0, 20, 40])
def test_a_row_that_is_not_finite_is_nan(bad, place):
    logits = np.zeros((3, 41), np.float32)
    logits[1, place] = bad
    shares = softmax(logits)
    assert np.isnan(shares[1]).all()
    np.testing.assert_allclose(shares[[0, 2]], 1 / 41, rtol=1e-6)
