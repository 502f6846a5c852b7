"""Features of drugs: a table the user gives, or fingerprints of structures."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from grnlab._optional import require


def check_features(
    features: pd.DataFrame, *, drugs: Sequence[str] | None = None, repeats: bool = False
) -> pd.DataFrame:
    """Feature table of drugs, checked and in the order asked for.

    Parameters
    ----------
    features
        Drugs × features; the index names the drugs.
    drugs
        The rows to return; all by default.
    repeats
        Whether a drug may have several rows, as where each is predicted at several doses.

    Returns
    -------
    float32.

    Raises
    ------
    ValueError
        When a drug has no row or two, a feature comes twice, or a value is no finite number.

    Examples
    --------
    >>> table = pd.DataFrame({"kinase inhibitor": [1, 0]}, index=["imatinib", "aspirin"])
    >>> check_features(table, drugs=["aspirin"])["kinase inhibitor"].tolist()
    [0.0]
    """
    for what, names in (("drugs", features.index), ("features", features.columns)):
        if not names.is_unique and not (repeats and what == "drugs"):
            twice = names[names.duplicated()].unique()[:5].tolist()
            msg = f"features holds the {what} {twice} more than once; keep one of each."
            raise ValueError(msg)
    if drugs is not None:
        if lacking := [name for name in drugs if name not in features.index]:
            msg = (
                f"{len(lacking)} drugs have no features: {lacking[:5]}. Add their rows, or leave their signatures out: "
                "adata[adata.obs['drug'].isin(features.index)]."
            )
            raise ValueError(msg)
        features = features.loc[list(drugs)]
    try:
        features = features.astype(np.float32)
    except (ValueError, TypeError) as error:
        msg = f"features holds what is no number ({error}); give numbers, one column per feature."
        raise ValueError(msg) from error
    wrong = ~np.isfinite(features.to_numpy())
    if wrong.any():
        row = int(np.flatnonzero(wrong.any(axis=1))[0])
        msg = f"features holds NaN or infinite values, the first of drug {features.index[row]!r}; fill them."
        raise ValueError(msg)
    return features


def fingerprints(smiles: Mapping[str, str], *, n_bits: int = 1024, radius: int = 2) -> pd.DataFrame:
    """Morgan fingerprints of the largest part of each structure (salts and solvents do not count), by RDKit.

    Parameters
    ----------
    smiles
        Drug → SMILES.
    n_bits, radius
        Of the fingerprint.

    Returns
    -------
    Drugs × bits, float32 of 0 and 1.

    Raises
    ------
    ValueError
        When a structure cannot be read.
    ImportError
        When RDKit is not installed.
    """
    chem = require("rdkit.Chem", install="grnlab[drugs]", purpose="for fingerprints of drugs")
    makers = require("rdkit.Chem.rdFingerprintGenerator", install="grnlab[drugs]", purpose="for fingerprints of drugs")
    maker = makers.GetMorganGenerator(radius=radius, fpSize=n_bits)
    rows = []
    for drug, text in smiles.items():
        molecule = chem.MolFromSmiles(text) if isinstance(text, str) and text else None
        if molecule is None or molecule.GetNumAtoms() == 0:
            msg = f"smiles of drug {drug!r} is {text!r:.80}, which is no structure RDKit can read; mend or remove it."
            raise ValueError(msg)
        largest = max(chem.GetMolFrags(molecule, asMols=True), key=lambda part: part.GetNumHeavyAtoms())
        rows.append(maker.GetFingerprintAsNumPy(largest))
    names = [f"morgan{radius}_{bit}" for bit in range(n_bits)]
    return pd.DataFrame(np.array(rows, dtype=np.float32).reshape(-1, n_bits), index=list(smiles), columns=names)
