import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

collect_ignore_glob = ["make_*.py"]  # run by hand, in environments of their own
FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session")
def fixtures():
    """Folder of what the make scripts wrote."""
    return FIXTURES


@pytest.fixture(scope="session")
def real_cells():
    """12 real cells: an AnnData with a gene that counts for the totals alone, so that no name is special."""
    content = json.loads((FIXTURES / "cells.json").read_text())
    counts, totals = np.array(content["counts"]), np.array(content["totals"])
    rest = totals - counts.sum(1)
    assert (rest >= 0).all()
    names = [*content["genes"], "ALL_OTHERS"]
    obs = pd.DataFrame({"cell_type": content["cell_type"]}, index=[f"cell{n}" for n in range(len(counts))])
    adata = ad.AnnData(sp.csr_matrix(np.c_[counts, rest].astype(np.float32)), obs, pd.DataFrame(index=names))
    adata.var["ensembl_id"] = [*content["ensembl"], "ENSG09999999999"]
    return adata


@pytest.fixture(scope="session")
def shown():
    """Counts of the genes a model knows, their tokens and the totals, as the model is given them."""

    def show(model, adata):
        known = [(model.vocab.token(name), column) for column, name in enumerate(adata.var_names)]
        tokens, columns = zip(*sorted((token, column) for token, column in known if token is not None), strict=True)
        totals = np.asarray(adata.X.sum(1)).ravel()
        return sp.csr_matrix(adata.X[:, list(columns)]), np.array(tokens), totals

    return show


@pytest.fixture(scope="session")
def recorded():
    """What a model records, layer → q, k, v, out."""

    def run(model, tokens):
        layers = {}
        encoded = model.encode(tokens, record=lambda layer, *rest: layers.update({layer: rest}))
        return encoded, [SimpleNamespace(q=q, k=k, v=v, out=out) for q, k, v, out in layers.values()]

    return run


@pytest.fixture(scope="session")
def softmax_map():
    """Attention (B, H, T, T) from what is recorded and the padding."""

    def attention(layer, spec, pad_BT):
        logits = spec.scale * torch.einsum("bthd,bshd->bhts", layer.q.double(), layer.k.double())
        if pad_BT is not None:
            prefix = pad_BT.new_zeros(len(pad_BT), spec.n_prefix)
            logits = logits.masked_fill(torch.cat([prefix, pad_BT], 1)[:, None, None], -torch.inf)
        return logits.softmax(-1)

    return attention


@pytest.fixture(scope="session")
def scfoundation_reference():
    """Writes the files of a tiny scFoundation for a list of genes, and gives the reference."""
    import importlib.util

    path = Path(__file__).parent / "scfoundation_reference.py"
    spec = importlib.util.spec_from_file_location("scfoundation_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reference


@pytest.fixture(scope="session")
def publishers_files(fixtures, tmp_path_factory, scfoundation_reference):
    """Name of a fixture → path of the publisher's files."""
    from safetensors.torch import load_file

    root, paths = tmp_path_factory.mktemp("published"), {}
    for name in ("geneformer_v1", "geneformer_v2"):
        paths[name] = shutil.copytree(fixtures / name, root / name)
    paths["scgpt"] = shutil.copytree(fixtures / "scgpt", root / "scgpt")
    torch.save(load_file(paths["scgpt"] / "best_model.safetensors"), paths["scgpt"] / "best_model.pt")
    for name in ("scprint_v1", "scprint_v15", "scprint_gqa"):
        content = json.loads((fixtures / name / "rest.json").read_text())
        content["state_dict"] = load_file(fixtures / name / "state_dict.safetensors")
        paths[name] = root / f"{name}.ckpt"
        torch.save(content, paths[name])
    genes = json.loads((fixtures / "scgpt/vocab.json").read_text())
    paths["scfoundation"] = root / "scfoundation"
    scfoundation_reference([gene for gene in genes if not gene.startswith("<")], paths["scfoundation"])
    return paths
