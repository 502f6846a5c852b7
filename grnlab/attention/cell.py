"""One cell at a time, as every read-out but the pooled maps sees it.

Shape suffixes: T gene tokens of the cell, R regulators among them, C targets among them.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from grnlab.backbones.base import Backbone
from grnlab.data.tokens import CellTokens

Block = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Places of regulators (R,), places of targets (C,) among the tokens of the cell, and scores (R, C)."""


@dataclass(frozen=True)
class Cell:
    """The tokens of one cell, which of them regulate and which are targets.

    Attributes
    ----------
    tokens
        Batch of one cell as the model shows cells to itself, nothing padded, on its device.
    genes_T
        Row of each token in the table of genes.
    regulators, targets
        Places of regulators and targets among the tokens.
    seed
        What its random choices derive from: the same whatever cells and groups are read with it.
    """

    tokens: CellTokens
    genes_T: np.ndarray
    regulators: np.ndarray
    targets: np.ndarray
    seed: tuple[int, ...]

    @cached_property
    def log_values_T(self) -> Tensor:
        """``log2(1 + count)``: the scale every perturbation and derivative is taken on."""
        return torch.log2(1 + self.tokens.values_BT[0])

    def masks(self, rate: float, n_masks: int) -> Iterator["MaskedCell"]:
        """Hide the counts of a random share of the genes, `n_masks` times; at least one is hidden, one is not."""
        n_tokens = len(self.genes_T)
        if n_tokens < 2:
            return
        n_hidden = min(max(round(rate * n_tokens), 1), n_tokens - 1)
        for number in range(n_masks):
            seed = (*self.seed, number)
            rng = np.random.default_rng(seed)
            hidden = np.zeros(n_tokens, dtype=bool)
            hidden[rng.permutation(n_tokens)[:n_hidden]] = True
            targets, regulators = self.targets[hidden[self.targets]], self.regulators[~hidden[self.regulators]]
            if len(targets) and len(regulators):
                device = self.tokens.genes_BT.device
                tokens = replace(self.tokens, hidden_BT=torch.from_numpy(hidden)[None].to(device))
                yield MaskedCell(self, tokens, regulators, targets, seed)


@dataclass(frozen=True)
class MaskedCell:
    """A cell with the counts of some genes hidden, which the model predicts from the others.

    Attributes
    ----------
    cell
        Before hiding.
    tokens
        With ``hidden_BT``.
    regulators, targets
        Places of the visible regulators and of the hidden targets.
    seed
        What hid the genes, and other random choices derive from.
    """

    cell: Cell
    tokens: CellTokens
    regulators: np.ndarray
    targets: np.ndarray
    seed: tuple[int, ...]

    def predict(self, model: Backbone, log_values_BT: Tensor) -> Tensor:
        """Predicted expression of the hidden targets, shape (B, C), from B versions of the values of the cell.

        The logarithm of the expected count less its mean over all genes of the cell (the centred log-ratio: expected
        counts are shares of the cell's total, and a gene that takes more of it leaves all others less, which is no
        regulation); or the expected ``log2(1 + count)`` where the model was trained on that. The totals are those of
        the true cell throughout.

        Parameters
        ----------
        model
            With ``encode`` and ``decode``.
        log_values_BT
            ``log2(1 + count)`` of every gene; what stands in hidden places is not read.
        """
        n = len(log_values_BT)
        whole = replace(
            self.tokens,
            genes_BT=self.tokens.genes_BT.expand(n, -1),
            values_BT=torch.exp2(log_values_BT) - 1,
            totals_B=self.tokens.totals_B.expand(n),
            hidden_BT=None if self.tokens.hidden_BT is None else self.tokens.hidden_BT.expand(n, -1),
        )
        depth_B = self.tokens.values_BT.sum(-1).expand(n)
        distribution = model.decode(model.encode(whole), depth_B)  # type: ignore[attr-defined]
        log_mean_BT = distribution.log_mean_BT
        if distribution.kind != "mse":
            log_mean_BT = log_mean_BT - log_mean_BT.mean(dim=1, keepdim=True)
        return log_mean_BT[:, torch.from_numpy(self.targets).to(log_values_BT.device)]


def cells_of(
    model: Backbone,
    counts: sp.csr_matrix,
    tokens: np.ndarray,
    totals: np.ndarray,
    *,
    regulators: np.ndarray,
    targets: np.ndarray,
    context: str,
    seed: tuple[int, str],
) -> Iterator[Cell]:
    """Cells of a group, one after another; in the context ``"expressed"`` without those that express nothing.

    Parameters
    ----------
    model
        Says on which device.
    counts, tokens, totals, context
        As in :func:`grnlab.attention.pool_queries_keys`.
    regulators, targets
        Columns of `counts`.
    seed
        Number and name of the group.
    """
    device = getattr(model, "device", torch.device("cpu"))
    is_regulator, is_target = (np.isin(np.arange(len(tokens)), rows) for rows in (regulators, targets))
    place = np.full(len(model.vocab), -1, dtype=np.int64)
    place[tokens] = np.arange(len(tokens))
    for row in range(counts.shape[0]):
        if context == "expressed" and counts.indptr[row] == counts.indptr[row + 1]:
            continue
        batch = model.tokenize(counts[[row]], tokens, totals[[row]], context=context)
        genes = place[batch.genes_BT[0].numpy()]
        yield Cell(
            batch.to(device),
            genes,
            np.flatnonzero(is_regulator[genes]),
            np.flatnonzero(is_target[genes]),
            (seed[0], zlib.crc32(seed[1].encode()), row),
        )
