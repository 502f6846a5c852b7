import dataclasses

import numpy as np
import pytest
import torch

from grnlab.backbones import Exceiver, ExceiverConfig
from grnlab.data.tokens import CellTokens
from grnlab.objectives import DiscreteNoise

SIZES = ExceiverConfig(n_latents=4, n_layers=1, d_model=8, n_heads=2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def tokens():
    """Six cells of 30 genes that express 29, 24, 20, 10, 4 and 0 of them, in mixed order, the last three padded."""
    rng = np.random.default_rng(0)
    genes = np.stack([rng.permutation(30) for _ in range(6)])
    values = np.zeros((6, 30), dtype=np.float32)
    for row, n in enumerate((29, 24, 20, 10, 4, 0)):
        values[row, rng.permutation(28 if row > 2 else 30)[:n]] = 1 + rng.poisson(3.0, n)
    pad = torch.zeros(6, 30, dtype=torch.bool)
    pad[3:, 28:] = True
    labels = {"cell_type": torch.arange(6) % 2}
    return CellTokens(torch.from_numpy(genes), torch.from_numpy(values), torch.full((6,), 100.0), pad, labels=labels)


def test_equally_many_expressed_genes_are_hidden(tokens):
    seen = DiscreteNoise(rate=0.3, median=20).corrupt(tokens, generator=seeded())
    assert seen.hidden_BT.sum(1).tolist() == [6, 6, 6, 0, 0, 0]  # the others express fewer than 12
    assert (tokens.values_BT[seen.hidden_BT] > 0).all()
    asked = torch.zeros_like(seen.hidden_BT).scatter(1, seen.query_BQ, True)
    assert torch.equal(asked[:3], seen.hidden_BT[:3])
    assert torch.equal(seen.values_BT, tokens.values_BT)
    assert torch.equal(seen.labels["cell_type"], tokens.labels["cell_type"])
    other = DiscreteNoise(rate=0.3, median=20).corrupt(tokens, generator=seeded(1))
    assert not torch.equal(other.hidden_BT, seen.hidden_BT)
    again = DiscreteNoise(rate=0.3, median=20).corrupt(tokens, generator=seeded())
    assert torch.equal(again.hidden_BT, seen.hidden_BT)


def test_the_median_is_that_of_the_batch(tokens):
    seen = DiscreteNoise(rate=0.4).corrupt(tokens, generator=seeded())  # medians are 10 and 20, torch takes the lower
    assert seen.hidden_BT.sum(1).tolist() == [4, 4, 4, 4, 0, 0]


def test_every_expressed_gene_is_as_likely(tokens):
    objective, n = DiscreteNoise(rate=0.3, median=20), 400
    seen = [objective.corrupt(tokens, generator=seeded(seed)).hidden_BT for seed in range(n)]
    share = torch.stack(seen).float().mean(0)[:3]
    expected = (tokens.values_BT[:3] > 0) * torch.tensor([6 / 29, 6 / 24, 6 / 20])[:, None]
    assert (share - expected).abs().max() < 4 * (0.25 / n) ** 0.5


def test_cells_too_poor_for_all(tokens):
    with pytest.raises(ValueError, match=r"must express 30 of those shown; the richest of 6 cells expresses 29"):
        DiscreteNoise(median=100).corrupt(tokens, generator=seeded())


@pytest.mark.parametrize(("values", "message"), [({"rate": 0.0}, "rate=0.0"), ({"median": 0}, "median=0 must be")])
def test_settings_out_of_range(values, message):
    with pytest.raises(ValueError, match=message):
        DiscreteNoise(**values)


def test_the_loss_is_the_squared_error_of_scores(tiny_vocab, tokens):
    torch.manual_seed(0)
    model, objective = Exceiver(tiny_vocab, SIZES).eval(), DiscreteNoise(rate=0.3, median=20)
    torch.nn.init.normal_(model.head[3].weight)
    seen = objective.corrupt(tokens, generator=seeded())
    encoded = model.encode(seen)
    loss = objective.loss(model, encoded, seen=seen, target=tokens)
    whole = model.encode(CellTokens(tokens.genes_BT, tokens.values_BT, tokens.totals_B, tokens.pad_BT, seen.hidden_BT))
    error = model.predict(whole) - model.scores(tokens)
    torch.testing.assert_close(loss, error[seen.hidden_BT].square().mean())
    loss.backward()
    for name in ("mask_embedding", "gene_embedding.weight", "perceiver.latents"):
        assert model.get_parameter(name).grad.abs().sum() > 0, name
    with pytest.raises(ValueError, match="needs an Exceiver and tokens made by DiscreteNoise"):
        objective.loss(model, model.encode(tokens), seen=tokens, target=tokens)


def test_the_value_of_a_hidden_gene_does_not_show_in_its_prediction(tiny_vocab, tokens):
    torch.manual_seed(0)
    model = Exceiver(tiny_vocab, SIZES).eval()
    torch.nn.init.normal_(model.head[3].weight)
    seen = DiscreteNoise(rate=0.3, median=20).corrupt(tokens, generator=seeded())
    changed = dataclasses.replace(seen, values_BT=seen.values_BT.masked_fill(seen.hidden_BT, 50.0))
    assert torch.equal(model.predict(model.encode(seen)), model.predict(model.encode(changed)))
