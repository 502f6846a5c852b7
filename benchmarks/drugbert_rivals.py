"""What :mod:`drugbert` stands beside: a linear additive model, a small cVAE, and masked values from means alone."""

import anndata as ad
import numpy as np
import pandas as pd
import torch
from torch import nn

from grnlab.evaluate import mean_pearson

N_DRAWS = 5
Profiles = dict[str, np.ndarray]


def ridge(features: pd.DataFrame, train: ad.AnnData, drugs: list[str], *, seed: int) -> tuple[Profiles, ad.AnnData]:
    """Linear additive model: the mean signature plus one vector of genes per feature; penalty by five folds."""
    x, y = features.loc[train.obs["drug"]].to_numpy(np.float64), np.asarray(train.X, dtype=np.float64)
    folds = np.random.default_rng(seed).integers(0, 5, len(x))

    def fit(rows: np.ndarray, at: np.ndarray, penalty: float) -> np.ndarray:
        mean = y[rows].mean(axis=0)
        dual = np.linalg.solve(x[rows] @ x[rows].T + penalty * np.eye(int(rows.sum())), y[rows] - mean)
        return mean + at @ (x[rows].T @ dual)

    def agreement(penalty: float) -> float:
        made = np.zeros_like(y)
        for fold in range(5):
            made[folds == fold] = fit(folds != fold, x[folds == fold], penalty)
        return mean_pearson(y, made)

    penalty = max((1.0, 2.0, 4.0, 8.0, 16.0, 32.0), key=agreement)
    made = fit(np.ones(len(x), dtype=bool), features.loc[drugs].to_numpy(np.float64), penalty).astype(np.float32)
    predicted = ad.AnnData(made, obs=pd.DataFrame({"drug": drugs}, index=drugs), var=train.var)
    return {drug: row[None] for drug, row in zip(drugs, made, strict=True)}, predicted


class ConditionalVae(nn.Module):
    """A small conditional variational autoencoder: profile and features of a drug → 16 numbers → profile."""

    n_latent = 16

    def __init__(self, n_genes: int, n_features: int) -> None:
        super().__init__()
        n_hidden, n_latent = 128, self.n_latent
        self.condition = nn.Sequential(nn.Dropout(0.5), nn.Linear(n_features, 32), nn.GELU())
        self.encoder = nn.Sequential(nn.Linear(n_genes + 32, n_hidden), nn.GELU(), nn.Linear(n_hidden, 2 * n_latent))
        self.decoder = nn.Sequential(nn.Linear(n_latent + 32, n_hidden), nn.GELU(), nn.Linear(n_hidden, n_genes))

    def decode(self, z: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Profiles of latent points."""
        return self.decoder(torch.cat([z, self.condition(features)], dim=1))


def vae(features: pd.DataFrame, train: ad.AnnData, drugs: list[str], *, seed: int, steps: int) -> Profiles:
    """Five draws per drug from the prior; steps chosen on a tenth of the training drugs."""
    torch.manual_seed(seed)
    x = torch.from_numpy(features.loc[train.obs["drug"]].to_numpy(np.float32)) * features.shape[1] ** 0.5
    at = torch.from_numpy(features.loc[drugs].to_numpy(np.float32)) * features.shape[1] ** 0.5
    y, model = torch.from_numpy(np.asarray(train.X)), ConditionalVae(train.n_vars, features.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    rng, order = np.random.default_rng(seed), np.random.default_rng(seed).permutation(len(x))
    held_out, rows = order[: len(x) // 10], order[len(x) // 10 :]
    best, weights = -np.inf, model.state_dict()
    for step in range(1, steps + 1):
        model.train()
        batch = torch.from_numpy(rng.choice(rows, 64))
        condition = model.condition(x[batch])
        mean, log_spread = model.encoder(torch.cat([y[batch], condition], dim=1)).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * log_spread.exp()
        error = (model.decoder(torch.cat([z, condition], dim=1)) - y[batch]).square().sum(1)
        divergence = 0.5 * (mean.square() + (2 * log_spread).exp() - 2 * log_spread - 1).sum(1)
        loss = (0.5 * error + divergence).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            model.eval()
            with torch.inference_mode():
                made = model.decode(torch.zeros(len(held_out), model.n_latent), x[held_out]).numpy()
            score = mean_pearson(y[held_out].numpy(), made)
            if score > best:
                best, weights = score, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        draws = [model.decode(torch.randn(len(at), model.n_latent, generator=generator), at) for _ in range(N_DRAWS)]
    return dict(zip(drugs, torch.stack(draws, dim=1).numpy(), strict=True))


def masked_baselines(train: np.ndarray, test: np.ndarray, *, rate: float, seed: int) -> dict[str, dict[str, float]]:
    """The same for 40 signatures: by the mean of each gene, and by a normal distribution given the genes seen."""
    mean, covariance = train.mean(axis=0), np.cov(train.T) + 0.3 * np.eye(train.shape[1])
    rng, true = np.random.default_rng(seed), []
    told: dict[str, list[np.ndarray]] = {"gene mean": [], "conditional normal": []}
    for row in test[:40]:
        hidden = rng.random(len(row)) < rate
        seen = np.linalg.solve(covariance[np.ix_(~hidden, ~hidden)], (row - mean)[~hidden])
        true.append(row[hidden])
        told["gene mean"].append(mean[hidden])
        told["conditional normal"].append(mean[hidden] + covariance[np.ix_(hidden, ~hidden)] @ seen)
    y = np.concatenate(true)
    made = {name: np.concatenate(x) for name, x in told.items()}
    return {
        name: {"rmse": float(np.sqrt(np.mean((y - x) ** 2))), "pearson": float(np.corrcoef(x, y)[0, 1])}
        for name, x in made.items()
    }
