"""Calibrate "outside what the model knows" on labelled cells the built-in model was trained on.

``python benchmarks/known_cells.py --data DIR --out FILE.npz`` embeds some cells of each label of each training file,
fits :class:`grnlab.tasks.KnownCells`, and prints as JSON: false alarms asked for, shares told when a label is held out,
and shares told among cells of these files that have no label of the model. ``grnlab/tasks/calibration`` holds the
result for the built-in weights, made from 1,805 cells of 13 of these files.
"""

import argparse
import json
from pathlib import Path

import anndata as ad
import numpy as np
import yaml

import grnlab as gl
from grnlab.tasks import fit_known
from grnlab.training.recipe import builtin_recipes
from grnlab.training.recipes.cell_types import coarse_cell_type

NO_LABEL = "without a label: "


def embedded(path: Path, model: object, n_each: int) -> tuple[np.ndarray, np.ndarray]:
    """Class embeddings and labels of some cells of each label; none where the file has no labels."""
    adata = ad.read_h5ad(path)
    if adata.obs["cell_type"].nunique() < 2:
        return np.empty((0, 0)), np.empty(0, dtype=str)
    labels = np.array([coarse_cell_type(str(one)) or f"{NO_LABEL}{one}" for one in adata.obs["cell_type"]])
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(np.flatnonzero(labels == one))[:n_each] for one in np.unique(labels)])
    part = ad.AnnData(adata.X[np.sort(rows)], var=adata.var)
    gl.tl.embed(part, model)
    return part.obsm["X_grnlab_cell_type"], labels[np.sort(rows)]


def main() -> None:
    """Write the calibration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=25, help="of each label of each file")
    given = parser.parse_args()
    model = gl.load_model("grnlab-small")
    files = yaml.safe_load(builtin_recipes()["grnlab-small"].read_text(encoding="utf-8"))["data"]["files"]
    files = [name for name in files if "placenta" not in name]  # the model gives all its cells one embedding
    parts = [part for part in (embedded(given.data / name, model, given.cells) for name in files) if len(part[1])]
    x, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    of_model = ~np.char.startswith(labels.astype(str), NO_LABEL)
    known = fit_known(x[of_model], labels[of_model], class_name="cell_type", weights_sha256=model.weights_hash)
    known.save(given.out)
    far = known.distance(x) > known.threshold
    told = {str(one): round(float(far[labels == one].mean()), 3) for one in np.unique(labels[~of_model])}
    print(json.dumps(known.report | {"told_without_a_label": told}, indent=1))


if __name__ == "__main__":
    main()
