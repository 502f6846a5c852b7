"""What ``benchmarks/downstream.py`` reads: responses of cell lines, features of drugs and lines, cells, effects."""

import re
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

import grnlab as gl
from grnlab.data import fingerprints as morgan

LINES = {
    "A549": "A549_LUNG",
    "H838": "NCIH838_LUNG",
    "H2228": "NCIH2228_LUNG",
    "H1975": "NCIH1975_LUNG",
    "HCC827": "HCC827_LUNG",
    "HCT116": "HCT116_LARGE_INTESTINE",
    "A375": "A375_SKIN",
    "HOS": "HOS_BONE",
}


def responses(data: Path) -> pd.DataFrame:
    """Ln IC50 of lines (rows, DepMap ids) to drugs that have a structure (columns, names; the first of equal ones)."""
    table = pd.read_csv(data / "drug/gdsc_ln_ic50.csv.gz", index_col=0)
    drugs = _drugs(data)
    table = table.loc[table.index.intersection(drugs.index)].T
    table.columns = drugs.loc[table.columns, "Name"]
    return table.loc[:, ~table.columns.duplicated()].rename_axis(columns=None)


def fingerprints(data: Path, drugs: pd.Index) -> pd.DataFrame:
    """Morgan fingerprints."""
    table = _drugs(data).drop_duplicates("Name").set_index("Name")
    return morgan(table.loc[drugs, "smiles"].to_dict())


def targets(data: Path, drugs: pd.Index, embeddings: pd.DataFrame) -> pd.DataFrame:
    """Mean embedding of the genes a drug is listed to hit; the mean of all targets where none is a gene."""
    table = _drugs(data).drop_duplicates("Name").set_index("Name")["Targets"].fillna("")
    named = {drug: [x for x in re.split(r"[,;/ ]+", table[drug]) if x in embeddings.index] for drug in drugs}
    known = pd.DataFrame({drug: embeddings.loc[genes].mean() for drug, genes in named.items() if genes}).T
    return known.reindex(drugs).fillna(known.mean())


def _drugs(data: Path) -> pd.DataFrame:
    table = pd.read_csv(data / "drug/gdsc_drug_list.csv", dtype=str)
    smiles = pd.read_csv(data / "drug/gdsc_223_pubchem_smiles.tsv", sep="\t", header=None, dtype=str)
    table["smiles"] = table["PubCHEM"].map(dict(zip(smiles[0], smiles[1], strict=True)))
    return table.dropna(subset="smiles").assign(id="GDSC:" + table["drug_id"]).set_index("id")


def lines(data: Path) -> pd.DataFrame:
    """Annotation of cell lines by DepMap id."""
    table = pd.read_csv(data / "drug/ccle_cell_lines.tsv.gz", sep="\t")
    return table.dropna(subset="depMapID").drop_duplicates("depMapID").set_index("depMapID")


def methylation(data: Path) -> pd.DataFrame:
    """Promoter methylation of 561 lines."""
    return pd.read_csv(data / "drug/ccle_methylation_561x808.csv.gz", index_col=0)


def tissues(data: Path) -> pd.DataFrame:
    """Tissue of a line, one column each."""
    return pd.get_dummies(lines(data)["Site_Primary"].fillna("unknown")).astype(float)


def line_cells(data: Path, *, per_line: int, seed: int) -> ad.AnnData:
    """Singlets of the eight lines, a few of each; ``obs["line"]`` is the DepMap id."""
    tian = ad.read_h5ad(data / "scrna/tian2019_5cl_celseq2.h5ad")
    tian = tian[tian.obs["demuxlet"].astype(str).str.startswith("SNG")].copy()
    cimseq = ad.read_h5ad(data / "scrna/cimseq_3lines_singlets.h5ad")
    for part, platform in ((tian, "CEL-seq2"), (cimseq, "Smart-seq2")):
        part.X = sp.csr_matrix(part.X)
        part.obs = pd.DataFrame({"cell_type": part.obs["cell_type"].astype(str), "platform": platform})
    both = ad.concat([tian, cimseq], join="inner", index_unique="-", keys=["tian", "cimseq"])
    ids = lines(data).reset_index().set_index("CCLE_ID")["depMapID"]
    both.obs["line"] = both.obs["cell_type"].map({name: ids[of_ccle] for name, of_ccle in LINES.items()})
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(both.obs["line"] == line))[:per_line] for line in both.obs["line"].unique()]
    return both[np.sort(np.concatenate(rows))].copy()


def expression(adata: ad.AnnData, *, n_genes: int) -> np.ndarray:
    """log(1 + counts per 10,000) of the most variable genes."""
    import scanpy as sc

    logged = adata.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    sc.pp.highly_variable_genes(logged, n_top_genes=n_genes)
    return np.asarray(logged[:, logged.var["highly_variable"]].X.toarray())


def embedding(adata: ad.AnnData, model: Any, *, n_genes: int) -> np.ndarray:
    """Cell embedding."""
    gl.tl.embed(adata, model, genes=n_genes, classes=False, key="X_model")
    return np.asarray(adata.obsm["X_model"], dtype=np.float64)


def overexpression(data: Path, *, least_perturbed: int, least_changed: int) -> pd.DataFrame:
    """z-scores after over-expression of a gene, 0 where the change was not significant."""
    table = pd.read_csv(data / "perturbation/lincs_overexpression_dysreg.csv.gz")
    table = table.dropna(subset=["perturbagen_symbol", "symbol"])
    wide = table.pivot_table(index="perturbagen_symbol", columns="symbol", values="z_score", aggfunc="mean")
    wide = wide.loc[:, wide.notna().sum() >= least_perturbed]
    return wide[wide.notna().sum(axis=1) >= least_changed].fillna(0.0).rename_axis(index=None, columns=None)


def ligands(data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Log fold changes after five ligand treatments, and which genes changed (q < 0.1)."""
    table = pd.read_csv(data / "perturbation/nichenet_ligand_de.csv.gz").drop_duplicates(["ligand", "gene"])
    effects = table.pivot_table(index="ligand", columns="gene", values="lfc").dropna(axis=1)
    q = table.pivot_table(index="ligand", columns="gene", values="qval").reindex(columns=effects.columns)
    return effects, q < 0.1


def curated_graph(data: Path) -> pd.DataFrame:
    """OmniPath edges with two references or more, of any type."""
    table = pd.read_parquet(data / "networks/omnipath.parquet", columns=["source", "target", "n_references"])
    return table[table["n_references"] >= 2][["source", "target"]].drop_duplicates()


def shuffled(graph: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The graph with its targets permuted: every gene keeps how many edges it has."""
    rng = np.random.default_rng(seed)
    return graph.assign(target=rng.permutation(graph["target"].to_numpy()))
