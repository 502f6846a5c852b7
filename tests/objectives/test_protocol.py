"""The tasks of other systems, written small: each must fit the protocol as it is."""

from dataclasses import dataclass, replace

import torch

from grnlab.backbones import Encoded, ScPrint, ScPrintConfig
from grnlab.data import CellTokens
from grnlab.objectives import Classify, Mask, count_loss, masked_mean
from grnlab.objectives.base import uniform


def losses(model, objectives, target, *, seed=0):
    """What a training loop does with objectives."""
    seen, generator = target, torch.Generator().manual_seed(seed)
    for objective in objectives:
        seen = objective.corrupt(seen, generator=generator)
    encoded = model.encode(seen)
    return seen, [
        objective.weight * objective.loss(model, encoded, seen=seen, target=target) for objective in objectives
    ]


@dataclass(frozen=True)
class DepthTokens(CellTokens):
    """Tokens that carry a second total: that which is asked for (T), beside that of the counts seen (S)."""

    asked_B: torch.Tensor | None = None


@dataclass(frozen=True)
class ReadDepth:
    """scFoundation: half the cells of at least `floor` counts are down-sampled by a Beta(2, 2) share; S, T are told."""

    floor: float = 1_000.0
    weight: float = 1.0

    def corrupt(self, tokens, *, generator):
        raw_B = tokens.values_BT.sum(-1)
        share_B = uniform(raw_B.expand(3, -1), generator=generator).median(0).values  # of three: Beta(2, 2)
        thinned_B = (uniform(raw_B, generator=generator) < 0.5) & (raw_B >= self.floor)
        share_B = torch.where(thinned_B, share_B, 1.0)
        values = torch.binomial(tokens.values_BT, share_B[:, None].expand_as(tokens.values_BT), generator=generator)
        base = {name: getattr(tokens, name) for name in ("genes_BT", "pad_BT", "hidden_BT", "labels")}
        return DepthTokens(values_BT=values, totals_B=values.sum(-1), asked_B=raw_B, **base)

    def loss(self, model, encoded, *, seen, target):
        decoded = model.decode(encoded, seen.asked_B)
        return masked_mean((decoded.mean_BT - target.values_BT).square(), seen.hidden_BT)


class TwoTotals(ScPrint):
    """A backbone that reads the second total of its tokens."""

    def encode(self, tokens, *, record=None):
        encoded = super().encode(tokens, record=record)
        return replace(encoded, genes_BTM=encoded.genes_BTM + self.depth_encoder(tokens.asked_B)[:, None])


def test_read_depth_aware(tiny_vocab, make_tokens):
    target = make_tokens((9, 4, 7))
    target = replace(target, values_BT=target.values_BT * 400)
    torch.manual_seed(0)
    model = TwoTotals(tiny_vocab, ScPrintConfig(n_layers=1, d_model=8, n_heads=2)).eval()
    seen, both = losses(model, [ReadDepth(), Mask()], target, seed=1)
    assert torch.equal(seen.asked_B, target.values_BT.sum(-1))  # the mask that came after kept it
    thinned = seen.totals_B < seen.asked_B
    assert thinned.any()
    assert not thinned.all()
    assert all(torch.isfinite(loss) for loss in both)


@dataclass(frozen=True)
class DiscreteNoise:
    """Exceiver: a fixed number of genes is hidden, and queries the decoder."""

    n_hidden: int
    weight: float = 1.0

    def corrupt(self, tokens, *, generator):
        order = uniform(tokens.values_BT, generator=generator).masked_fill(~tokens.real_BT, 2.0).argsort(-1)
        hidden = torch.zeros_like(tokens.real_BT).scatter(1, order[:, : self.n_hidden], True)
        return replace(tokens, hidden_BT=hidden & tokens.real_BT)

    def loss(self, model, encoded, *, seen, target):
        return count_loss(model.decode(encoded, target.values_BT.sum(-1)), target, seen.hidden_BT)


@dataclass(frozen=True, kw_only=True)
class Latents(Encoded):
    """What a model with latents adds to the output."""

    latents_BLM: torch.Tensor


class Perceiver(ScPrint):
    """A backbone whose decoder reads latents and the embeddings of the genes alone."""

    def encode(self, tokens, *, record=None):
        encoded = super().encode(tokens, record=record)
        return Latents(**vars(encoded), latents_BLM=encoded.genes_BTM[:, :2])

    def decode(self, encoded, depth_B):
        query = encoded.input_BTM + encoded.latents_BLM.mean(1, keepdim=True)
        return self.expression_decoder(query, depth_B, pad_BT=encoded.pad_BT)


def test_discrete_noise_masking(tiny_vocab, make_tokens):
    torch.manual_seed(0)
    model = Perceiver(tiny_vocab, ScPrintConfig(n_layers=1, d_model=8, n_heads=2)).eval()
    seen, [loss] = losses(model, [DiscreteNoise(3)], make_tokens((9, 4, 7)))
    assert seen.hidden_BT.sum(-1).tolist() == [3, 3, 3]
    assert torch.isfinite(loss)


def test_four_tasks(make_model, make_tokens):
    """Cell, drug and dose as classes, and masked expression: a list of tasks that exist."""
    model = make_model(classes={"cell": ("A549", "MCF7"), "drug": ("x", "y", "z"), "dose": ("low", "high")})
    tokens = make_tokens()
    labels = {name: torch.tensor([0, 1, -1]) for name in ("cell", "drug", "dose")}
    _, [mask, classes] = losses(model, [Mask(rate=0.15), Classify()], replace(tokens, labels=labels))
    assert mask.item() > 0
    assert classes.item() > 0
