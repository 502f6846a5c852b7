"""Small data sets: real cells that come with scanpy, and cells simulated from a known network."""

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from grnlab.data.counts import recover_counts
from grnlab.genes import GeneVocab

__all__ = ["PlantedNetwork", "pbmc68k", "planted"]


def pbmc68k() -> ad.AnnData:
    """700 blood cells of 10 types (Zheng et al. 2017, doi:10.1038/ncomms14049), as scanpy bundles them.

    scanpy keeps log-normalised values of 765 genes; the counts are recovered from them. The largest distance from a
    whole number, in counts, is in ``uns["recovered_counts"]["largest_residue"]``.

    Returns
    -------
    AnnData of 700 cells × 765 genes, counts in ``X``, cell types in ``obs["cell_type"]``.
    """
    import scanpy as sc

    adata = recover_counts(sc.datasets.pbmc68k_reduced(), use_raw=True)
    adata.obs["cell_type"] = adata.obs["bulk_labels"].astype(str).astype("category")
    return adata


@dataclass(frozen=True)
class PlantedNetwork:
    """Cells simulated from a known network.

    Attributes
    ----------
    adata
        Counts; ``obs["state"]`` and ``obs["cell_type"]`` (the same for all).
    edges
        The network: ``source, target, sign``.
    vocab
        Vocabulary of the simulated genes: ``TF…`` regulators, ``G…`` targets, ``HUB…`` unregulated.
    """

    adata: ad.AnnData
    edges: pd.DataFrame
    vocab: GeneVocab

    @property
    def tfs(self) -> list[str]:
        """Names of the regulators."""
        return [str(name) for name in self.adata.var_names if name.startswith("TF")]

    @property
    def others(self) -> list[str]:
        """Names of targets and hubs."""
        return [str(name) for name in self.adata.var_names if not name.startswith("TF")]


def planted(
    *,
    n_tfs: int = 8,
    n_targets: int = 28,
    n_hubs: int = 8,
    n_cells: int = 3_000,
    n_states: int = 1,
    state_shift: float = 0.0,
    seed: int = 0,
) -> PlantedNetwork:
    """Simulate counts from a random network with signed edges.

    The log activity of a regulator is normal around a mean that depends on the cell's state; a target adds the
    signed activities of 1 to 3 regulators; hubs are expressed far above all and follow nobody. Counts are Poisson
    with log-normal noise and a depth that varies by cell. States that shift all regulators at once make regulators
    correlate, and so their targets with the wrong ones: they confound correlation.

    Parameters
    ----------
    n_tfs, n_targets, n_hubs, n_cells
        Sizes.
    n_states, state_shift
        Number of states and standard deviation of a regulator's mean between them (within a state it is 1).
    seed
        Of everything.

    Examples
    --------
    >>> data = planted(n_cells=50, seed=1)
    >>> data.adata.shape, sorted(data.edges.columns)
    ((50, 44), ['sign', 'source', 'target'])
    """
    rng = np.random.default_rng(seed)
    tfs = [f"TF{number}" for number in range(n_tfs)]
    targets = [f"G{number}" for number in range(n_targets)]
    hubs = [f"HUB{number}" for number in range(n_hubs)]
    effect = np.zeros((n_tfs, n_targets))
    for column in range(n_targets):
        regulators = rng.choice(n_tfs, rng.integers(1, 4), replace=False)
        signs = rng.choice([-1.0, 1.0], len(regulators))
        effect[regulators, column] = signs * rng.uniform(0.6, 1.0, len(regulators))
    state = rng.integers(n_states, size=n_cells)
    activity = rng.normal(size=(n_states, n_tfs))[state] * state_shift + rng.normal(size=(n_cells, n_tfs))
    log_rate = np.hstack(
        [
            1.5 + 0.7 * activity,
            1.5 + 0.7 * activity @ effect + 0.3 * rng.normal(size=(n_cells, n_targets)),
            4.5 + 0.5 * rng.normal(size=(n_cells, n_hubs)),
        ]
    )
    depth = np.exp(0.3 * rng.normal(size=(n_cells, 1)))
    counts = rng.poisson(np.exp(np.clip(log_rate, None, 7.0)) * depth)
    names = [*tfs, *targets, *hubs]
    adata = ad.AnnData(
        sp.csr_matrix(counts, dtype=np.float32),
        obs=pd.DataFrame(
            {"state": pd.Categorical(state.astype(str)), "cell_type": pd.Categorical(["simulated"] * n_cells)},
            index=[f"cell{number}" for number in range(n_cells)],
        ),
        var=pd.DataFrame(index=names),
    )
    source, target = np.nonzero(effect)
    edges = pd.DataFrame(
        {
            "source": [tfs[index] for index in source],
            "target": [targets[index] for index in target],
            "sign": np.sign(effect[source, target]).astype(int),
        }
    )
    table = pd.DataFrame(
        {
            "symbol": names,
            "ensembl_id": "",
            "aliases": "",
            "position": np.arange(len(names)),
            "species": "simulated",
            "is_tf": [name in tfs for name in names],
        }
    )
    return PlantedNetwork(adata, edges, GeneVocab(table))
