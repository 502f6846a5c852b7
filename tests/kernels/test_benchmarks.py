"""Every case of the benchmarks runs; what is wrong is not timed; a missed target shows in the exit status."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parents[2] / "kernels" / "benchmarks"
COLUMNS = {"case", "peer", "extra_mb", "peer_extra_mb", "rel_err", "fraction_of_ceiling", "sizes", "threads", "missed"}
CPU_CASES = (
    *("mean-map", "mean-map-cat", "mean-map-symmetric", "topk-genome", "topk-dense", "head-selection"),
    *("head-selection-5k", "head-auprc", "cell-mean", "cell-mean-batched", "cell-scatter", "zinb", "sampler"),
)


def run(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, HERE / "run.py", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def bench(monkeypatch):
    """Import a module of the benchmarks as its own scripts do."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(HERE)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(HERE) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(("suite", "unit"), [("cpu", "cpu_s"), ("h200", "ms")])
def test_every_case_runs_and_is_right(suite, unit, tmp_path):
    done = run("--suite", suite, "--smoke", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr + done.stdout
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["suite"] == suite
    assert {"date", "torch", "numpy", "cpu", "cores", "size", "ceilings"} <= set(written["conditions"])
    assert min(written["conditions"]["ceilings"].values()) > 0
    names = [row["case"] for row in written["rows"]]
    assert len(set(names)) == len(names) >= 12
    if suite == "cpu":
        assert tuple(names) == CPU_CASES
    for row in written["rows"]:
        assert COLUMNS | {unit, f"peer_{unit}"} <= set(row)
        assert not row["trouble"], row
        assert not row["peer_trouble"], row
        assert row[unit] > 0
        assert row["rel_err"] <= 1e-3
        assert row["fraction_of_ceiling"] > 0
        assert (row["peer"] is None) == (row[f"peer_{unit}"] is None)
        assert f"| {row['case']} |" in done.stdout


@pytest.fixture
def command_line(bench, monkeypatch):
    """The command line in this process, its CPU suite replaced by one that tells which cases it was asked for."""
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    asked = []

    def run(cases, size):
        asked.append((size, [case.name for case in cases]))
        row = bench("table").Row(cases[0], size, bench("table").Side(trouble="OOM"), None, {"flops": 1.0})
        return [row] if size == "full" else []

    monkeypatch.setattr(bench("cpu"), "run", run)
    return lambda *arguments: (bench("run").main(["--suite", "cpu", *arguments]), asked[-1])


def test_chosen_cases_alone_and_sizes(command_line, capsys):
    assert command_line("--smoke", "--case", "zinb", "topk-dense") == (0, ("smoke", ["topk-dense", "zinb"]))
    assert command_line("--quick") == (0, ("quick", list(CPU_CASES)))
    with pytest.raises(SystemExit, match="2"):
        command_line("--case", "no-such")
    assert "--case no-such: unknown; the suite has mean-map," in capsys.readouterr().err


def test_a_missed_target_is_an_exit_status(command_line, capsys):
    assert command_line("--case", "mean-map")[0] == 1
    assert "MISSED OOM" in capsys.readouterr().out


def test_the_gpu_suite_without_a_gpu_says_so():
    done = run("--suite", "h200", "--quick")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "--suite h200 needs a CUDA device and finds none; --suite cpu, or --smoke to see its cases run."
    )


def test_every_target_can_be_judged(bench):
    """Metrics that targets name are those a row has."""
    table = bench("table")
    side = {"time": 1.0, "wall_s": 1.0, "extra_mb": 2.0, "peak_mb": 3.0, "rel_err": 1e-6}
    for suite, size in ((bench("cpu"), "full"), (bench("cpu"), "quick"), (bench("h200"), "full")):
        for case in suite.CASES:
            assert case.targets
            peer = table.Side(**side) if case.peer else None
            ours = table.Side(**side, work={"flops": 1.0}, items=2)
            row = table.Row(case, size, ours, peer, {"flops": 1.0})
            assert {target.metric for target in case.targets_at(size)} <= set(row.metrics), case.name
            assert case.problem in bench("problems").PROBLEMS


def test_missed_targets(bench):
    table = bench("table")
    targets = (table.Target("time_ratio", ">=", 4), table.Target("memory_ratio", ">=", 10))
    case = table.Case("x", "mean_map", ({}, {}, {}), "loop", targets)

    def missed(ours, peer, size="full"):
        return table.Row(case, size, table.Side(**ours), table.Side(**peer), {"flops": 1.0}).missed

    ours = {"time": 1.0, "extra_mb": 2.0}
    assert missed(ours, {"time": 4.0, "extra_mb": 20.0}) == []
    assert missed(ours, {"time": 3.0, "extra_mb": 20.0}) == ["time_ratio >= 4: 3"]
    assert missed(ours, {"time": 3.0, "extra_mb": 20.0}, "smoke") == []
    assert missed(ours, {"time": float("nan"), "extra_mb": 20.0}) == ["time_ratio >= 4: nan"]
    assert missed(ours, {"time": 9.0}) == ["memory_ratio >= 10: not measured"]
    assert missed(ours, {"trouble": "OOM"}) == []
    assert missed(ours, {"trouble": "absent: sklearn"}) == []
    assert missed(ours, {"trouble": "red: error 1"}) == ["loop red: error 1"]
    assert missed({"trouble": "red: error 1"}, {"time": 1.0}) == ["red: error 1"]
    assert missed({"trouble": "OOM"}, {"time": 1.0}) == ["OOM"]
    assert missed({"trouble": "absent: numba"}, {"time": 1.0}) == []


def test_the_floor_that_binds(bench):
    table = bench("table")
    case = table.Case("x", "mean_map", ({}, {}, {}), None, ())
    side = table.Side(2.0, work={"flops": 30.0, "exps": 8.0, "bytes": 0.0})
    assert table.Row(case, "full", side, None, {"flops": 100.0, "exps": 10.0, "bytes": 1.0}).fraction == 0.4
    in_ms = {"flops": 100.0, "exps": 10.0, "bytes": 1.0, "seconds_per_unit": 1e-3}
    assert table.Row(case, "full", side, None, in_ms).fraction == pytest.approx(400)


def wrong_map(**sizes):
    problem = importlib.import_module("problems_maps").mean_map(**sizes)
    problem.ways["ours"] = lambda ours=problem.ways["ours"]: ours() * 1.001
    return problem


def unwritten_map(**sizes):
    problem = importlib.import_module("problems_maps").mean_map(**sizes)
    problem.ways["ours"] = lambda: torch.full((sizes["genes"], sizes["genes"]), torch.nan)
    return problem


def broken_map(**sizes):
    raise ValueError("no such map")


def without_package(**sizes):
    importlib.import_module("package_that_is_absent")


@pytest.mark.parametrize(
    ("build", "trouble"),
    [
        (wrong_map, "red: error 0.001 above 0.0001"),
        (unwritten_map, "red: error nan above 0.0001"),
        (broken_map, "failed: ValueError: no such map"),
        (without_package, "absent: package_that_is_absent"),
    ],
)
def test_what_is_wrong_is_not_timed(bench, monkeypatch, build, trouble):
    child = bench("child")
    monkeypatch.setitem(child.PROBLEMS, "mean_map", build)
    job = {"problem": "mean_map", "sizes": {"genes": 60, "heads": 3, "d_head": 16}, "way": "ours"}
    side = child.measured(job | {"threads": torch.get_num_threads()})
    assert side.time is None
    assert side.trouble == trouble


def test_memory_is_that_of_the_call(bench):
    child = bench("child")
    held = torch.ones(8 << 20)
    _, side = child.metered(lambda: torch.ones(16 << 20).sum(), 2)  # too large for memory that was freed before
    assert 64 < side.extra_mb < 85
    assert side.peak_mb > held.nbytes / 1e6 + side.extra_mb
    assert 0 < side.time < 1


def test_repeated_runs_give_the_best_and_their_spread(bench):
    table = bench("table")
    best = table.Side.best_of([table.Side(3.0), table.Side(2.0), table.Side(2.5)])
    assert (best.time, best.noise) == (2.0, 0.5)
    assert table.Side.best_of([table.Side(3.0), table.Side(trouble="OOM")]).trouble == "OOM"
