"""A perturbation no model has seen, in single cells: ``python benchmarks/drugbert_cells.py --data DIR [--json FILE]``.

Trained on LINCS over-expression signatures (bulk; genes with 10 measured changes or more) with the partners of the
over-expressed gene in OmniPath as its features. IFNB1 is left out; what is predicted for it is compared with the
response of blood cells to interferon beta (Kang et al. 2018), type by type. No cell of that study is trained on:
control cells only give the mean and the standard deviation of each gene, and the cells the prediction is added to.

A predicted cell is a control cell plus the prediction (mean square 1) times the standard deviation of each gene among
control cells, five predictions per cell type where a method makes five.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from grnlab._provenance import versions
from grnlab.backbones import DrugBert, DrugBertConfig
from grnlab.data import read_signatures, scale_signatures
from grnlab.evaluate import response_scores
from grnlab.genes import GeneVocab
from grnlab.tasks import ResponseConfig, draw_responses, fit_responses, nearest_drugs, predict_responses

UNSEEN = "IFNB1"
N_DRAWS, MIN_CHANGES, MIN_CELLS, MAX_CELLS = 5, 10, 30, 200


def load(data: Path) -> tuple[ad.AnnData, pd.DataFrame]:
    """Over-expression signatures, scaled, and features of the over-expressed genes."""
    path = data / "perturbation/lincs_overexpression_dysreg.csv.gz"
    listed = pd.read_csv(path, usecols=["symbol", "status"])
    measured = listed.loc[listed["status"] == "measured", "symbol"].unique()
    table = read_signatures(path, drug="perturbagen_symbol", gene="symbol", value="z_score")
    table = table[:, np.isin(table.var_names, measured)]
    table = table[(np.asarray(table.X) != 0).sum(axis=1) >= MIN_CHANGES].copy()
    edges = pd.read_parquet(data / "networks/omnipath.parquet")
    ends = [edges[["source", "target"]], edges[["target", "source"]]]
    pairs = pd.concat([one.set_axis(["gene", "partner"], axis=1) for one in ends]).drop_duplicates()
    pairs = pairs[pairs["gene"].isin(table.obs["drug"])]
    features = pd.crosstab(pairs["gene"], pairs["partner"]).clip(upper=1).astype(float)
    features = features.loc[:, features.sum() >= 2]
    features = features * np.log(len(features) / features.sum())
    features = features[(features != 0).any(axis=1)]
    features = features.div(np.linalg.norm(features, axis=1), axis=0)
    return scale_signatures(table[table.obs["drug"].isin(features.index)].copy()), features


def cells_of(data: Path, genes: Sequence[str]) -> tuple[np.ndarray, pd.DataFrame, list[str]]:
    """Log-normalised cells of Kang et al. on the genes of the panel that they have."""
    adata = ad.read_h5ad(data / "scrna/kang2018_ifnb_pbmc.h5ad")
    counts = sp.csr_matrix(adata.X)
    logged = sp.csr_matrix(sp.diags(1e4 / np.asarray(counts.sum(axis=1)).ravel()) @ counts).log1p()
    shared = [gene for gene in genes if gene in adata.var_names]
    return logged[:, adata.var_names.get_indexer(shared)].toarray(), adata.obs, shared


def predictions(signatures: ad.AnnData, features: pd.DataFrame, *, seed: int, steps: int) -> dict[str, np.ndarray]:
    """Method → predicted signatures of the unseen gene, all genes of the panel."""
    known = signatures[signatures.obs["drug"] != UNSEEN].copy()
    values, rng = np.asarray(known.X), np.random.default_rng(seed)
    near = nearest_drugs(features, [UNSEEN], known.obs["drug"], k=N_DRAWS)[0]
    made = {
        "measured (upper bound)": np.asarray(signatures[signatures.obs["drug"] == UNSEEN].X),
        "no change": np.zeros((1, known.n_vars)),
        "random perturbations": values[rng.choice(len(values), N_DRAWS, replace=False)],
        "mean signature": values.mean(axis=0, keepdims=True),
        "kNN over features": values[near],
    }
    names = list(signatures.var_names)
    blank = {"ensembl_id": "", "aliases": "", "position": range(len(names)), "species": "Homo sapiens", "is_tf": False}
    vocab = GeneVocab(pd.DataFrame({"symbol": names} | blank))
    for name, rank in {"DrugBERT": 0, "DrugBERT, linear path": 32}.items():
        torch.manual_seed(seed)
        new = DrugBert(vocab, DrugBertConfig(decoder="mlp", features=tuple(features.columns), additive_rank=rank))
        config = ResponseConfig(max_steps=steps, val_every=min(25, steps), seed=seed)
        model = fit_responses(known, new, features=features, config=config)
        predicted = predict_responses(model, features.loc[[UNSEEN]])
        made[name] = draw_responses(predicted, known, features, n_draws=N_DRAWS, spread=0.25)[UNSEEN]
    made["neighbours"] = known.obs["drug"].to_numpy()[near]
    return made


def scores_of(
    made: dict[str, np.ndarray], names: Sequence[str], cells: tuple[np.ndarray, pd.DataFrame, list[str]], *, seed: int
) -> list[dict[str, object]]:
    """Scores of every method in every cell type."""
    logged, obs, shared = cells
    at, rng, rows = [list(names).index(gene) for gene in shared], np.random.default_rng(seed), []
    stimulated = (obs["condition"] == "STIM").to_numpy()
    for cell_type, of in obs.groupby("cell_type", observed=True).indices.items():
        control, treated = of[~stimulated[of]], of[stimulated[of]]
        if min(len(control), len(treated)) < MIN_CELLS:
            continue
        mean, spread = logged[control].mean(axis=0), logged[control].std(axis=0)
        few = [rng.permutation(rows_)[:MAX_CELLS] for rows_ in (control, treated)]
        for method, profiles in made.items():
            change = profiles[:, at] / max(np.sqrt((profiles[:, at] ** 2).mean()), 1e-12)
            predicted = np.concatenate([logged[few[0]] + one * spread for one in change])
            said = response_scores(logged[few[1]], predicted, reference=mean)
            # of the change itself: means of expression are alike whatever is predicted
            true = logged[treated].mean(axis=0) - mean
            said |= {f"change_{name}": score for name, score in response_scores(true, change.mean(axis=0)).items()}
            rows.append({"cell_type": cell_type, "method": method, "n_treated": len(treated), **said})
    return rows


def main() -> None:
    """Print one table, the mean over seeds and cell types."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of weights and draws (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few steps and one seed: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write conditions and rows there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    signatures, features = load(options.data)
    cells, rows = cells_of(options.data, list(signatures.var_names)), []
    for seed in options.seeds[: 1 if options.quick else None]:
        made = predictions(signatures, features, seed=seed, steps=10 if options.quick else 50)
        neighbours = made.pop("neighbours").tolist()
        rows += [{"seed": seed, **row} for row in scores_of(made, signatures.var_names, cells, seed=seed)]
    table = pd.DataFrame(rows)
    shown = ["change_mean", "change_mean_DE50", "change_mean_DE10", "mean", "mean_DE50", "mean_DE10"]
    shown += ["dis", "dis_DE50", "dis_DE10"]
    print("| method | " + " | ".join(shown) + " |\n" + "|---" * (len(shown) + 1) + "|")
    for method, of in table.groupby("method", sort=False):
        print(f"| {method} | " + " | ".join(f"{of[name].mean():.3f}" for name in shown) + " |")
    conditions = {
        "signatures": list(signatures.shape), "features": features.shape[1], "genes_shared": len(cells[2]),
        "neighbours": neighbours, "cell_types": sorted(map(str, table["cell_type"].unique())), "quick": options.quick,
        "cpu_s": round(time.process_time() - started, 1), "versions": versions(),
    }  # fmt: skip
    print(json.dumps(conditions))
    if options.json is not None:
        text = json.dumps({"conditions": conditions, "rows": rows}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
