"""Arguments of a wrong kind are told by name, not by an error from inside."""

import logging
import subprocess
import sys

import pytest

import grnlab as gl
from grnlab.training import PretrainConfig


@pytest.mark.parametrize("name", [None, 3, ["grnlab-small"]])
def test_a_model_that_is_no_name(name):
    with pytest.raises(ValueError, match=r"name is a \w+; give the name of a built-in model, or the path"):
        gl.load_model(name)


@pytest.mark.parametrize("device", ["foo", "cuda:99", 3.5])
def test_a_device_that_is_not_there(device):
    with pytest.raises(ValueError, match=r"device=.* cannot be used .*'cpu' can"):
        gl.load_model("grnlab-small", device=device)


@pytest.mark.parametrize("maps", [None, "maps", 3])
def test_networks_of_what_is_no_attention(maps):
    with pytest.raises(ValueError, match=r"maps is a \w+; expected attention maps \(grnlab\.tl\.attention\) or scores"):
        gl.tl.infer_networks(maps)


@pytest.mark.parametrize("adata", [None, 3, [1, 2]])
def test_cells_that_are_none(adata, human_model):
    with pytest.raises(ValueError, match=r"adata is a \w+; expected an AnnData, or the path"):
        gl.tl.attention(adata, human_model)
    with pytest.raises(ValueError, match=r"path is a \w+; name an \.h5ad file"):
        gl.io.read(adata)


def test_few_cells_without_groups(make_cells, human_model):
    adata = make_cells()[:4].copy()
    with pytest.raises(ValueError, match=r"adata has 4 cells, fewer than min_cells=5"):
        gl.tl.attention(adata, human_model, genes=5)
    assert gl.tl.attention(adata, human_model, genes=5, min_cells=4).group("all").n_cells == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 2.5}, r"batch_size=2\.5 must be a whole number"),
        ({"batch_size": "4"}, "batch_size='4' must be a whole number"),
        ({"max_steps": True}, "max_steps=True must be a whole number"),
        ({"lr": "fast"}, "lr='fast' must be a number"),
        ({"clip": [1]}, r"clip=\[1\] must be a number"),
    ],
)
def test_settings_of_the_wrong_kind(settings, message):
    with pytest.raises(ValueError, match=message):
        PretrainConfig(**settings)


def test_a_batch_larger_than_the_cells(make_cells, human_model):
    with pytest.raises(ValueError, match=r"batch_size=1,000,000 is more than the 20 cells there are.*at most 1,024"):
        gl.tl.adapt(make_cells(), human_model, batch_size=1_000_000, max_steps=1, progress=False)


def test_a_printed_model_is_one_line(human_model):
    assert str(human_model) == "ScPrint 'untrained': 2 layers × 2 heads, 60 genes, 0.0 M parameters"
    assert human_model._repr_html_().startswith("<code>ScPrint &#x27;untrained&#x27;: 2 layers")
    assert "(gene_embedding)" in repr(human_model)


def test_warnings_are_seen_where_nobody_set_logging_up():
    code = "import logging, grnlab; logging.getLogger('grnlab.data').warning('so many cells are left out')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "so many cells are left out\n"
    assert not logging.getLogger("grnlab").handlers
