"""Every reader of grnlab, with a small sound file for each; see :mod:`fuzzing`."""

import gzip
import io
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from fuzz_models import READERS as MODELS
from fuzzing import Reader, Watch, fuzz

import grnlab as gl
from grnlab.attention.ranks import Ranks
from grnlab.attention.sums import GroupSums, SumsFile
from grnlab.backbones import ScPrint, ScPrintConfig, save_model
from grnlab.backbones.base import AttentionSpec
from grnlab.benchmark.hubs import read_markers
from grnlab.data.hierarchy import read_hierarchy
from grnlab.data.probe import PROBE
from grnlab.data.signatures import read_signatures
from grnlab.genes import GeneVocab
from grnlab.heads import HeadSet
from grnlab.network import GeneNetwork, NetworkSet, read_gmt, read_network
from grnlab.network.formats import FORMATS
from grnlab.training import read_recipe
from grnlab.training.states import StateFolder

N_GENES = 12


def vocab() -> GeneVocab:
    """Vocabulary of a few genes."""
    names = [f"GENE{number}" for number in range(N_GENES)]
    table = pd.DataFrame({"symbol": names, "ensembl_id": [f"ENSG{number:011d}" for number in range(N_GENES)]})
    table = table.assign(aliases="", position=np.arange(N_GENES), species="Homo sapiens", is_tf=np.arange(N_GENES) < 4)
    return GeneVocab(table)


def model() -> ScPrint:
    """Smallest of models."""
    torch.manual_seed(0)
    return ScPrint(vocab(), ScPrintConfig(n_layers=1, d_model=8, n_heads=2), name="small").eval()


def cells() -> ad.AnnData:
    """Few cells."""
    counts = np.random.default_rng(0).poisson(2.0, (12, N_GENES)).astype(np.float32) + np.eye(
        12, N_GENES, dtype=np.float32
    )
    obs = pd.DataFrame({"cell_type": pd.Categorical(["B", "T"] * 6)}, index=[f"cell{number}" for number in range(12)])
    adata = ad.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=vocab().symbols.astype(str)))
    adata.layers["umi"] = adata.X.copy()
    return adata


def network(name: str = "B") -> GeneNetwork:
    """Return a network of five edges."""
    edges = {"source": ["GENE0", "GENE0", "GENE1", "GENE2", "GENE3"]}
    edges |= {"target": ["GENE4", "GENE5", "GENE4", "GENE6", "GENE7"], "weight": [5.0, 4.0, 3.0, 2.0, 1.0]}
    return GeneNetwork.from_edges(pd.DataFrame(edges), vocab().symbols.astype(str), name=name)


def _h5ad(folder: Path) -> Path:
    cells().write_h5ad(folder / "cells.h5ad")
    return folder / "cells.h5ad"


def _zarr(folder: Path) -> Path:
    with ad.settings.override(zarr_write_format=2):
        cells().write_zarr(folder / "cells.zarr")
    (folder / "cells.zarr/.zmetadata").unlink(missing_ok=True)  # a copy of the rest
    return folder / "cells.zarr"


def _stored(folder: Path) -> Path:
    adata = cells()
    gl.tl.store_networks(adata, NetworkSet([network("B"), network("T")]))
    adata.write_h5ad(folder / "stored.h5ad")
    return folder / "stored.h5ad"


def _parquet(folder: Path) -> Path:
    pd.read_csv(io.StringIO(_EDGES)).to_parquet(folder / "gold.parquet")
    return folder / "gold.parquet"


def _text(name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        data = content.encode()
        (folder / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        return folder / name

    return make


def _checkpoint(folder: Path) -> Path:
    return save_model(model(), folder / "model")


def _network(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"network{(FORMATS[name].endings or ('.tsv' if name != 'grnndata' else '.h5ad',))[0]}"
        return network().write(path, name, overwrite=True)

    return make


def _state(folder: Path) -> Path:
    StateFolder(folder / "state").save(3, {"model/x": torch.zeros(3)}, {"step": 3, "scaler": {}})
    return folder / "state"


def _sums_file(folder: Path) -> SumsFile:
    return SumsFile(folder, {"model": {"weights": "x"}, "settings": {"genes": "12"}}, Ranks(alone=True))


def _sums(folder: Path) -> Path:
    file = _sums_file(folder / "sums")
    file._started -= 100
    file.keep(np.arange(3), 2, [GroupSums.empty(AttentionSpec(1, 2, 4, 0.5, 0), 3, 3)])
    return folder / "sums"


def headset(folder: Path) -> Path:
    """Write a head set into a folder."""
    return HeadSet("chosen", torch.eye(2)).save(folder / "heads.json", overwrite=True)


def _stream(path: Path) -> None:
    gl.tl.attention(path, _MODEL, groupby="cell_type", genes=6, min_cells=1)


_MODEL = model()
_EDGES = "source,target,weight\nGENE0,GENE4,0.5\nGENE1,GENE5,0.25\nGENE2,GENE6,-1\n"
_RECIPE = """name: tiny
architecture: scprint
model: {n_layers: 1, d_model: 8, n_heads: 2}
data:
  labels: {cell_type: cell_type, sex: {column: sex}}
  rules: {min_genes: 20}
training:
  objectives: [mask, {name: denoise, weight: 2.0}]
  n_tokens: 64
  batch_size: 4
  lr: 0.001
  max_steps: 10
"""
_ZARR = (".zattrs", "X/.zattrs", "X/data/.zarray", "X/indptr/.zarray", "obs/.zattrs", "X/indptr/0")
_OBO = """format-version: 1.2

[Term]
id: CL:0000000
name: cell

[Term]
id: CL:0000236
name: B cell
is_a: CL:0000000 ! cell
"""

READERS: dict[str, Reader] = {
    "cells, gl.io.read": Reader(_h5ad, gl.io.read),
    "cells, streamed": Reader(_h5ad, _stream),
    "cells, zarr": Reader(_zarr, _stream, _ZARR),
    "stored networks": Reader(_stored, lambda path: gl.tl.stored_networks(gl.io.read(path))),
    "checkpoint": Reader(_checkpoint, gl.load_model, ("config.json", "genes.tsv.gz", "model.safetensors")),
    "gene sets (gmt)": Reader(_text("sets.gmt", "SET1\thttp://x\tGENE0\tGENE1\nSET2\tna\tGENE2\tGENE3\n"), read_gmt),
    "network set (.grns)": Reader(
        lambda folder: NetworkSet([network("B"), network("T")]).save(folder / "nets.grns", overwrite=True),
        NetworkSet.load,
    ),
    "network (.grn)": Reader(lambda folder: network().save(folder / "net.grn", overwrite=True), GeneNetwork.load),
    **{
        f"network, {name}": Reader(_network(name), lambda path, name=name: read_network(path, name))
        for name in FORMATS
        if name != "sif"
    },
    "network, sif": Reader(
        lambda folder: network().write(folder / "net.sif", "sif", overwrite=True),
        lambda path: read_network(path, "sif"),
        ("network.sif", "nodes.tsv", "edges.tsv"),
    ),
    "head set": Reader(headset, HeadSet.load),
    "gold standard, csv": Reader(_text("gold.csv", _EDGES), gl.io.read_gold),
    "gold standard, tsv.gz": Reader(_text("gold.tsv.gz", _EDGES.replace(",", "\t")), gl.io.read_gold),
    "gold standard, json": Reader(_text("gold.json", json.dumps({"GENE0 K562": ["GENE1", "GENE2"]})), gl.io.read_gold),
    "gold standard, parquet": Reader(_parquet, gl.io.read_gold),
    "gold standard, gmt": Reader(_text("gold.gmt", "GENE0\tna\tGENE1\tGENE2\nGENE3\tna\tGENE2\n"), gl.io.read_gold),
    "recipe": Reader(_text("recipe.yaml", _RECIPE), read_recipe),
    "state of a training": Reader(
        _state,
        lambda path: StateFolder(path).latest(),
        ("step-000000003/tensors.safetensors", "step-000000003/state.json"),
    ),
    "state of an attention": Reader(_sums, lambda path: _sums_file(path).load(), ("process-0.safetensors",)),
    "hierarchy, obo": Reader(_text("cl.obo", _OBO), read_hierarchy),
    "hierarchy, csv": Reader(_text("cl.csv", "child,parent\nB cell,cell\nT cell,cell\n"), read_hierarchy),
    "signatures": Reader(_text("lincs.csv", "drug,GENE0,GENE1\na,0.5,-1\nb,1,2\n"), read_signatures),
    "markers": Reader(
        _text("m.tsv.gz", "species\tofficial gene symbol\tcell type\tnicknames\nHs\tGENE0\tB cells\tx\n"), read_markers
    ),
    **MODELS,
}


_WATCHES: list[Watch] = []


def main(name: str, place: str, seconds: str, number: str) -> dict[str, Any]:
    """Fuzz one reader in this process: its name, a folder, CPU seconds, seed."""
    logging.disable(logging.WARNING)  # licences of models, one for each
    PROBE.seconds = 3.0  # of waiting for a damaged file that hangs the HDF5 library; a sound one takes milliseconds
    folder = Path(place)
    _WATCHES[:] = _WATCHES or [Watch(folder)]
    journal = folder / "journal"

    def note(path: Path, case: int) -> None:
        journal.write_text(f"{name}, case {case}, {path.name}\n")

    inside = folder / f"reader-{list(READERS).index(name)}"
    watch = _WATCHES[0]
    outcome = fuzz(READERS[name], inside, seconds=float(seconds), watch=watch, number=int(number), journal=note)
    return {"name": name, **asdict(outcome)}
