import os
import signal
import subprocess
import sys
import time

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import grnlab as gl
from grnlab.attention import needs, stream, sums

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:anndata", "ignore::scipy.sparse.SparseEfficiencyWarning")


@pytest.fixture
def cells(make_cells):
    """Groups in turns, so that every chunk holds cells of each; columns in no order; some cells of no group."""
    adata = make_cells(n_each=30)
    rng = np.random.default_rng(0)
    adata = adata[rng.permutation(adata.n_obs), rng.permutation(adata.n_vars)].copy()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object)
    adata.obs.loc[adata.obs_names[:3], "cell_type"] = None
    adata.X = sp.csr_matrix(adata.X)
    return adata


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(stream, "CHUNK_CELLS", 7)
    monkeypatch.setattr(sums, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(sums, "_SHARE", 0.0)


def same(found, expected, *, atol=1e-6):
    assert list(found.groups) == list(expected.groups)
    assert found.provenance == expected.provenance
    pd.testing.assert_frame_equal(found.genes, expected.genes)
    for name, group in expected.groups.items():
        np.testing.assert_array_equal(found.groups[name].count_G, group.count_G)
        assert found.groups[name].n_cells == group.n_cells
        np.testing.assert_allclose(found.groups[name].q_LHGD, group.q_LHGD, atol=atol)
        np.testing.assert_allclose(found.groups[name].k_LHGD, group.k_LHGD, atol=atol)
        pd.testing.assert_frame_equal(found.expression[name], expected.expression[name], rtol=1e-5, check_dtype=False)


def on_disk(adata, path, kind):
    """The data as the verb is given them."""
    if kind == "dense":
        adata.X = adata.X.toarray()
    if kind == "columns":
        adata.X = sp.csc_matrix(adata.X)
    if kind == "layer":
        adata.layers["umi"] = adata.X.copy()
        adata.X = adata.X * 0.5
    if kind == "zarr":
        adata.write_zarr(path / "cells.zarr")
        return path / "cells.zarr"
    adata.write_h5ad(path / "cells.h5ad")
    if kind in ("backed", "view"):
        backed = ad.read_h5ad(path / "cells.h5ad", backed="r")
        return backed[np.arange(40)] if kind == "view" else backed
    return path / "cells.h5ad"


@pytest.mark.parametrize("kind", ["h5ad", "zarr", "dense", "columns", "layer", "backed", "view"])
@pytest.mark.parametrize("context", ["expressed", "shared"])
def test_cells_on_disk_give_what_cells_in_memory_give(cells, human_model, tmp_path, kind, context):
    options = {"groupby": "cell_type", "genes": 12, "context": context}
    expected = gl.tl.attention(cells[:40] if kind == "view" else cells, human_model, **options)
    options["layer"] = "umi" if kind == "layer" else None
    found = gl.tl.attention(on_disk(cells, tmp_path, kind), human_model, **options)
    same(found, expected, atol=1e-5)


@pytest.mark.parametrize("genes", ["all", 12, ["TF0", "GENE0"]])
def test_the_grid_of_chunks_changes_rounding_only(cells, human_model, tmp_path, monkeypatch, genes):
    path = on_disk(cells, tmp_path, "h5ad")
    found = {}
    for size in (1, 7, 1_000):
        monkeypatch.setattr(stream, "CHUNK_CELLS", size)
        found[size] = gl.tl.attention(path, human_model, genes=genes)
    same(found[7], found[1_000])
    same(found[1], found[1_000])


def test_a_model_that_reads_whole_cells(cells, human_model, tmp_path, monkeypatch):
    monkeypatch.setattr(type(human_model), "whole_cells", True, raising=False)
    expected = gl.tl.attention(cells, human_model, genes=9)
    found = gl.tl.attention(on_disk(cells, tmp_path, "h5ad"), human_model, genes=9)
    same(found, expected)
    assert found.provenance["n_genes_shown"] > len(found.genes) == 9


class Stopped(Exception):
    """Of the tests."""


def run_until(number, monkeypatch, *arguments, **options):
    """Run until the model is asked for the chunk of this number."""
    real, calls = stream.read_chunk, []

    def read(plan, chunk, shown):
        calls.append(chunk)
        if len(calls) > number:
            raise Stopped
        return real(plan, chunk, shown)

    with monkeypatch.context() as patched:
        patched.setattr(stream, "read_chunk", read)
        with pytest.raises(Stopped):
            gl.tl.attention(*arguments, **options)
    return calls


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_stopped_run_goes_on_and_gives_the_same_bits(cells, human_model, tmp_path, monkeypatch, after):
    path, options = on_disk(cells, tmp_path, "h5ad"), {"groupby": "cell_type", "genes": 12}
    expected = gl.tl.attention(path, human_model, **options)
    options["state"] = tmp_path / "state"
    run_until(after, monkeypatch, path, human_model, **options)
    monkeypatch.setattr(stream, "choose_genes", lambda *given: pytest.fail("genes are chosen twice"))
    assert run_until(1, monkeypatch, path, human_model, **options)[0] == after  # nothing finished is read again
    found = gl.tl.attention(path, human_model, **options)
    same(found, expected, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"genes": 13}, "settings.genes: '12' in the run, now '13'"),
        ({"context": "shared"}, "settings.context"),
        ({"groupby": None}, "settings.groupby"),
        ({"min_cells": 25, "skip_small": True}, "settings.cells of the groups"),
    ],
)
def test_a_state_of_other_settings_is_refused(cells, human_model, tmp_path, monkeypatch, change, message):
    cells.obs.loc[cells.obs["cell_type"] == "T cell", "cell_type"] = ["T cell"] * 20 + [None] * (
        (cells.obs["cell_type"] == "T cell").sum() - 20
    )
    path = on_disk(cells, tmp_path, "h5ad")
    options = {"groupby": "cell_type", "genes": 12, "state": tmp_path / "state"}
    run_until(2, monkeypatch, path, human_model, **options)
    before = sorted((file.name, file.read_bytes()) for file in (tmp_path / "state").iterdir())
    with pytest.raises(ValueError, match=message):
        gl.tl.attention(path, human_model, **(options | change))
    assert sorted((file.name, file.read_bytes()) for file in (tmp_path / "state").iterdir()) == before


def test_a_state_of_another_file_or_model_is_refused(cells, human_model, tmp_path, monkeypatch):
    path, options = on_disk(cells, tmp_path, "h5ad"), {"genes": 12, "state": tmp_path / "state"}
    run_until(2, monkeypatch, path, human_model, **options)
    cells.X[0, 0] += 1
    cells.write_h5ad(path)
    with pytest.raises(ValueError, match=r"is of another run: data\.content.*remove this one"):
        gl.tl.attention(path, human_model, **options)
    options["state"] = tmp_path / "state2"
    run_until(2, monkeypatch, path, human_model, **options)
    weight = next(human_model.parameters())
    kept = weight.data.clone()
    try:
        weight.data[0] += 1
        with pytest.raises(ValueError, match=r"is of another run: model\.weights"):
            gl.tl.attention(path, human_model, **options)
    finally:
        weight.data = kept


def test_a_state_of_genes_with_other_names_is_refused(cells, human_model, tmp_path, monkeypatch):
    options = {"genes": 12, "state": tmp_path / "state"}
    run_until(2, monkeypatch, cells, human_model, **options)
    renamed, symbols = cells.copy(), list(human_model.vocab.symbols)
    absent = next(n for n in range(1, len(symbols)) if symbols[n] not in cells.var_names)
    old = max(set(symbols[:absent]) & set(cells.var_names), key=symbols.index)  # the order of the columns stays
    renamed.var_names = [symbols[absent] if name == old else name for name in cells.var_names]
    with pytest.raises(ValueError, match=r"is of another run: data\.genes"):
        gl.tl.attention(renamed, human_model, **options)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_damaged_state_is_named(cells, human_model, tmp_path, monkeypatch, share):
    path, options = on_disk(cells, tmp_path, "h5ad"), {"genes": 12, "state": tmp_path / "state"}
    run_until(2, monkeypatch, path, human_model, **options)
    file = tmp_path / "state" / "process-0.safetensors"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(ValueError, match=r"cannot be read .* remove the folder .* to start anew"):
        gl.tl.attention(path, human_model, **options)


def test_cells_without_counts_are_told_before_the_model_runs(cells, human_model, tmp_path, monkeypatch):
    cells.X[33] = 0
    cells.X.eliminate_zeros()
    path = on_disk(cells, tmp_path, "h5ad")
    monkeypatch.setattr(stream, "pool_queries_keys", lambda *given: pytest.fail("the model runs"))
    with pytest.raises(ValueError, match=f"at least 1 cells have no counts, the first is '{cells.obs_names[33]}'"):
        gl.tl.attention(path, human_model)


def test_what_a_run_needs(cells, human_model, tmp_path):
    found = gl.tl.estimate_attention(on_disk(cells, tmp_path, "h5ad"), human_model, groupby="cell_type", genes=12)
    assert (found.n_cells, found.n_groups, found.n_genes) == (57, 2, 12)
    spec = human_model.attention
    assert found.state_bytes == 2 * 2 * 8 * spec.n_layers * spec.n_heads * spec.d_head * 12
    assert "whatever the number of cells" in str(found)
    assert found.memory_bytes > 50e6


def test_what_a_run_needs_where_most_cells_are_of_no_group(cells, human_model, tmp_path):
    cells.obs["cell_type"] = ["B cell"] * 6 + [None] * (cells.n_obs - 6)
    found = gl.tl.estimate_attention(on_disk(cells, tmp_path, "h5ad"), human_model, groupby="cell_type", genes=12)
    assert (found.n_cells, found.n_groups, found.n_measured) == (6, 1, 6)


def test_what_is_done_once_is_not_counted_for_every_chunk(cells, human_model, tmp_path, monkeypatch):
    clock, choose = [0.0], stream.choose_genes

    def choosing(plan, model, genes, mine, ranks):
        clock[0] += (100.0 if clock[0] == 0 else 3.0) + 0.5 * len(mine)  # imports, what is done once, chunks
        return choose(plan, model, genes, mine, ranks)

    monkeypatch.setattr(stream, "CHUNK_CELLS", 4)
    monkeypatch.setattr(stream, "choose_genes", choosing)
    monkeypatch.setattr(needs.time, "perf_counter", lambda: clock[0])
    found = gl.tl.estimate_attention(on_disk(cells, tmp_path, "h5ad"), human_model, groupby="cell_type", genes=12)
    assert found.reading_s == pytest.approx(3.0 + 0.5 * -(-cells.n_obs // 4))


# --- other processes

_RUN = """
import sys, time, torch
from grnlab.attention import needs, stream, sums
import grnlab as gl
stream.CHUNK_CELLS, sums._LEAST_SECONDS, sums._SHARE = 7, 0.0, 0.0
torch.set_num_threads(1)
model = gl.load_model(sys.argv[2])
pause, real = float(sys.argv[5]), stream.read_chunk
def read(*given):
    time.sleep(pause)
    return real(*given)
stream.read_chunk = read
print("ready", flush=True)
maps = gl.tl.attention(sys.argv[1], model, groupby="cell_type", genes=12, state=sys.argv[3])
from grnlab.attention.ranks import first_of_processes
if first_of_processes():
    found = {name: (g.q_sum_LHGD, g.k_sum_LHGD, g.count_G, g.n_cells) for name, g in maps.groups.items()}
    torch.save(found, sys.argv[4])
"""


def check_saved(path, expected):
    import torch

    found = torch.load(path, weights_only=True)
    assert list(found) == list(expected.groups)
    for name, (q, k, count, n_cells) in found.items():
        group = expected.groups[name]
        assert torch.equal(count, group.count_G)
        assert n_cells == group.n_cells
        np.testing.assert_allclose(q, group.q_sum_LHGD, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(k, group.k_sum_LHGD, rtol=1e-6, atol=1e-6)


def test_two_processes_give_what_one_gives(cells, human_model, checkpoint, tmp_path):
    path = on_disk(cells, tmp_path, "h5ad")
    expected = gl.tl.attention(path, gl.load_model(checkpoint), groupby="cell_type", genes=12)
    (tmp_path / "run.py").write_text(_RUN)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [tmp_path / "run.py", path, checkpoint, tmp_path / "state", tmp_path / "out.pt", 0]
    command = [*launch, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=300, text=True)
    assert done.returncode == 0, done.stderr
    check_saved(tmp_path / "out.pt", expected)
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == [f"process-{n}.safetensors" for n in (0, 1)]
    with pytest.raises(ValueError, match="processes: 2 in the run, now 1"):
        gl.tl.attention(path, gl.load_model(checkpoint), groupby="cell_type", genes=12, state=tmp_path / "state")


def test_a_killed_process_goes_on(cells, checkpoint, tmp_path):
    path = on_disk(cells, tmp_path, "h5ad")
    expected = gl.tl.attention(path, gl.load_model(checkpoint), groupby="cell_type", genes=12)
    (tmp_path / "run.py").write_text(_RUN)
    command = [sys.executable, *map(str, [tmp_path / "run.py", path, checkpoint, tmp_path / "state"])]
    kept, killed = tmp_path / "state" / "process-0.safetensors", 0
    for _ in range(2):
        process = subprocess.Popen([*command, str(tmp_path / "out.pt"), "0.3"], stdout=subprocess.PIPE)
        try:
            assert process.stdout.readline() == b"ready\n"
            before, deadline = kept.exists() and kept.stat().st_mtime_ns, time.monotonic() + 120
            while (kept.exists() and kept.stat().st_mtime_ns) == before and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(0.4)
            os.kill(process.pid, signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    assert killed == 2
    assert not (tmp_path / "out.pt").exists()
    subprocess.run([*command, str(tmp_path / "out.pt"), "0"], check=True, timeout=300, stdout=subprocess.DEVNULL)
    check_saved(tmp_path / "out.pt", expected)
