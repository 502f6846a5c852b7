"""Predict the labels of a cell from its class embeddings (scPRINT, doi:10.1038/s41467-025-58699-1).

Shape suffixes: B cells, K leaf labels of a class.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.tokens import CellTokens
from grnlab.nn.decoders import log_prob_of_any
from grnlab.objectives.base import masked_mean


@dataclass(frozen=True)
class Classify:
    """``−log p(label)``, where a coarse label is any of its leaves: ``LSE(all logits) − LSE(logits of its leaves)``.

    A leaf is a group of one, for which this is the cross-entropy. The paper concatenates ``LSE(X)`` of the leaves X of
    the label and the logits Y of all others, and takes the cross-entropy of the first: the same number. It writes σ
    over the logits; here the probabilities of the leaves are a softmax, so those of a coarse label's leaves add up to
    its own. Classes are not weighted against each other, nor labels: rare ones are drawn more often instead.

    Attributes
    ----------
    weight
        Factor of the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("classify", "members")

    weight: float = 1.0

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Leave the tokens as they are."""
        return tokens

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Sum over classes of the mean over cells whose label is known; a class without one in the batch adds 0.

        Codes of labels are those of ``model.config.labels(name)``: leaves, then coarse labels; -1 where unknown.

        Raises
        ------
        ValueError
            When the model has no classes, or the cells carry no labels for one of them.
        """
        total = encoded.cell_BM.new_zeros((), dtype=torch.float32)
        logits = model.classify(encoded)
        if not logits:
            msg = "the model has no classes, so there is nothing to classify; leave 'classify' out."
            raise ValueError(msg)
        for name, logits_BK in logits.items():
            if name not in target.labels:
                msg = f"the model has a class {name!r}, but the cells have labels for {sorted(target.labels)} only."
                raise ValueError(msg)
            code_B = target.labels[name]
            known_B = code_B >= 0
            of_label_BK = model.members(name)[code_B.clamp(min=0)]
            total = total - masked_mean(log_prob_of_any(logits_BK, of_label_BK), known_B)
        return total
