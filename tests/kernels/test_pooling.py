import numpy as np
import pytest
import torch
from grnlab_kernels import add_by_gene
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 1000))
def test_equals_a_loop(genes, seed):
    rows = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(genes), 3))).float()
    total, count = torch.full((7, 3), 0.5), torch.arange(7)
    add_by_gene(total, count, rows, torch.tensor(genes, dtype=torch.int64))
    expected, expected_count = np.full((7, 3), 0.5), np.arange(7)
    for gene, row in zip(genes, rows.numpy(), strict=True):
        expected[gene] += row
        expected_count[gene] += 1
    np.testing.assert_allclose(total.numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(count.numpy(), expected_count)
    assert count.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_sums_in_the_precision_of_the_total(dtype):
    """4,000 half-precision ones: a sum kept in half precision would stick at 256 or 2,048."""
    total, count = torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64)
    add_by_gene(total, count, torch.ones(4_000, 1, dtype=dtype), torch.ones(4_000, dtype=torch.int64))
    assert total.dtype == torch.float32
    assert total.ravel().tolist() == [0.0, 4_000.0]
    assert count.tolist() == [0, 4_000]


def test_an_unknown_gene_raises():
    with pytest.raises((IndexError, RuntimeError)):
        add_by_gene(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), torch.ones(1, 1), torch.tensor([2]))
