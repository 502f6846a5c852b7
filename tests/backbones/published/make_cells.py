"""Make fixtures/cells.json: 12 real blood cells and 60 of their genes, which the other make scripts show to publishers.

Run in the development environment: ``python tests/backbones/published/make_cells.py``.
"""

import json
from pathlib import Path

import numpy as np

import grnlab as gl
from grnlab.backbones.published.names import human_genes

HERE = Path(__file__).parent / "fixtures"


def main() -> None:
    """Cells of two types with the genes they express most often, transcription factors among them."""
    adata, known = gl.datasets.pbmc68k(), human_genes()
    types = adata.obs["cell_type"].astype(str)
    common = types.value_counts().index[:2]
    rows = np.concatenate([np.flatnonzero(types == name)[:6] for name in common])
    counts = adata.X[rows].toarray().astype(int)
    token = [known.by_symbol.get(name) for name in adata.var_names]
    detected = (counts > 0).sum(0) * [one is not None for one in token]
    is_tf = np.array([one is not None and bool(known.is_tf[one]) for one in token])
    order = np.argsort(-detected, kind="stable")
    chosen = np.sort(np.concatenate([order[is_tf[order]][:8], order[~is_tf[order]][:52]]))
    content = {
        "genes": adata.var_names[chosen].tolist(),
        "ensembl": [str(known.table["ensembl_id"][token[column]]) for column in chosen],
        "cell_type": types.iloc[rows].tolist(),
        "counts": counts[:, chosen].tolist(),
        "totals": counts.sum(1).tolist(),
    }
    (HERE / "cells.json").write_text(json.dumps(content).replace("]], ", "]],\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
