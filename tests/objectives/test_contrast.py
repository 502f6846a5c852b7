from types import SimpleNamespace

import numpy as np
import pytest
import torch

from grnlab.backbones import Encoded
from grnlab.objectives import Contrast


def encoded(*embeddings):
    """One tensor of shape (cells, d) per embedding: of the cell, then of its classes."""
    cell, *classes = (torch.as_tensor(x, dtype=torch.float32) for x in embeddings)
    return Encoded(cell[:, None], cell, {f"class {place}": x for place, x in enumerate(classes)}, cell[:, None])


def loss(*embeddings):
    return Contrast().loss(SimpleNamespace(), encoded(*embeddings), seen=None, target=None)


def test_by_hand():
    """Units e1, e2, e1: of the nine cosines five are 1 and four 0. The second cell has e1 and -e1, and e2."""
    cell, one, two = [[3.0, 0.0], [2.0, 0.0]], [[0.0, 2.0], [-5.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]
    assert loss(cell[:1], one[:1], two[:1]).item() == pytest.approx(5 / 9)
    assert loss(cell, one, two).item() == pytest.approx((5 / 9 + 1 / 9) / 2)


@pytest.mark.parametrize("n_cells", [1, 4])
def test_is_1_minus_the_loss_as_the_paper_prints_it(n_cells):
    embeddings = torch.randn(3, n_cells, 8, generator=torch.Generator().manual_seed(0))
    printed = []
    for cell in embeddings.double().transpose(0, 1).numpy():
        unit = cell / np.linalg.norm(cell, axis=1, keepdims=True)
        printed.append(sum(1 - a @ b for a in unit for b in unit) / 9)
    assert loss(*embeddings).item() == pytest.approx(1 - np.mean(printed), rel=1e-5)


def test_a_step_down_makes_embeddings_unlike():
    embeddings = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)) + 1.0
    embeddings.requires_grad_()
    before = loss(*embeddings)
    before.backward()
    assert torch.isfinite(embeddings.grad).all()
    assert loss(*(embeddings - 5.0 * embeddings.grad).detach()) < before
    assert loss([[1.0, 0.0]], [[1.0, 0.0]]).item() == 1.0
    assert loss([[1.0, 0.0]], [[-1.0, 0.0]]).item() == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    """Lengths from nothing to the largest float16: the loss and its gradient stay those of float32."""
    embeddings = torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    embeddings *= torch.tensor([0.0, 1e-3, 1.0, 3e4])[:, None]
    half = embeddings.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        cell, one = half
        got = Contrast().loss(None, Encoded(cell, cell, {"one": one}, cell), seen=None, target=None)
    got.backward()
    assert got.dtype == torch.float32
    assert torch.isfinite(half.grad).all()
    torch.testing.assert_close(got, loss(*half.detach().float()))


def test_without_classes():
    with pytest.raises(ValueError, match="the model has no classes"):
        loss([[1.0, 0.0]])
    tokens = object()
    assert Contrast().corrupt(tokens, generator=torch.Generator()) is tokens
