"""What the sections of ``benchmarks/exceiver.py`` share: models, cells, hidden scores, latents."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch

import grnlab as gl
from grnlab.backbones import Exceiver, ExceiverConfig
from grnlab.data import CellCollection
from grnlab.data.counts import counts_of
from grnlab.data.names import align_genes
from grnlab.genes import GeneVocab
from grnlab.objectives import DiscreteNoise
from grnlab.training.recipe import read_recipe

RECIPE = "exceiver-small"
NEW = {"pbmc3k": "scrna/pbmc3k.h5ad", "kang2018": "scrna/kang2018_ifnb_pbmc.h5ad"}
Row = dict[str, Any]


class Bench:
    """What the sections share: the model, an untrained one of its shape, and the cells."""

    def __init__(self, model: str, data: Path, *, quick: bool, seed: int) -> None:
        self.model: Any = gl.load_model(model)
        self.data, self.quick, self.seed = data, quick, seed
        self.untrained = new_model(self.model.vocab, self.model.config, seed=seed)
        self.untrained._buffers = dict(self.model._buffers)  # the same statistics
        self._training: tuple[CellCollection, np.ndarray, np.ndarray] | None = None

    def training(self) -> tuple[CellCollection, np.ndarray, np.ndarray]:
        """Cells of the recipe, with the rows that were trained on and those held out."""
        if self._training is None:
            recipe = read_recipe(RECIPE)
            cells = recipe.cells(self.data, self.model.vocab)
            self._training = (cells, *cells.split(recipe.training.val_fraction, seed=recipe.training.seed))
        return self._training

    def new(self, name: str) -> tuple[ad.AnnData, CellCollection]:
        """A data set the model has never seen, and the same over the vocabulary."""
        adata = ad.read_h5ad(self.data / NEW[name])
        return adata, collect(adata, self.model.vocab)


def new_model(vocab: GeneVocab, config: ExceiverConfig, *, seed: int) -> Exceiver:
    """New weights."""
    torch.manual_seed(seed)
    return Exceiver(vocab, config, name="untrained").eval()


def collect(adata: ad.AnnData, vocab: GeneVocab) -> CellCollection:
    """Cells of one data set over the vocabulary."""
    counts, found = counts_of(adata), align_genes(adata, vocab)
    part = counts[:, found.columns].tocoo()
    spread = sp.csr_matrix((part.data, (part.row, found.tokens[part.col])), shape=(counts.shape[0], len(vocab)))
    totals = np.asarray(counts.sum(axis=1)).ravel()
    return CellCollection.from_counts(spread, tokens=found.tokens, totals=totals)


def with_statistics(model: Exceiver, cells: CellCollection, rows: np.ndarray) -> Exceiver:
    """The same weights with the statistics of some cells."""
    other = new_model(model.vocab, model.config, seed=0)
    other.load_state_dict(model.state_dict())
    other.fit_statistics(cells, rows)
    return other


@dataclass
class Hidden:
    """Scores of hidden genes of some cells: the true ones, those predicted, and those of simple predictors.

    Attributes
    ----------
    true, predicted
        By the model's own scale.
    gene
        Mean of the gene where it is expressed, over the cells the statistics are of.
    data_set, cell
        Mean of the gene where it is expressed in the data set; that, with the mean residue of the cell's visible genes.
    classes
        Accuracy of the classes, and share of the commonest label.
    """

    true: np.ndarray
    predicted: np.ndarray
    gene: np.ndarray
    data_set: np.ndarray
    cell: np.ndarray
    classes: Row


def levels(model: Exceiver, cells: CellCollection, rows: np.ndarray) -> dict[int, torch.Tensor]:
    """Data set → mean score of each gene where it is expressed; that of the model for genes in under five cells."""
    found = {}
    for dataset in np.unique(cells.datasets[rows]):
        part = rows[cells.datasets[rows] == dataset]
        counts = cells.counts[part].tocoo()
        logged = np.log1p(counts.data * (1e4 / cells.totals[part])[counts.row])
        mean, sd, level = (x.numpy() for x in (model.mean_G, model.sd_G, model.expressed_G + 1))
        scores = ((logged - mean[counts.col]) / sd[counts.col]).clip(-model.config.limit, model.config.limit) + 1
        n = np.bincount(counts.col, minlength=len(mean))
        own = np.bincount(counts.col, weights=scores, minlength=len(mean)) / np.maximum(n, 1)
        found[int(dataset)] = torch.from_numpy(np.where(n >= 5, own, level).astype(np.float32))
    return found


def hidden_scores(model: Exceiver, cells: CellCollection, rows: np.ndarray, *, fitted: np.ndarray, seed: int) -> Hidden:
    """Predict hidden genes of the cells `rows`; levels of genes in their data sets are those in the cells `fitted`."""
    objective, rng = DiscreteNoise(), np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    of_data_set = levels(model, cells, fitted)
    kept: list[list[np.ndarray]] = [[], [], [], [], []]
    right: dict[str, list[np.ndarray]] = {}
    common: dict[str, list[np.ndarray]] = {}
    with torch.inference_mode():
        for start in range(0, len(rows), 50):
            part = rows[start : start + 50]
            target = cells.batch(part, 512, generator=rng)
            seen = objective.corrupt(target, generator=generator)
            encoded, scores = model.encode(seen), model.scores(target)
            own = torch.stack([of_data_set[int(number)] for number in cells.datasets[part]]).gather(1, target.genes_BT)
            visible = (target.values_BT > 0) & target.real_BT & ~seen.hidden_BT
            offset = torch.where(visible, scores - own, 0).sum(1, keepdim=True) / visible.sum(1, keepdim=True)
            where = seen.hidden_BT.gather(1, seen.query_BQ)
            gene = model.expressed_G[target.genes_BT] + 1
            asked = [x.gather(1, seen.query_BQ) for x in (scores, gene, own, own + offset)]
            asked.insert(1, model.predict(encoded))
            for values, x in zip(kept, asked, strict=True):
                values.append(x[where].numpy())
            for name, logits in model.classify(encoded).items():
                if name in target.labels and (known := target.labels[name] >= 0).any():
                    right.setdefault(name, []).append((logits.argmax(1) == target.labels[name])[known].numpy())
                    common.setdefault(name, []).append(target.labels[name][known].numpy())
    classes: Row = {}
    for name, hits in right.items():
        counts = np.bincount(np.concatenate(common[name]))
        classes |= {f"accuracy_{name}": float(np.concatenate(hits).mean())}
        classes |= {f"majority_{name}": float(counts.max() / counts.sum()), f"n_labels_{name}": int((counts > 0).sum())}
    return Hidden(*(np.concatenate(values) for values in kept), classes)


def explained(true: np.ndarray, predicted: np.ndarray) -> float:
    """Explained variance, as scikit-learn's."""
    return float(1 - np.var(true - predicted) / np.var(true))


def latents(model: Exceiver, cells: CellCollection, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the latents, and all of them flat."""
    mean, whole, tokens = [], [], np.arange(len(model.vocab))
    with torch.inference_mode():
        for start in range(0, len(rows), 25):
            part = rows[start : start + 25]
            batch = model.tokenize(cells.counts[part], tokens, cells.totals[part], context="expressed")
            x_BTM, blind_BT = model.embed(batch)
            found = model.perceiver.encode(x_BTM, blind_BT=blind_BT)
            mean.append(found.mean(1).numpy())
            whole.append(found.flatten(1).numpy())
    return np.concatenate(mean), np.concatenate(whole)
