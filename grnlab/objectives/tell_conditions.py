"""Tell cell, drug and dose from a signature: with masked values, the four tasks of Tan et al. 2023."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from grnlab.backbones.base import Encoded
from grnlab.data.signature_collection import SignatureTokens
from grnlab.data.tokens import CellTokens
from grnlab.objectives.base import masked_mean


@dataclass(frozen=True)
class TellConditions:
    """Cross-entropy of cell and drug, squared error of log10 of the dose; each the mean over what is known.

    A drug that is measured once can only be learnt by heart: its cross-entropy says nothing of other signatures.

    Attributes
    ----------
    weight
        Factor of the loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("tell",)

    weight: float = 1.0

    def corrupt(self, tokens: CellTokens, *, generator: torch.Generator) -> CellTokens:
        """Leave the tokens as they are: a model that pretrains is not given the conditions."""
        return tokens

    def loss(self, model: Any, encoded: Encoded, *, seen: CellTokens, target: CellTokens) -> Tensor:
        """Sum of the losses of the conditions the model tells.

        Raises
        ------
        ValueError
            When the model tells none, the signatures do not carry one of them, or the model was given them.
        """
        told = model.tell(encoded)
        if not told:
            msg = "the model tells no condition: name drugs, cells or dose in its configuration, or drop this task."
            raise ValueError(msg)
        if getattr(seen, "given", False):
            msg = "the model was given the conditions it is to tell; train 'respond' in a run of its own."
            raise ValueError(msg)
        total = encoded.cell_BM.new_zeros((), dtype=torch.float32)
        for task, said_BK in told.items():
            if task == "dose":
                log_dose_B = target.log_dose_B if isinstance(target, SignatureTokens) else None
                known_B = None if log_dose_B is None else ~log_dose_B.isnan()
                losses_B = None if log_dose_B is None else (said_BK[:, 0] - log_dose_B.nan_to_num()).square()
            else:
                code_B = target.labels.get(task)
                known_B = None if code_B is None else code_B >= 0
                losses_B = None if code_B is None else F.cross_entropy(said_BK, code_B.clamp(min=0), reduction="none")
            if losses_B is None or known_B is None:
                msg = f"the model tells {task!r}, which the signatures lack; they carry {sorted(target.labels)}."
                raise ValueError(msg)
            total = total + masked_mean(losses_B, known_B)
        return total
