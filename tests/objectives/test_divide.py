from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from grnlab.backbones import CellLM, CellLMConfig
from grnlab.backbones.xtrimogene_tokens import DepthTokens
from grnlab.objectives import DropoutContrast, MaskBins, build_objectives
from grnlab.objectives.divide import info_nce, split_cells

N_CELLS = 16


@pytest.fixture
def model(tiny_vocab):
    torch.manual_seed(0)
    return CellLM(tiny_vocab, CellLMConfig(n_layers=2, d_model=16, n_heads=2, n_features=6, dropout=0.3)).double()


@pytest.fixture
def tokens(make_tokens):
    cells = make_tokens((9,) * N_CELLS, hidden=True)
    return replace(cells, values_BT=cells.values_BT.double(), totals_B=cells.totals_B.double())


def run(model, loss_of):
    """Loss, gradients, and bytes kept between forward and backward."""
    held = {}

    def keep(x):
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    torch.manual_seed(3)
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = loss_of()
    loss.backward()
    gradients = {name: x.grad for name, x in model.named_parameters() if x.grad is not None}
    return loss.item(), gradients, sum(held.values())


def views(model, tokens, at_once):
    """Both views with all activations kept, part after part: the same draws of dropout."""
    parts = split_cells(tokens, at_once)
    return (torch.cat([model.encode(part).cell_BM for part in parts]) for _ in range(2))


def cosines(first, second):
    return F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T


def in_batch(model, tokens, at_once):
    return F.cross_entropy(cosines(*views(model, tokens, at_once)) / 0.05, torch.arange(N_CELLS))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("at_once", [1, 4, 5, 16])
def test_gradients_equal_end_to_end(model, tokens, at_once, training):
    """The claim of the paper, in float64, with dropout replayed: 1e-6 of every gradient, and far less is held."""
    model.train(training)
    task = DropoutContrast(at_once=at_once)
    loss, gradients, held = run(model, lambda: task.loss(model, None, seen=tokens, target=tokens))
    expected, end_to_end, all_held = run(model, lambda: in_batch(model, tokens, at_once))
    assert loss == pytest.approx(expected, abs=1e-12)
    assert gradients.keys() == end_to_end.keys()
    assert max(x.abs().max() for x in end_to_end.values()) > 1e-2
    for name, gradient in end_to_end.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-6, atol=1e-10)
    assert held < all_held / 5


def test_gradients_equal_the_three_steps_of_the_paper(model, tokens):
    """Encode all without gradients; encode part by part with them against the stored rest; add the gradients up."""
    model.train()
    _, gradients, _ = run(model, lambda: DropoutContrast(at_once=4).loss(model, None, seen=tokens, target=tokens))
    torch.manual_seed(3)
    model.zero_grad()
    parts, states, stored = split_cells(tokens, 4), [], []
    with torch.no_grad():
        for _ in range(2):
            for part in parts:
                states.append(torch.get_rng_state())
                stored.append(model.encode(part).cell_BM)
    for number in range(4):
        embeddings = list(stored)
        for place in (number, 4 + number):
            torch.set_rng_state(states[place])
            embeddings[place] = model.encode(parts[number]).cell_BM
        first, second = torch.cat(embeddings).chunk(2)
        F.cross_entropy(cosines(first, second) / 0.05, torch.arange(N_CELLS)).backward()
    for name, x in model.named_parameters():
        if x.grad is not None:
            torch.testing.assert_close(gradients[name], x.grad, rtol=1e-6, atol=1e-10)


def test_parts_do_not_matter_without_dropout(model, tokens):
    model.eval()
    tasks = [DropoutContrast(at_once=n) for n in (3, N_CELLS)]
    found = [run(model, lambda task=task: task.loss(model, None, seen=tokens, target=tokens)) for task in tasks]
    whole = run(model, lambda: DropoutContrast().loss(model, model.encode(tokens), seen=tokens, target=tokens))
    for loss, gradients, _ in found:
        assert loss == pytest.approx(whole[0], abs=1e-12)
        for name, gradient in whole[1].items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-6, atol=1e-10)


def test_what_is_held_does_not_grow_with_the_batch(model, make_tokens):
    """Inputs, seeds and embeddings grow; activations do not."""

    def held(n_cells, at_once):
        cells = make_tokens((9,) * n_cells)
        task = DropoutContrast(at_once=at_once)
        return run(model.train().float(), lambda: task.loss(model, None,
                                                            seen=cells, target=cells))[2]  # fmt: skip

    small, large = held(16, 8), held(64, 8)
    n_weights = sum(x.numel() * 4 for x in model.parameters())
    assert (large - small) / 48 < 3_000 < n_weights  # bytes of a cell: its tokens and two embeddings


def test_views_of_one_cell_are_told_from_others():
    cells = torch.eye(6)
    assert info_nce(cells, cells, temperature=0.01).item() == pytest.approx(0.0, abs=1e-6)
    assert info_nce(torch.ones(6, 3), torch.ones(6, 3)).item() == pytest.approx(np.log(6))
    mixed = info_nce(cells, cells.roll(1, 0), temperature=0.1)
    assert mixed.item() == pytest.approx(np.log(np.exp(10) + 5), abs=1e-5)
    torch.testing.assert_close(info_nce(cells, cells.roll(1, 0), temperature=0.1, at_once=4), mixed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(model, make_tokens, dtype):
    model.float().train()
    cells = make_tokens((9,) * 8)
    with torch.autocast("cpu", dtype=dtype):
        loss = DropoutContrast(at_once=3).loss(model, None, seen=cells, target=cells)
    assert loss.dtype == torch.float32
    loss.backward()
    assert torch.isfinite(model.gene_embedding.weight.grad).all()


def test_one_cell(model, make_tokens):
    cell = make_tokens((9,))
    with pytest.raises(ValueError, match="a batch of 1 cell has no other cells"):
        DropoutContrast().loss(model.float(), None, seen=cell, target=cell)
    with torch.no_grad():
        assert DropoutContrast(at_once=4).loss(model, None, seen=cell, target=cell).item() == 0.0


def test_settings():
    assert build_objectives([{"name": "dropout_contrast", "at_once": 8}]) == [DropoutContrast(at_once=8)]
    for name in ("temperature", "at_once"):
        with pytest.raises(ValueError, match=f"{name}=0 must be above 0"):
            DropoutContrast(**{name: 0})


def test_bins_of_hidden_genes(model, tokens):
    """Cross-entropy over the hidden expressed genes alone, by hand."""
    model.eval()
    seen = MaskBins(rate=0.5).corrupt(replace(tokens, hidden_BT=None), generator=torch.Generator().manual_seed(0))
    assert 0 < seen.hidden_BT.sum() < (tokens.values_BT > 0).sum()
    assert not (seen.hidden_BT & (tokens.values_BT == 0)).any()
    encoded = model.encode(seen)
    log_p = model.bin_decoder(encoded.genes_BTM).log_softmax(-1)
    expected = -log_p.gather(-1, model.bins(tokens).unsqueeze(-1)).squeeze(-1)[seen.hidden_BT].mean()
    torch.testing.assert_close(MaskBins().loss(model, encoded, seen=seen, target=tokens), expected.float(), rtol=1e-5,
                               atol=0)  # fmt: skip
    none = replace(seen, hidden_BT=torch.zeros_like(seen.hidden_BT))
    assert MaskBins().loss(model, encoded, seen=none, target=tokens).item() == 0.0
    with pytest.raises(ValueError, match=r"apply MaskBins\.corrupt before"):
        MaskBins().loss(model, encoded, seen=replace(tokens, hidden_BT=None), target=tokens)
    with pytest.raises(ValueError, match="rate=2 must lie between 0 and 1"):
        MaskBins(rate=2)


def test_parts_of_a_batch_keep_what_belongs_to_no_cell(make_tokens):
    """As many measured genes as cells: only the shape suffix tells a table of genes from one of cells."""
    tokens = make_tokens((5, 5, 5))
    tokens = DepthTokens(**vars(tokens), target_B=torch.arange(3.0), measured_G=torch.arange(3))
    parts = split_cells(tokens, 2)
    assert [len(part) for part in parts] == [2, 1]
    assert [part.target_B.tolist() for part in parts] == [[0, 1], [2]]
    assert all(torch.equal(part.measured_G, tokens.measured_G) for part in parts)
    assert torch.equal(torch.cat([part.labels["sex"] for part in parts]), tokens.labels["sex"])
