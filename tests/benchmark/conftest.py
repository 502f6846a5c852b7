import json

import numpy as np
import pandas as pd
import pytest

from grnlab.benchmark import Method, outside

TFS = [f"TF{number}" for number in range(10)]
TARGETS = [f"GENE{number}" for number in range(50)]


@pytest.fixture(scope="session")
def edges():
    """True edges among the genes of `human_vocab`."""
    rng = np.random.default_rng(3)
    source, target = np.nonzero(rng.random((10, 50)) < 0.2)
    return pd.DataFrame({"source": [TFS[i] for i in source], "target": [TARGETS[i] for i in target]})


@pytest.fixture
def own_case(tmp_path, make_cells, edges):
    """A case from outside: cells.h5ad with two groups of 20 cells, and edges.tsv."""
    make_cells(n_each=20).write_h5ad(tmp_path / "cells.h5ad")
    edges.to_csv(tmp_path / "edges.tsv", sep="\t", index=False)
    return outside(tmp_path / "cells.h5ad", [tmp_path / "edges.tsv"], groupby="cell_type")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory, make_cells, edges):
    """Tiny stand-ins of every file the benchmark reads, in the formats of the real ones."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def place(path):
        path = folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    for name in ("scrna/pbmc3k", "mccalla/hESC_liu", "mccalla/hESC_chen"):
        make_cells(n_each=30).write_h5ad(place(f"{name}.h5ad"))
    make_cells(n_each=260).write_h5ad(place("scrna/zheng2017_facs_pbmc.h5ad"))  # of which a fifth is taken
    kang = make_cells(n_each=30)
    kang.obs["condition"] = np.tile(["CTRL", "STIM", "STIM"], 20)
    kang.write_h5ad(place("scrna/kang2018_ifnb_pbmc.h5ad"))

    def genes_by_cells(path, names):
        values = rng.gamma(2.0, 1.0, (len(names), 25))
        pd.DataFrame(values, index=names, columns=[f"c{i}" for i in range(25)]).to_csv(place(path))

    beeline = "beeline/genelink/{}/mDC/TFs+500/BL--network.csv"
    genes_by_cells("beeline/genelink/Specific/mDC/TFs+500/BL--ExpressionData.csv.gz", TFS + TARGETS)
    renamed = edges.set_axis(["Gene1", "Gene2"], axis=1)
    for kind in ("STRING", "Non-Specific"):
        renamed.to_csv(place(beeline.format(kind)), index=False)
    renamed.assign(Score=171).to_csv(place(beeline.format("Specific")), index=False)
    for name in ("hESC", "mEF", "mES-PE"):
        genes_by_cells(f"beeline/small_real/{name}/ExpressionData.csv.gz", TFS)
        within = renamed.assign(Gene2=renamed["Gene1"].shift(7), Type="+").dropna()
        within.to_csv(place(f"beeline/small_real/{name}/refNetwork.csv"), index=False)
    for number in range(1, 5):
        names = [f"G{i}" for i in range(1, 13)]
        table = pd.DataFrame(rng.random((20, 12)), columns=names)
        table.to_csv(place(f"dream4/size100_multifactorial_{number}.csv"), index=False)
        pairs = [(a, b, int(rng.random() < 0.3)) for a in names for b in names if a != b]
        gold = place(f"dream4/size100_multifactorial_{number}_goldstandard.tsv")
        pd.DataFrame(pairs).to_csv(gold, sep="\t", header=False, index=False)
    for name in ("DS4", "DS5"):
        genes_by_cells(f"sergio/{name}/simulated_noNoise_S_0.csv.gz", list(range(12)))
        place(f"sergio/{name}/gt_GRN.csv").write_text("1,5\n1,6\n2,7\n")
    for name in ("KDUnion", "escapechip", "chipunion_KDUnion_intersect", "logof", "nishiyama", "lit"):
        edges.to_csv(place(f"mccalla/gold_hESC_{name}.tsv.gz"), sep="\t", header=False, index=False)
    mouse = pd.concat([edges.map(str.capitalize), pd.DataFrame([["Tf0", "0610005C13Rik"]], columns=edges.columns)])
    for name in ("KDUnion", "chipunion", "chipunion_KDUnion_intersect"):
        mouse.to_csv(place(f"mccalla/gold_mDC_{name}.tsv.gz"), sep="\t", header=False, index=False)

    def but(rest):  # each lacks another quarter of the edges, so that one has some the other has not
        return edges[np.arange(len(edges)) % 4 != rest].reset_index(drop=True)

    omnipath = but(0)
    kinds = np.where(np.arange(len(omnipath)) % 3 == 0, "post_translational", "transcriptional")
    omnipath.assign(type=kinds, is_stimulation=True, is_inhibition=False).to_parquet(place("networks/omnipath.parquet"))
    trrust = but(1).set_axis(["TF", "target"], axis=1).assign(mode="Unknown", pmid="1")
    trrust.to_csv(place("networks/trrust_v2_human.csv.gz"), index=False)
    dorothea = but(2).set_axis(["tf", "target"], axis=1)
    dorothea = dorothea.assign(confidence=np.array(list("ABCDE"))[np.arange(len(dorothea)) % 5], mor=1)
    dorothea.to_csv(place("networks/dorothea_human.csv.gz"), index=False)
    sets = {f"{name} HEPG2": part["target"].tolist() for name, part in but(3).groupby("source")}
    place("networks/encode_tfchip.json").write_text(json.dumps(sets))
    types = {"B cells": TARGETS[:20], "T cells": TARGETS[10:30]}
    rows = [("Mm Hs", gene, name) for name, genes in types.items() for gene in genes]
    markers = pd.DataFrame(rows, columns=["species", "official gene symbol", "cell type"])
    markers.to_csv(place("markers/PanglaoDB_markers_27_Mar_2020.tsv.gz"), sep="\t", index=False)
    return folder


@pytest.fixture
def method():
    """A method of one's own: name, what it does with a task."""

    def make(score, name="mine", **options):
        return Method(name, "control", "a test", score, **options)

    return make
