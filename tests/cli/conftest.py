import pytest

from grnlab.cli import main


@pytest.fixture
def grnlab(capsys):
    """Run a command: exit status, stdout, stderr."""

    def run(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def infer(grnlab, checkpoint):
    """Run ``grnlab infer`` with a small untrained model."""

    def run(*arguments):
        return grnlab("infer", *arguments, "--model", checkpoint)

    return run


@pytest.fixture
def place(tmp_path, monkeypatch, make_cells):
    """Working folder with cells.h5ad and nothing else."""
    monkeypatch.chdir(tmp_path)
    make_cells().write_h5ad("cells.h5ad")
    return tmp_path


@pytest.fixture
def names():
    """What a folder holds."""
    return lambda folder: sorted(path.name for path in folder.iterdir())
