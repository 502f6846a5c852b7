"""Cells of the benchmark, by name: where they lie in the data folder, how they are read, and what judges them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

EXPRESSION = "expression"  # layer with the measurements of data that did not come as counts
ALL_CELLS = "all cells"


@dataclass(frozen=True)
class Dataset:
    """One set of cells and the gold standards for it.

    Attributes
    ----------
    name
        On the command line and in tables.
    read
        Data folder → cells. ``X`` holds counts, or pseudo-counts for the model beside a layer ``"expression"``.
    golds
        Names of gold standards.
    groupby
        Column of ``obs`` with the groups; None takes all cells as one.
    pooled
        Also judge all cells together.
    groups
        Only these groups; all of at least 100 cells by default.
    blood
        Groups are types of blood cells, whose markers should be hubs.
    adapted
        The genes are unknown to any pretrained model: one is trained on these very cells, without the gold standard.
    digest
        Of a case from outside: what its files hold, so that a run is not gone on with after they changed.
    """

    name: str
    read: Callable[[Path], ad.AnnData]
    golds: tuple[str, ...]
    groupby: str | None = None
    pooled: bool = True
    groups: tuple[str, ...] = ()
    blood: bool = False
    adapted: bool = False
    digest: str = ""


def read_counts(path: str, *, condition: str | None = None) -> Callable[[Path], ad.AnnData]:
    """Reader of an h5ad file of counts in the data folder.

    Parameters
    ----------
    path
        Below the data folder.
    condition
        Keep the cells with this value in ``obs["condition"]``.
    """

    def read(folder: Path) -> ad.AnnData:
        import grnlab as gl

        adata = gl.io.read(folder / path)
        if condition is not None:
            adata = adata[adata.obs["condition"].astype(str) == condition].copy()
        return adata

    return read


def read_log2(path: str) -> Callable[[Path], ad.AnnData]:
    """Reader of a table genes × cells of log2(1 + x), as BEELINE has them.

    The model is shown pseudo-counts: 2 ** x - 1, scaled to 10,000 per cell and rounded.

    Parameters
    ----------
    path
        Below the data folder.
    """

    def read(folder: Path) -> ad.AnnData:
        table = pd.read_csv(folder / path, index_col=0).T
        amount = np.exp2(table.to_numpy(np.float64)) - 1
        counts = np.round(amount / amount.sum(axis=1, keepdims=True).clip(min=1e-9) * 1e4)
        return _with_expression(counts, table)

    return read


def read_continuous(path: str, *, transposed: bool = False) -> Callable[[Path], ad.AnnData]:
    """Reader of simulated expression, whose model is shown :func:`grnlab.pp.pseudo_counts`.

    Parameters
    ----------
    path
        Below the data folder: a table experiments × genes with their names.
    transposed
        Genes × cells, genes numbered from 0 (SERGIO); they are called g0, g1 ...
    """

    def read(folder: Path) -> ad.AnnData:
        import grnlab as gl

        table = pd.read_csv(folder / path, index_col=0 if transposed else None)
        if transposed:
            table = table.T
            table.columns = [f"g{number}" for number in table.columns]
        counts = gl.pp.pseudo_counts(ad.AnnData(table.to_numpy(np.float64))).X
        return _with_expression(counts, table)

    return read


def _with_expression(counts: np.ndarray | sp.spmatrix, table: pd.DataFrame) -> ad.AnnData:
    adata = ad.AnnData(
        sp.csr_matrix(counts, dtype=np.float32),
        obs=pd.DataFrame(index=[f"cell{number}" for number in range(len(table))]),
        var=pd.DataFrame(index=table.columns.astype(str)),
    )
    adata.layers[EXPRESSION] = table.to_numpy(np.float64)
    return adata


_BLOOD = ("omnipath", "omnipath_all", "trrust", "dorothea_abc", "encode")
_HESC = tuple(f"hesc_{name}" for name in ("kd", "chip", "chip_kd", "lof_gof", "nishiyama", "lit"))
_MDC = tuple(f"mdc_{name}" for name in ("string", "nonspecific", "specific", "kd", "chip", "chip_kd"))
_KANG = "scrna/kang2018_ifnb_pbmc.h5ad"
_DATASETS = (
    Dataset("pbmc3k", read_counts("scrna/pbmc3k.h5ad"), _BLOOD, "cell_type", blood=True),
    Dataset("kang_control", read_counts(_KANG, condition="CTRL"), _BLOOD, "cell_type", blood=True),
    Dataset("kang_stimulated", read_counts(_KANG, condition="STIM"), _BLOOD, "cell_type", blood=True),
    Dataset("hesc_liu", read_counts("mccalla/hESC_liu.h5ad"), _HESC),
    Dataset("hesc_chen", read_counts("mccalla/hESC_chen.h5ad"), _HESC),
    Dataset("beeline_mdc", read_log2("beeline/genelink/Specific/mDC/TFs+500/BL--ExpressionData.csv.gz"), _MDC),
    *(
        Dataset(
            f"small_{name.lower()}",
            read_log2(f"beeline/small_real/{name}/ExpressionData.csv.gz"),
            (f"small_{name.lower()}",),
        )
        for name in ("hESC", "mEF", "mES-PE")
    ),
    *(
        Dataset(
            f"dream4_{number}",
            read_continuous(f"dream4/size100_multifactorial_{number}.csv"),
            (f"dream4_{number}",),
            adapted=True,
        )
        for number in range(1, 5)
    ),
    *(
        Dataset(
            f"sergio_{name.lower()}",
            read_continuous(f"sergio/{name}/simulated_noNoise_S_0.csv.gz", transposed=True),
            (f"sergio_{name.lower()}",),
            adapted=True,
        )
        for name in ("DS4", "DS5")
    ),
)
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _DATASETS}
