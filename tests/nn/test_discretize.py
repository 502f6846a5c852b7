import numpy as np
import pytest
import torch

from grnlab.nn.discretize import AutoDiscretization


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_the_formula(bias):
    torch.manual_seed(0)
    module = AutoDiscretization(5, 4, alpha=0.7, slope=0.01, bias=bias)
    first, second = module.first.weight.numpy(), module.second.weight.numpy()
    b1, b2 = (module.first.bias.numpy(), module.second.bias.numpy()) if bias else (0.0, 0.0)
    for value in (0.0, 0.3, 7.0):
        h = first[:, 0] * value + b1
        h = np.where(h > 0, h, 0.01 * h)
        logits = second @ h + b2 + 0.7 * h
        weights = np.exp(logits - logits.max())
        expected = weights / weights.sum() @ module.bins.weight.numpy()
        np.testing.assert_allclose(module(torch.tensor([[value]]))[0, 0].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_alpha_is_learned_where_asked():
    learned = AutoDiscretization(5, 4, alpha=1.0, learn_alpha=True)
    assert learned.alpha in set(learned.parameters())
    learned(torch.tensor([[2.0]])).sum().backward()
    assert learned.alpha.grad is not None
    assert "alpha" not in AutoDiscretization(5, 4, alpha=1.0).state_dict()
