"""What is there already is kept; what stops or fails leaves nothing behind."""

import errno
import re
import signal
import subprocess
import sys
import time

import pytest

import grnlab as gl


def test_an_existing_folder_is_kept_and_said_before_any_work(place, names, infer, grnlab, monkeypatch):
    (place / "out").mkdir()
    (place / "out" / "mine.txt").write_text("precious")
    monkeypatch.setattr(gl.tl, "attention", lambda *a, **k: pytest.fail("work before the check"))
    status, _, err = infer("cells.h5ad", "--out", "out")
    assert status == 2
    assert re.search(r"out exists already and is left as it is\. Choose another --out, or say --overwrite", err)
    status, _, err = infer("cells.h5ad", "--out", "out", "--overwrite")
    assert status == 2
    assert "mine.txt" in err
    status, _, err = infer("cells.h5ad", "--out", ".", "--overwrite")
    assert status == 2
    assert "cells.h5ad" in err
    status, _, err = infer("cells.h5ad", "--out", "cells.h5ad", "--overwrite")
    assert status == 2
    status, _, err = grnlab("demo", "--out", "out")
    assert status == 2
    assert (place / "out" / "mine.txt").read_text() == "precious"
    assert names(place) == ["cells.h5ad", "out"]


def test_overwrite_replaces_an_earlier_report(place, names, infer):
    assert infer("cells.h5ad", "--out", "out", "--genes", 12)[0] == 0
    first = gl.NetworkSet.load("out/networks.grns")
    assert infer("cells.h5ad", "--out", "out", "--genes", 20)[0] == 2
    assert gl.NetworkSet.load("out/networks.grns").equals(first)
    assert infer("cells.h5ad", "--out", "out", "--genes", 20, "--overwrite")[0] == 0
    assert len(gl.NetworkSet.load("out/networks.grns")["all"].genes) > len(first["all"].genes)
    assert names(place) == ["cells.h5ad", "out"]


def test_an_interrupted_run_goes_on(place, names, infer, monkeypatch):
    from grnlab.attention import stream, sums

    monkeypatch.setattr(stream, "CHUNK_CELLS", 4)
    monkeypatch.setattr(sums, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(sums, "_SHARE", 0.0)
    real, read = stream.read_chunk, []

    def interrupted(plan, number, shown):
        read.append(number)
        if len(read) == 3:
            raise KeyboardInterrupt
        return real(plan, number, shown)

    monkeypatch.setattr(stream, "read_chunk", interrupted)
    status, _, err = infer("cells.h5ad", "--out", "out", "--genes", 12)
    assert status == 130
    assert "out.state holds the sums so far, and the same command goes on from there" in err
    assert names(place) == ["cells.h5ad", "out.state"]
    assert infer("cells.h5ad", "--out", "out", "--genes", 12)[0] == 0
    assert read == [0, 1, 2, 2, 3, 4]
    assert names(place) == ["cells.h5ad", "out"]


def test_a_file_above_out_is_said_before_any_work(place, infer, monkeypatch):
    monkeypatch.setattr(gl.tl, "attention", lambda *a, **k: pytest.fail("work before the check"))
    status, _, err = infer("cells.h5ad", "--out", "cells.h5ad/out")
    assert status == 2
    assert "cells.h5ad is a file, not a folder. Choose another --out" in err


# --- interrupted and failing runs


@pytest.mark.parametrize(
    "where",
    [
        "grnlab.attention.stream.pool_queries_keys",
        "grnlab.report.write_page",
        "grnlab.network.networks.NetworkSet.write_tables",
    ],
)
def test_an_interrupt_leaves_nothing(place, names, infer, monkeypatch, where):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    status, _, err = infer("cells.h5ad", "--out", "new/out", "--genes", 12)
    assert status == 130
    assert "interrupted; nothing was written under the final name" in err
    assert names(place) == ["cells.h5ad"]


def test_a_full_disk_leaves_nothing(place, names, infer, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("grnlab.report.write_page", full)
    status, _, err = infer("cells.h5ad", "--out", "new/out", "--genes", 12)
    assert status == 2
    assert "No space left on device" in err
    assert "Traceback" not in err
    assert names(place) == ["cells.h5ad"]


_SLOW = """
import sys, time
import grnlab.report
real = grnlab.report.write_page
def slow(*args, **kwargs):
    print("writing", flush=True)
    time.sleep(60)
    return real(*args, **kwargs)
grnlab.report.write_page = slow
from grnlab.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_while_files_are_written(place, names, checkpoint):
    command = ["infer", "cells.h5ad", "--out", "out", "--genes", "12", "--model", str(checkpoint)]
    process = subprocess.Popen([sys.executable, "-c", _SLOW, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"writing\n"
        assert any(name.endswith(".partial") for name in names(place))
        assert "out" not in names(place)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert time.monotonic() - started < 30
    assert process.returncode == 130
    assert b"grnlab: interrupted" in err
    assert b"Traceback" not in err
    assert names(place) == ["cells.h5ad"]
