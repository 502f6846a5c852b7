"""Perturbation signatures: tables of signed changes, perturbation × gene, with drug, cell and dose.

Signatures are z-scores or log fold changes, not counts: they have a sign, and most are not zero. Models that read them
(``model.reads == "signatures"``) are given them as they are.
"""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from grnlab._reading import read_separated
from grnlab.data.counts import counts_of, matrix_of


def read_signatures(
    path: str | Path,
    *,
    drug: str | None = None,
    cell: str | None = None,
    dose: str | None = None,
    gene: str | None = None,
    value: str | None = None,
) -> ad.AnnData:
    """Read a table of signatures.

    Parameters
    ----------
    path
        CSV or tab-separated file (by suffix; may be compressed). Either wide, a row per signature and a column per
        gene; or long, a row per signature and gene, with `gene` and `value`.
    drug
        Column of the perturbation; the first column by default.
    cell, dose
        Columns of the cell line and of the dose, where there are any.
    gene, value
        Of a long table: columns of the gene and of its change. Pairs that are not listed count as 0, no change.

    Returns
    -------
    Signatures × genes, float32, with ``obs["drug"]`` and, where given, ``obs["cell"]`` and ``obs["dose"]``; NaN where
    the file says nothing, as for controls.

    Raises
    ------
    ValueError
        When a column is missing, a gene or a signature of a long table comes twice, a value is missing, no number or
        not finite, or a dose is not above 0.

    Examples
    --------
    ``read_signatures("lincs.csv.gz", drug="perturbagen")``
    """
    tabs = ".tsv" in Path(path).name or ".txt" in Path(path).name
    table = read_separated(path, separator="\t" if tabs else ",")
    drug = str(table.columns[0]) if drug is None else drug
    columns = {"drug": drug, "cell": cell, "dose": dose}
    conditions = {name: column for name, column in columns.items() if column is not None}
    if (gene is None) != (value is None):
        msg = "gene and value go together: the columns of a long table. Leave both out for a wide one."
        raise ValueError(msg)
    wanted = [*conditions.values(), *([gene, value] if gene is not None else [])]
    if missing := [column for column in wanted if column not in table.columns]:
        msg = f"{path} has no column {missing}; it has {list(table.columns[:10])}."
        raise ValueError(msg)
    if gene is not None:
        table = _widened(table, list(conditions.values()), gene, str(value), path)
    genes = [column for column in table.columns if column not in conditions.values()]
    text = [column for column in genes if not pd.api.types.is_numeric_dtype(table[column])]
    if text or not genes:
        msg = f"{path}: the columns {text[:5]} hold text; name the conditions (drug, cell, dose) and drop other text."
        raise ValueError(msg)
    obs = pd.DataFrame({name: table[column].to_numpy() for name, column in conditions.items()})
    for name in ("drug", "cell"):
        if name in obs:
            obs[name] = obs[name].astype(object).map(str, na_action="ignore")  # a control has no drug
    obs.index = pd.Index([f"signature{number}" for number in range(len(obs))])
    adata = ad.AnnData(table[genes].to_numpy(np.float32), obs=obs, var=pd.DataFrame(index=[str(g) for g in genes]))
    check_signatures(adata)
    if "dose" in obs:
        log_doses(obs["dose"])
    return adata


def _widened(table: pd.DataFrame, conditions: list[str], gene: str, value: str, path: str | Path) -> pd.DataFrame:
    if not pd.api.types.is_numeric_dtype(table[value]):
        msg = f"{path}: the column {value!r} holds text; expected the change of each gene, a number."
        raise ValueError(msg)
    for column in (gene, value):
        if (empty := table[column].isna()).any():
            msg = f"{path}: the column {column!r} is empty in {int(empty.sum())} rows; fill or remove them."
            raise ValueError(msg)
    twice = table.duplicated([*conditions, gene])
    if twice.any():
        first = table.loc[twice, [*conditions, gene]].iloc[0].tolist()
        msg = f"{path} holds {int(twice.sum())} pairs of signature and gene twice, the first {first}; keep one of each."
        raise ValueError(msg)
    signature = table.groupby(conditions, dropna=False).ngroup()  # an unknown condition is one too
    changes = table.pivot_table(index=signature, columns=gene, values=value, fill_value=0.0)
    return table[conditions].groupby(signature).first().join(changes).reset_index(drop=True)


def check_signatures(adata: ad.AnnData, *, layer: str | None = None) -> sp.csr_matrix:
    """Signed changes of an AnnData as CSR float32, or what is wrong with them.

    Parameters
    ----------
    adata
        Signatures × genes.
    layer
        Layer that holds them; ``X`` by default.

    Raises
    ------
    ValueError
        When there is no such layer, a value is not finite, a signature is all zero, or no value is negative: then they
        are counts or expression, not changes, see :func:`cell_signatures`.

    Examples
    --------
    >>> check_signatures(ad.AnnData(np.array([[0.5, -1.0], [0.0, 2.0]]))).nnz
    3
    """
    values = sp.csr_matrix(matrix_of(adata, layer), dtype=np.float32)
    if 0 in values.shape:
        msg = f"adata has shape {values.shape}; there must be signatures and genes."
        raise ValueError(msg)
    if not np.isfinite(values.data).all():
        row, column = (int(x[0]) for x in np.nonzero(~np.isfinite(values.toarray())))
        msg = (
            f"adata holds NaN or infinite values, the first in signature {adata.obs_names[row]!r}, gene "
            f"{adata.var_names[column]!r}; remove them, or set them to 0 where 'not measured' may count as no change."
        )
        raise ValueError(msg)
    if (values.data == 0).any():
        values = values.copy()  # eliminate_zeros works in place: the caller's matrix must not be touched
        values.eliminate_zeros()
    empty = np.flatnonzero(np.diff(values.indptr) == 0)
    if len(empty):
        msg = (
            f"{len(empty)} signatures change no gene, the first is {adata.obs_names[empty[0]]!r}; remove them: "
            "adata[abs(adata.X).sum(axis=1) > 0]."
        )
        raise ValueError(msg)
    if values.data.min() > 0:
        msg = (
            f"adata holds no negative value (smallest {values.data.min():.4g}), so these are counts or expression, not "
            "changes. grnlab.data.cell_signatures(adata, reference) turns counts of cells into changes."
        )
        raise ValueError(msg)
    return values


def log_doses(doses: pd.Series) -> np.ndarray:
    """Logarithm of doses to base 10, NaN where a dose is missing.

    Parameters
    ----------
    doses
        Doses, all in one unit.

    Raises
    ------
    ValueError
        When a dose is no number, or not above 0: a signature of no drug has no dose (NaN) and no drug.

    Examples
    --------
    >>> log_doses(pd.Series([10.0, None, 0.1])).tolist()
    [1.0, nan, -1.0]
    """
    try:
        values = doses.astype(np.float64).to_numpy()
    except (ValueError, TypeError) as error:
        msg = f"dose holds what is no number ({error}); give plain numbers in one unit."
        raise ValueError(msg) from error
    wrong = np.flatnonzero((values <= 0) | np.isinf(values))
    if len(wrong):
        msg = (
            f"dose must be above 0 and finite; {len(wrong)} are not, the first is {values[wrong[0]]:g} of "
            f"{doses.index[wrong[0]]!r}. Leave the dose of a control empty (NaN)."
        )
        raise ValueError(msg)
    return np.log10(values)


def scale_signatures(adata: ad.AnnData) -> ad.AnnData:
    """Divide each signature by its root mean square, so that strong and weak ones say equally much about direction.

    Parameters
    ----------
    adata
        Signatures × genes; left as it is.

    Returns
    -------
    A copy; ``obs["strength"]`` holds what was divided by.

    Examples
    --------
    >>> scale_signatures(ad.AnnData(np.array([[3.0, -4.0]]))).obs["strength"].round(3).tolist()
    [3.536]
    """
    values = check_signatures(adata).astype(np.float64)
    strength = np.sqrt(np.asarray(values.multiply(values).mean(axis=1)).ravel())
    scaled = adata.copy()
    scaled.X = (sp.diags(1 / strength) @ values).toarray().astype(np.float32)
    scaled.obs["strength"] = strength
    return scaled


def cell_signatures(adata: ad.AnnData, reference: np.ndarray, *, layer: str | None = None) -> ad.AnnData:
    """Turn counts of cells into changes against reference cells: z-scores of log-normalised counts, gene by gene.

    Parameters
    ----------
    adata
        Counts.
    reference
        True for the cells to compare with (controls); there must be two or more.
    layer
        Layer that holds the counts; ``X`` by default.

    Returns
    -------
    Cells × genes: log1p of counts per 10,000, minus the mean of the reference, over its standard deviation plus 0.1.

    Raises
    ------
    ValueError
        When `adata` holds no counts, or `reference` has another length or fewer than two cells.
    """
    counts, reference = counts_of(adata, layer=layer), np.asarray(reference, dtype=bool)
    if reference.shape != (adata.n_obs,) or reference.sum() < 2:
        msg = f"reference marks {int(reference.sum())} of {reference.size} cells; give one bool for each of the "
        msg += f"{adata.n_obs} cells, True for two or more controls."
        raise ValueError(msg)
    totals = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    logged = sp.csr_matrix(sp.diags(1e4 / totals) @ counts).log1p().toarray()
    mean, spread = logged[reference].mean(axis=0), logged[reference].std(axis=0)
    return ad.AnnData(((logged - mean) / (spread + 0.1)).astype(np.float32), obs=adata.obs.copy(), var=adata.var.copy())
