import json

import numpy as np
import pytest
from safetensors import safe_open

from grnlab.objectives import Mask
from grnlab.training import PretrainConfig
from grnlab.training.bad_batch import bad_loss_error
from grnlab.training.batches import CellStream


@pytest.fixture
def options(planted_cells):
    _, cells = planted_cells
    rows = np.arange(0, 150, 2)  # all of data set "one"
    stream = CellStream(cells, rows, np.ones(75), objectives=[Mask()], batch_size=4, n_tokens=9, seed=0)
    return {"stream": stream, "config": PretrainConfig(accumulate=3), "run": None, "saved_step": 0}


def test_the_error_names_all_there_is(options, tmp_path):
    losses = np.array([1.0, np.inf, np.nan])
    error = bad_loss_error((17, losses), ["a", "b", "c"], **(options | {"run": tmp_path, "saved_step": 4}))
    text = str(error)
    assert "the loss of b, c is not finite at step 5, batch 17: {'a': 1.0, 'b': inf, 'c': nan}" in text
    assert "They come from one." in text
    assert "the state of step 4 is kept" in text
    with safe_open(tmp_path / "bad_batch_17.safetensors", "np") as file:
        assert json.loads(file.metadata()["datasets"]) == ["one"]
        [batch] = options["stream"].draw(17)
        np.testing.assert_array_equal(file.get_tensor("rows"), batch.rows)
        np.testing.assert_array_equal(file.get_tensor("seen.hidden_BT"), batch.seen.hidden_BT)
        np.testing.assert_array_equal(file.get_tensor("target.values_BT"), batch.target.values_BT)


def test_without_a_folder_or_a_batch(options):
    text = str(bad_loss_error((2, np.array([np.nan])), ["a"], **options))
    assert "were not saved, for want of a folder (out)" in text
    assert "is kept" not in text
    assert "another training process" in str(bad_loss_error(None, ["a"], **options))
