"""Sizes and conditions of the BERT of perturbation signatures."""

from dataclasses import dataclass

from grnlab.backbones.config import ModelConfig


@dataclass(frozen=True)
class DrugBertConfig(ModelConfig):
    """Sizes and conditions of :class:`DrugBert`.

    Attributes
    ----------
    n_layers, d_model, n_heads
        Sizes of the transformer.
    decoder, d_decoder
        ``"lstm"`` or ``"mlp"``, and its width; see :class:`grnlab.nn.SequenceDecoder`.
    features
        Names of the features of a drug; empty: drugs are no condition.
    drugs
        Drugs the model learns to tell from their signatures, in the order of their codes.
    cells
        Cell lines, in the order of their codes; the model learns to tell them, and they are a condition.
    dose
        Whether the dose is a condition and is predicted.
    additive_rank
        Rank of a linear path from the features of a drug to the genes, beside the transformer; 0: there is none.
        With some hundred drugs, little can be learnt of them that is not linear.
    dropout
        Of the transformer and the condition encoders while training.
    feature_dropout
        Of the drug features while training: with few drugs, single features are easily learnt by heart.
    """

    n_layers: int = 2
    d_model: int = 64
    n_heads: int = 4
    decoder: str = "lstm"
    d_decoder: int = 64
    features: tuple[str, ...] = ()
    drugs: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    dose: bool = False
    additive_rank: int = 0
    dropout: float = 0.1
    feature_dropout: float = 0.5

    def __post_init__(self) -> None:
        for name in ("features", "drugs", "cells"):
            value = tuple(str(one) for one in getattr(self, name))
            object.__setattr__(self, name, value)
            if len(set(value)) < len(value):
                msg = f"{name} holds {sorted({x for x in value if value.count(x) > 1})[:5]} twice; give each once."
                raise ValueError(msg)
        if self.additive_rank < 0 or (self.additive_rank and not self.features):
            msg = f"additive_rank={self.additive_rank} must be 0, or above 0 with features of drugs."
            raise ValueError(msg)
        for name in ("dropout", "feature_dropout"):
            if not 0 <= getattr(self, name) < 1:
                msg = f"{name}={getattr(self, name)} must be at least 0 and below 1."
                raise ValueError(msg)
