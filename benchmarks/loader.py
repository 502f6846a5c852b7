"""How fast random training batches come from a collection of files, beside peers and the demand of a model.

``python benchmarks/loader.py --data DIR [--quick] [--demand CELLS_PER_S] --json FILE`` prints a Markdown table and a
row of JSON per case. `DIR` holds h5ad files of human counts; others are left out. Each case runs in a fresh process of
one thread and does the same work: rows drawn with replacement by weight 50 / (count + 50) over data set × cell type,
batches of 64 cells, contexts of 1,024 genes aligned to the vocabulary (all gene names of the files). The files were
just written, so the operating system has them in memory: this measures readers, not a disk.

The peers have no way to align each file by itself, so they get copies of the files that are aligned already, compressed
as the originals are. Rates are per CPU second of the one process, so that other work on the machine does not count;
the demand is that of a model that has all cores to itself. What follows from the numbers is written down in
:mod:`grnlab.data.store`.
"""

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from processes import Row, machine, report, run_case, run_script, table

BATCH, N_TOKENS, AHEAD = 64, 1_024, 16
FORMATS = ("h5ad compressed", "h5ad", "zarr")
TARGET = 3  # times the demand of the model


def vocabulary(paths: Sequence[Path]) -> Any:
    """Every gene name of the files is a token."""
    import pandas as pd

    from grnlab.data.files import CountsFile
    from grnlab.genes import GeneVocab

    names: dict[str, None] = {}
    for path in paths:
        with CountsFile(path) as file:
            names |= dict.fromkeys(file.gene_names())
    table = pd.DataFrame({"symbol": list(names), "ensembl_id": "", "aliases": "", "position": range(len(names))})
    return GeneVocab(table.assign(species="Homo sapiens", is_tf=False))


def prepare(data: str, folder: str, *, n_files: int | None) -> dict[str, Any]:
    """Write the files in each format, and aligned copies for the peers."""
    import anndata as ad

    from grnlab.data import QualityRules, load_collection
    from grnlab.genes.alignment import looks_like_mouse

    root = Path(folder)
    adatas = {path.stem: ad.read_h5ad(path) for path in sorted(Path(data).glob("*.h5ad"))}
    adatas = {name: adata for name, adata in adatas.items() if not looks_like_mouse(adata.var_names)}
    for name, adata in list(adatas.items())[:n_files]:
        adata.uns = {}
        for kind in FORMATS:
            path = root / kind / f"{name}.{kind.split()[0]}"
            path.parent.mkdir(exist_ok=True)
            if kind == "zarr":
                adata.write_zarr(path)
            else:
                adata.write_h5ad(path, compression="gzip" if "compressed" in kind else None)
    vocab = vocabulary(sorted((root / "h5ad").iterdir()))
    vocab.save(root / "vocab.tsv")
    for kind in FORMATS:  # scans go into the cache, which no case is to pay for
        options = {"rules": QualityRules(), "label": {"cell_type": "cell_type"}, "cache": root / f"scans of {kind}"}
        cells = load_collection(root / kind, vocab, on_error="skip", **options)
    (root / "aligned").mkdir()
    for number, name in enumerate(cells.names):
        aligned = ad.AnnData(cells.counts[cells.datasets == number])
        aligned.var_names = vocab.symbols
        aligned.write_h5ad(root / "aligned" / f"{name}.h5ad", compression="gzip")
    return {
        "n_cells": len(cells),
        "n_files": len(cells.names),
        "n_genes": len(vocab),
        "genes_per_cell": float(cells.counts.nnz / len(cells)),
        "left_out": cells.report.loc[cells.report["status"] != "used", "path"].map(lambda x: Path(x).stem).tolist(),
    }


def collection(folder: str, kind: str, *, memory_bytes: int = 2 << 30) -> Any:
    """Cells of the files in a format."""
    from grnlab.data import QualityRules, load_collection
    from grnlab.genes import GeneVocab

    return load_collection(
        Path(folder) / kind,
        GeneVocab.load(Path(folder) / "vocab.tsv"),
        rules=QualityRules(),
        label={"cell_type": "cell_type"},
        on_error="skip",
        cache=Path(folder) / f"scans of {kind}",
        memory_bytes=memory_bytes,
    )


def clocked(batches: Iterator[Any], seconds: float, *, whole: int = 1) -> dict[str, Any]:
    """Cells per CPU second of a stream that makes `whole` batches at once, after the first such block."""
    for _ in range(whole):
        next(batches)
    n_cells, started, wall = 0, time.process_time(), time.perf_counter()
    while time.process_time() - started < seconds or n_cells % (BATCH * whole):
        n_cells += len(next(batches))
    return {
        "cells_per_cpu_s": n_cells / (time.process_time() - started),
        "cells_per_s": n_cells / (time.perf_counter() - wall),
        "n_cells": n_cells,
    }


def drawn_rows(cells: Any, number: int) -> tuple[Any, Any]:
    """Rows of a batch and the generator that goes on with its contexts."""
    import numpy as np

    generator = np.random.default_rng([0, number])
    drawn = np.searchsorted(cells.cumulative, generator.random(BATCH), side="right")
    return drawn.clip(max=len(cells) - 1), generator


def ours(folder: str, kind: str, *, seconds: float, on_disk: bool, ahead: int) -> dict[str, Any]:
    """Batches of a :class:`grnlab.data.CellCollection`."""
    import numpy as np

    import grnlab.data  # noqa: F401 (what it takes to import is not loading)

    started = time.process_time()
    cells = collection(folder, kind, memory_bytes=0 if on_disk else 8 << 30)
    loaded = time.process_time() - started
    weights = cells.sampling_weights("cell_type")
    cells.cumulative = np.cumsum(weights) / weights.sum()

    def stream() -> Iterator[Any]:
        number = 0
        while True:
            rows, generators = zip(*(drawn_rows(cells, number + place) for place in range(ahead)), strict=True)
            yield from cells.batches(rows, N_TOKENS, generators=generators)
            number += ahead

    return clocked(stream(), seconds, whole=ahead) | {"load_cpu_s": loaded}


def contexts(cells: Any, rows: Any, counts: Any, number: int) -> Any:
    """Contexts from the aligned counts that a peer has read."""
    import dataclasses

    import numpy as np

    part = dataclasses.replace(
        cells,
        counts=counts,
        datasets=cells.datasets[rows],
        totals=cells.totals[rows],
        labels={name: codes[rows] for name, codes in cells.labels.items()},
    )
    return part.batch(np.arange(len(rows)), N_TOKENS, generator=np.random.default_rng([1, number]))


def aligned_files(cells: Any, folder: str) -> list[Any]:
    """The aligned copies, opened by anndata without reading them."""
    import anndata as ad

    return [ad.read_h5ad(Path(folder) / "aligned" / f"{name}.h5ad", backed="r") for name in cells.names]


def anndata_backed(folder: str, *, seconds: float) -> dict[str, Any]:
    """Random rows of backed AnnData objects, file by file."""
    import numpy as np
    import scipy.sparse as sp

    cells = collection(folder, "h5ad", memory_bytes=0)
    weights = cells.sampling_weights("cell_type")
    cells.cumulative = np.cumsum(weights) / weights.sum()
    files, first = aligned_files(cells, folder), np.searchsorted(cells.datasets, np.arange(len(cells.names)))

    def stream() -> Iterator[Any]:
        number = 0
        while True:
            rows = np.sort(drawn_rows(cells, number)[0])
            blocks = []
            for dataset in np.unique(cells.datasets[rows]):
                inside, place = np.unique(rows[cells.datasets[rows] == dataset] - first[dataset], return_inverse=True)
                blocks.append(files[dataset][inside].to_memory().X[place])
            yield contexts(cells, rows, sp.vstack(blocks, format="csr"), number)
            number += 1

    return clocked(stream(), seconds)


def ann_collection(folder: str, *, seconds: float) -> dict[str, Any]:
    """Random rows of anndata's AnnCollection over backed files."""
    import numpy as np
    from anndata.experimental import AnnCollection

    cells = collection(folder, "h5ad", memory_bytes=0)
    weights = cells.sampling_weights("cell_type")
    cells.cumulative = np.cumsum(weights) / weights.sum()
    peer = AnnCollection(aligned_files(cells, folder), join_vars="inner", index_unique="-")

    def stream() -> Iterator[Any]:
        number = 0
        while True:
            rows, place = np.unique(drawn_rows(cells, number)[0], return_inverse=True)
            yield contexts(cells, rows[place], peer[rows].X[place], number)
            number += 1

    return clocked(stream(), seconds)


def sc_dataset(folder: str, *, seconds: float, block_size: int, over: str) -> dict[str, Any]:
    """Batches of scDataset, 16 of them read at once; over AnnCollection or over our own matrix on disk."""
    import numpy as np
    from scdataset import BlockWeightedSampling, scDataset

    cells = collection(folder, "h5ad compressed", memory_bytes=0)
    if over == "AnnCollection":
        from anndata.experimental import AnnCollection

        source = AnnCollection(aligned_files(cells, folder), join_vars="inner", index_unique="-")
    else:
        source = cells

    def fetch(peer: Any, rows: Any) -> Any:
        wanted, place = np.unique(rows, return_inverse=True)
        return rows, (peer.counts[wanted] if peer is cells else peer[wanted].X)[place]

    def batch(fetched: Any, places: Any) -> Any:
        rows, counts = fetched
        return contexts(cells, rows[places], counts[places], int(rows[places[0]]))

    peer = scDataset(
        source,
        BlockWeightedSampling(block_size, weights=cells.sampling_weights("cell_type"), total_size=1 << 22),
        batch_size=BATCH,
        fetch_factor=AHEAD,
        fetch_callback=fetch,
        batch_callback=batch,
        seed=0,
    )
    return clocked(iter(peer), seconds, whole=AHEAD)


def model(folder: str, *, seconds: float) -> dict[str, Any]:
    """Cells per second of training steps of a model of the size of scPRINT small, on what torch finds."""
    import numpy as np
    import torch

    from grnlab.backbones import ScPrint, ScPrintConfig
    from grnlab.genes import GeneVocab
    from grnlab.objectives import build_objectives

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = ScPrint(GeneVocab.load(Path(folder) / "vocab.tsv"), ScPrintConfig(n_layers=4, d_model=128, n_heads=2)).to(
        device
    )
    (objective,) = build_objectives(["denoise"])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    cells = collection(folder, "h5ad compressed")
    batch = cells.batch(
        np.arange(0, len(cells), len(cells) // BATCH)[:BATCH], N_TOKENS, generator=np.random.default_rng(0)
    )

    def steps() -> Iterator[Any]:
        generator = torch.Generator().manual_seed(0)
        while True:
            seen = objective.corrupt(batch, generator=generator).to(device)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                loss = objective.loss(network, network.encode(seen), seen=seen, target=batch.to(device))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            float(loss.detach())  # waits for the device
            yield batch

    rate = clocked(steps(), seconds)
    if device == "cpu":  # what idle cores would do: other work here must not make the demand smaller
        rate["cells_per_s"] = rate["cells_per_cpu_s"] * torch.get_num_threads()
    return rate | {"device": device, "threads": torch.get_num_threads()}


CASES = {case.__name__: case for case in (prepare, ours, anndata_backed, ann_collection, sc_dataset, model)}


def plan(seconds: float) -> Iterator[tuple[str, str, str | None, dict[str, Any]]]:
    """Name of a row, case, package it needs, parameters."""
    yield "ours, in memory", "ours", None, {"kind": "h5ad", "seconds": seconds, "on_disk": False, "ahead": 1}
    for kind in FORMATS:
        for ahead in (1, AHEAD):
            how = "batch by batch" if ahead == 1 else f"{ahead} batches at once"
            parameters = {"kind": kind, "seconds": seconds, "on_disk": True, "ahead": ahead}
            yield f"ours, on disk, {kind}, {how}", "ours", None, parameters
    yield "anndata backed, h5ad compressed, batch by batch", "anndata_backed", None, {"seconds": seconds}
    yield "AnnCollection, h5ad compressed, batch by batch", "ann_collection", None, {"seconds": seconds}
    for block_size in (1, 16):
        for over in ("AnnCollection", "our matrix on disk"):
            name = f"scDataset over {over}, h5ad compressed, blocks of {block_size}, {AHEAD} batches at once"
            yield name, "sc_dataset", "scdataset", {"seconds": seconds, "block_size": block_size, "over": over}


def rows_of(folder: str, demand: float, *, seconds: float) -> Iterator[Row]:
    """One row a case."""
    for name, case, package, parameters in plan(seconds):
        if package is not None and importlib.util.find_spec(package) is None:
            yield Row(name, result=f"not run: {package} is not installed")
            continue
        done = run_case(__file__, case, folder=folder, **parameters)
        row = done.row(name, details=parameters | done.said, target=f"≥ {TARGET} × the model" if case == "ours" else "")
        if done.status == 0:
            rate = done.said["cells_per_cpu_s"]
            row.result = f"{rate:,.0f} cells per CPU-s, {rate / demand:.1f} × the model"
            row.met = rate >= TARGET * demand if case == "ours" else None
        yield row


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the files and run all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of h5ad files")
    parser.add_argument("--quick", action="store_true", help="5 files, 1 second a case")
    parser.add_argument("--demand", type=float, help="cells/s that the model takes; measured here otherwise")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="write conditions and rows there")
    options = parser.parse_args(arguments)
    seconds, n_files = (1.0, 5) if options.quick else (6.0, None)
    conditions = machine()
    cores = conditions["cores"]
    with tempfile.TemporaryDirectory() as folder:
        prepared = run_case(__file__, "prepare", folder=folder, data=str(options.data), n_files=n_files)
        if prepared.status != 0:
            sys.stderr.write(prepared.errors)
            return 1
        conditions |= prepared.said
        demand, rows = options.demand, []
        if demand is None:
            done = run_case(__file__, "model", threads=cores, folder=folder, seconds=3 * seconds)
            rows.append(done.row(f"demand: training steps of scPRINT small, {cores} threads", details=done.said))
            if done.status != 0:
                sys.stderr.write(done.errors)
                return 1
            demand = done.said["cells_per_s"]
            rows[0].result = f"{demand:,.0f} cells/s on {done.said['device']}"
        rows += rows_of(folder, demand, seconds=seconds)
    return report(conditions, rows, table(rows), options.json)


if __name__ == "__main__":
    run_script(CASES, main)
