import dataclasses

import numpy as np
import pytest
import torch

from grnlab.backbones import XTrimoGene, XTrimoGeneConfig
from grnlab.data import CellTokens
from grnlab.objectives import Mask, ReadDepth, build_objectives


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def cells():
    """300 cells of 80 genes, half of them expressed; a third of the counts are of genes that are not shown."""
    values = torch.poisson(torch.full((300, 80), 60.0), generator=drawn())
    values[:, ::2] = 0
    genes = torch.arange(80).expand(300, -1)
    return CellTokens(genes, values, (values.sum(1) * 1.5).round())


def test_totals_follow_the_down_sampling(cells):
    seen = ReadDepth(rate=0, zero_rate=0).corrupt(cells, generator=drawn(1))
    thinned = seen.totals_B < cells.totals_B
    assert 0.4 < thinned.float().mean() < 0.6
    assert torch.equal(seen.target_B, cells.totals_B)
    assert torch.equal(seen.values_BT[~thinned], cells.values_BT[~thinned])
    share = seen.values_BT.sum(1) / cells.values_BT.sum(1)
    of_total = seen.totals_B / cells.totals_B
    torch.testing.assert_close(share[thinned], of_total[thinned], rtol=0, atol=0.05)
    assert (seen.values_BT <= cells.values_BT).all()
    # Beta(2, 2): mean 1/2, variance 1/20
    assert abs(share[thinned].mean() - 0.5) < 0.05
    assert abs(share[thinned].var() - 0.05) < 0.015
    rates = seen.values_BT[thinned][:, 1::2] / cells.values_BT[thinned][:, 1::2]  # one rate for all genes of a cell
    assert (rates.std(1) < 0.15).all()


def test_shallow_cells_are_never_down_sampled(cells):
    shallow = dataclasses.replace(cells, totals_B=torch.full((300,), 999.0))
    task = ReadDepth(rate=0, zero_rate=0, downsample=1)
    assert torch.equal(task.corrupt(shallow, generator=drawn()).values_BT, cells.values_BT)
    lower = dataclasses.replace(task, min_total=999)
    assert (lower.corrupt(shallow, generator=drawn()).values_BT.sum(1) < cells.values_BT.sum(1)).all()


def test_rates_of_expressed_and_of_zero_genes_and_what_becomes_of_them(cells):
    seen = ReadDepth(downsample=0).corrupt(cells, generator=drawn(2))
    asked, on = seen.asked_BT, cells.values_BT > 0
    assert abs(asked[on].float().mean() - 0.3) < 0.02
    assert abs(asked[~on].float().mean() - 0.03) < 0.01
    hidden, same = seen.hidden_BT[asked], (seen.values_BT == cells.values_BT)[asked]
    assert abs(hidden.float().mean() - 0.8) < 0.03
    assert not (seen.hidden_BT & ~asked).any()
    assert 0.1 < (~hidden & same).float().mean() < 0.2  # kept, or given a count that is the same
    assert torch.equal(seen.values_BT[~asked], cells.values_BT[~asked])
    paper = ReadDepth(rate=0.3, zero_rate=0.3, keep=0, swap=0, downsample=0).corrupt(cells, generator=drawn(2))
    assert torch.equal(paper.asked_BT, paper.hidden_BT)
    assert abs(paper.asked_BT.float().mean() - 0.3) < 0.02


def test_padding_is_never_asked_and_other_tasks_may_come_before_and_after(make_tokens):
    tokens = make_tokens((9, 4, 7))
    tokens = dataclasses.replace(tokens, values_BT=tokens.values_BT * 400, totals_B=tokens.totals_B + 9_000)
    before = Mask(rate=0.5).corrupt(tokens, generator=drawn())
    seen = ReadDepth(rate=1, zero_rate=1).corrupt(before, generator=drawn(3))
    assert not (seen.asked_BT & tokens.pad_BT).any()
    assert (seen.hidden_BT | ~before.hidden_BT).all()
    assert seen.labels.keys() == tokens.labels.keys()
    after = Mask(rate=0.5).corrupt(seen, generator=drawn())
    assert torch.equal(after.target_B, seen.target_B)


def test_the_loss_is_the_error_at_the_depth_of_the_whole_cell(tiny_vocab, make_tokens):
    torch.manual_seed(0)
    model = XTrimoGene(tiny_vocab, XTrimoGeneConfig(n_layers=1, d_model=8, n_heads=2, d_decoder=8, n_decoder_heads=2))
    target, task = make_tokens((9, 4, 7)), ReadDepth(rate=0.7, zero_rate=0.7, min_total=0)
    seen = task.corrupt(target, generator=drawn())
    encoded = model.encode(seen)
    loss = task.loss(model, encoded, seen=seen, target=target)
    predicted, errors = model.values(encoded).detach(), []
    for cell, gene in seen.asked_BT.nonzero().tolist():
        scaled = float(target.values_BT[cell, gene] / target.totals_B[cell]) * 1e4
        errors.append(float(predicted[cell, gene] - np.log1p(scaled)) ** 2)
    assert loss.item() == pytest.approx(np.mean(errors), rel=1e-4)
    loss.backward()
    missing = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert missing == []
    optimizer, first = torch.optim.Adam(model.parameters(), lr=0.02), loss.item()
    for _ in range(40):
        optimizer.zero_grad()
        loss = task.loss(model, model.encode(seen), seen=seen, target=target)
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 2


def test_wrong_use_is_told(tiny_model, make_tokens):
    with pytest.raises(ValueError, match=r"rate=1.2 must lie between 0 and 1"):
        ReadDepth(rate=1.2)
    with pytest.raises(ValueError, match=r"keep=0.7 and swap=0.4"):
        ReadDepth(keep=0.7, swap=0.4)
    [task], tokens = build_objectives([{"name": "read_depth", "zero_rate": 0.3}]), make_tokens()
    with pytest.raises(ValueError, match=r"apply ReadDepth.corrupt"):
        task.loss(tiny_model, None, seen=tokens, target=tokens)
    seen = task.corrupt(tokens, generator=drawn())
    with pytest.raises(ValueError, match="ScPrint predicts no values"):
        task.loss(tiny_model, tiny_model.encode(seen), seen=seen, target=tokens)


def test_no_count_that_is_asked_for_comes_back_at_another_gene(cells):
    task = ReadDepth(rate=0.5, zero_rate=0.5, keep=0, swap=0.5, downsample=0)
    asked = task.corrupt(cells, generator=drawn()).asked_BT
    marked = dataclasses.replace(cells, values_BT=torch.where(asked & (cells.values_BT > 0), 9_999.0, cells.values_BT))
    seen = task.corrupt(marked, generator=drawn())
    assert torch.equal(seen.asked_BT, asked)
    assert (asked & ~seen.hidden_BT).any()
    assert not (seen.values_BT[~seen.hidden_BT] == 9_999).any()
    everything = ReadDepth(rate=1, zero_rate=1, keep=0, swap=1, downsample=0).corrupt(cells, generator=drawn())
    assert torch.equal(everything.values_BT, cells.values_BT)  # nothing else is left to take a count from
