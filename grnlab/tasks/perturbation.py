"""Predict what changes in every gene when a gene is perturbed, by a graph network over genes.

In the manner of GEARS (Roohani et al. 2023, doi:10.1038/s41587-023-01905-6): genes start from the embeddings of a
model, exchange messages along the edges of a graph that the user gives, and a decoder reads the change of one gene from
the states of the perturbed gene and of its own. A gene never perturbed is predicted from its place in the graph and its
embedding. Effects are those of bulk or pseudo-bulk samples, so no cell enters.

Shape suffixes: P perturbations, G genes whose change is predicted, N genes of the graph, M embedding, K hidden.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from grnlab.tasks._perturbation_net import EffectDecoder, GeneGraph, Perturbed, adjacency_of, perturbed_of
from grnlab.tasks.perturbation_tests import check_effects, parts_of


@dataclass(frozen=True)
class PerturbationConfig:
    """Settings of :func:`fit_perturbation`.

    Attributes
    ----------
    hidden
        Width K.
    n_hops
        Rounds of messages along the graph.
    dropout, weight_decay, lr
        Of training, with AdamW.
    max_epochs, patience
        The run ends after so many epochs, or so many without a lower loss on held-out perturbations; the best weights
        are kept.
    val_fraction
        Share of the perturbations held out for that; 0: none, and the last weights are kept.
    seed
        Of weights and draws.

    Raises
    ------
    ValueError
        When a value is out of range.
    """

    hidden: int = 64
    n_hops: int = 1
    dropout: float = 0.2
    weight_decay: float = 1e-2
    lr: float = 5e-3
    max_epochs: int = 200
    patience: int = 20
    val_fraction: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                msg = f"{name}={getattr(self, name)} must be at least 1."
                raise ValueError(msg)
        for name in ("dropout", "weight_decay", "val_fraction"):
            if not 0 <= getattr(self, name) < 1:
                msg = f"{name}={getattr(self, name)} must lie in [0, 1)."
                raise ValueError(msg)
        if self.n_hops < 0 or not self.lr > 0:
            msg = f"n_hops={self.n_hops} must be 0 or more, and lr={self.lr} above 0."
            raise ValueError(msg)


class PerturbationModel:
    """A fitted predictor of the effects of perturbations, see :func:`fit_perturbation`.

    Attributes
    ----------
    genes
        Names of the genes whose change is predicted.
    history
        Training and validation loss of each epoch, on the scale of unit variance; epoch 0 is the start.
    """

    def __init__(
        self, network: EffectDecoder, nodes: pd.Index, genes: pd.Index, *, adjacency: sp.csr_matrix, scale: float
    ) -> None:
        self.genes, self.history = genes, pd.DataFrame()
        self._network, self._nodes, self._adjacency, self._scale = network, nodes, adjacency, scale

    def predict(self, perturbed: Sequence[str]) -> pd.DataFrame:
        """Change of every gene.

        Parameters
        ----------
        perturbed
            Genes, each perturbed alone; several at once are written ``"A+B"``.

        Returns
        -------
        One row per perturbation, one column per gene.

        Raises
        ------
        ValueError
            When a gene has no embedding.
        """
        if isinstance(perturbed, str):
            msg = f"perturbed={perturbed!r} must be a list of names, as [{perturbed!r}]."
            raise ValueError(msg)
        outputs = self._network.outputs.numpy()
        seen = perturbed_of(pd.Index(perturbed), self._nodes, outputs, self._adjacency)
        self._network.eval()
        with torch.no_grad():
            values = self._network(seen).numpy() * self._scale
        return pd.DataFrame(values, index=list(perturbed), columns=self.genes.sort_values())[self.genes]


def fit_perturbation(
    effects: pd.DataFrame,
    gene_embeddings: pd.DataFrame,
    *,
    graph: pd.DataFrame | None = None,
    config: PerturbationConfig | None = None,
) -> PerturbationModel:
    """Fit a predictor of the change of every gene when a gene is perturbed.

    Parameters
    ----------
    effects
        One row per perturbation, named by the gene (``"A+B"`` for two at once), one column per gene: log fold changes
        or z-scores.
    gene_embeddings
        One row per gene, see :func:`grnlab.tasks.gene_embeddings`; perturbed genes need one. Genes that are only
        measured may lack it: they start from the mean.
    graph
        Edges ``source, target``; genes without an embedding take no part. None: no messages are exchanged.
    config
        Everything else.

    Raises
    ------
    ValueError
        When a perturbed gene has no embedding, the tables hold NaN, names occur twice, or there are fewer than three
        perturbations.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> embeddings = pd.DataFrame(rng.normal(size=(20, 4)), index=[f"G{n}" for n in range(20)])
    >>> effects = pd.DataFrame(embeddings.to_numpy() @ rng.normal(size=(4, 6)), embeddings.index, list("ABCDEF"))
    >>> fitted = fit_perturbation(effects.iloc[:15], embeddings, config=PerturbationConfig(max_epochs=5))
    >>> fitted.predict(["G18", "G2+G19"]).shape
    (2, 6)
    """
    config = config or PerturbationConfig()
    check_effects(effects, gene_embeddings)
    if len(effects) < 3:
        msg = f"effects has {len(effects)} perturbations; at least 3 are needed."
        raise ValueError(msg)
    genes, effects = effects.columns, effects.sort_index(axis=1)  # their order decides the draws of dropout
    nodes, x_NM = _nodes(effects, gene_embeddings)
    values = effects.to_numpy(dtype=np.float64)
    scale = float(values.std()) or 1.0
    y_PG = torch.from_numpy(values / scale).float()
    adjacency, outputs = adjacency_of(graph, nodes), nodes.get_indexer(effects.columns)
    seen = perturbed_of(effects.index, nodes, outputs, adjacency)
    rng = np.random.default_rng(config.seed)
    order = rng.permutation(len(effects))
    n_val = min(round(config.val_fraction * len(order)), len(order) - 2)
    val, train = order[:n_val], order[n_val:]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        network = EffectDecoder(
            GeneGraph(
                x_NM,
                adjacency,
                hidden=config.hidden,
                n_hops=0 if graph is None else config.n_hops,
                dropout=config.dropout,
            ),
            torch.from_numpy(outputs),
            y_PG[torch.from_numpy(train)].mean(0),
            hidden=config.hidden,
            dropout=config.dropout,
        )
        data = [(seen.take(rows), y_PG[torch.from_numpy(rows)]) for rows in (train, val)]
        history = _train(network, data, config)
    fitted = PerturbationModel(network, nodes, genes, adjacency=adjacency, scale=scale)
    fitted.history = pd.DataFrame(history)
    return fitted


def _train(
    network: EffectDecoder, data: list[tuple[Perturbed, Tensor]], config: PerturbationConfig
) -> list[dict[str, float]]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    (seen, truth), (seen_val, truth_val) = data
    network.start_from(seen, truth)
    history: list[dict[str, float]] = []
    best: Any = None
    least, waited = np.inf, 0
    for epoch in range(config.max_epochs + 1):  # the first is the start itself
        network.train()
        loss = nn.functional.mse_loss(network(seen), truth)
        if epoch:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        row = {"epoch": epoch, "train_loss": float(loss.detach()), "val_loss": np.nan}
        if len(truth_val):
            network.eval()
            with torch.no_grad():
                row["val_loss"] = float(nn.functional.mse_loss(network(seen_val), truth_val))
            if row["val_loss"] < least:
                least, waited, best = row["val_loss"], 0, copy.deepcopy(network.state_dict())
            else:
                waited += 1
        history.append(row)
        if waited >= config.patience:
            break
    if best is not None:
        network.load_state_dict(best)
    return history


def _nodes(effects: pd.DataFrame, gene_embeddings: pd.DataFrame) -> tuple[pd.Index, Tensor]:
    """All genes, measured or with an embedding, and their standardised embeddings."""
    perturbed = {part for name in effects.index for part in parts_of(name)}
    # all that have an embedding are kept: they may be perturbed later
    names = pd.Index(sorted(perturbed | set(effects.columns))).union(gene_embeddings.index)
    x = gene_embeddings.reindex(names).to_numpy(dtype=np.float32)
    mean, sd = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
    x = np.nan_to_num((x - mean) / np.where(sd > 0, sd, 1))
    return names, torch.from_numpy(x.astype(np.float32))
