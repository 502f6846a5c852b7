"""The tests of the Triton kernels, in a process where Triton interprets them on the CPU.

A process of its own: the kernels' decorators read TRITON_INTERPRET when they are imported.
"""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
FEWEST_TESTS = 120  # a folder that lost its tests must not pass


def test_kernels_pass_in_the_interpreter(tmp_path):
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "tests/kernels/on_triton", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--junitxml={report}"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite.get("skipped") == "0", done.stdout[-8_000:]
    assert int(suite.get("tests")) >= FEWEST_TESTS
