"""Drugs as features: fingerprints of their structures."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from grnlab._optional import require


def drug_fingerprints(smiles: Mapping[str, str], *, radius: int = 2, n_bits: int = 1_024) -> pd.DataFrame:
    """Morgan fingerprints of drugs, one row each, by RDKit.

    Parameters
    ----------
    smiles
        Name of the drug → its structure as SMILES.
    radius, n_bits
        Of the fingerprint.

    Raises
    ------
    ImportError
        When RDKit is not installed.
    ValueError
        When a structure cannot be read.
    """
    require("rdkit", install="grnlab[drugs]", purpose="to make fingerprints of drugs")
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=n_bits)
    with rdBase.BlockLogs():
        molecules = {name: Chem.MolFromSmiles(str(text)) for name, text in smiles.items()}
    if wrong := [name for name, molecule in molecules.items() if molecule is None or molecule.GetNumAtoms() == 0]:
        msg = f"smiles holds {len(wrong)} structures that cannot be read, of the drugs {wrong[:5]}."
        raise ValueError(msg)
    bits = [generator.GetFingerprintAsNumPy(molecule) for molecule in molecules.values()]
    return pd.DataFrame(np.array(bits, dtype=np.float32), index=list(molecules))
