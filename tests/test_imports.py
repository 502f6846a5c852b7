"""What an import costs, and which way the rooms depend."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = (
    *("torch", "scanpy", "anndata", "igraph", "leidenalg", "gseapy", "pyvis", "matplotlib", "lightning", "sklearn"),
    *(
        "networkx",
        "triton",
        "flash_attn",
        "captum",
        "scipy",
        "pandas",
        "numpy",
        "h5py",
        "jinja2",
        "tqdm",
        "safetensors",
    ),
)


def loaded_after(code):
    """Top-level packages a fresh interpreter holds after running `code`."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(name.split('.')[0] for name in sys.modules)))"
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_grnlab_imports_nothing_heavy():
    loaded = loaded_after("import grnlab; dir(grnlab); grnlab.__version__")
    assert "grnlab" in loaded
    assert not loaded & set(HEAVY)


def test_help_and_version_import_nothing_heavy():
    code = "from grnlab.cli import main\ntry: main(['infer', '--help'])\nexcept SystemExit: pass"
    loaded = loaded_after(code)
    assert not loaded & set(HEAVY)


def test_the_verbs_import_no_optional_package():
    loaded = loaded_after("import grnlab as gl; gl.tl, gl.pp, gl.io, gl.pl, gl.load_model, gl.NetworkSet")
    assert {"torch", "anndata"} <= loaded
    optional = {"lightning", "captum", "flash_attn", "matplotlib", "sklearn", "igraph", "leidenalg", "gseapy", "pyvis"}
    assert not loaded & optional


def test_kernels_need_no_triton_and_no_grnlab():
    blocked = "import sys; sys.modules['triton'] = None; sys.modules['grnlab'] = None\n"
    code = blocked + "import grnlab_kernels; assert grnlab_kernels.__all__\n"
    code += "for name in grnlab_kernels.__all__: getattr(grnlab_kernels, name)"
    assert "grnlab_kernels" in loaded_after(code)


@pytest.mark.skipif(importlib.util.find_spec("importlinter") is None, reason="import-linter is not installed")
def test_rooms_depend_one_way(tmp_path):
    command = Path(sys.executable).with_name("lint-imports")
    program = str(command) if command.exists() else shutil.which("lint-imports")
    done = subprocess.run(
        [program, "--config", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
