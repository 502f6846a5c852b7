from dataclasses import replace

import numpy as np

from grnlab.training import PretrainConfig
from grnlab.training.identity import array_hash, differences, run_identity


def test_how_a_run_is_carried_out_is_no_part_of_it(planted_cells):
    vocab, cells = planted_cells
    train, val = np.arange(100), np.arange(100, 150)
    one = run_identity(PretrainConfig(accumulate=2), {"n_layers": 1}, vocab, cells, (train, val))
    options = {"devices": 2, "strategy": "ddp", "workers": 3, "checkpoint_every": 5, "log": (), "log_every": 7}
    same = run_identity(PretrainConfig(accumulate=2, **options), {"n_layers": 1}, vocab, cells, (train, val))
    assert differences(one, same) == []
    other = run_identity(PretrainConfig(accumulate=2, seed=1), {"n_layers": 2}, vocab, cells, (train, val[:-1]))
    assert [text.split(":")[0] for text in differences(one, other)] == [
        "settings.seed", "model.n_layers", "data.validation cells"
    ]  # fmt: skip


def test_what_is_missing_is_told():
    before, now = {"data": {"labels": {"sex": "ab"}}}, {"data": {"labels": {"age": "ab"}}}
    assert differences(before, now) == [
        "data.labels.sex: 'ab' in the run, now 'nothing'",
        "data.labels.age: 'nothing' in the run, now 'ab'",
    ]


def test_hashes_are_of_values_not_of_types(planted_cells):
    numbers = np.arange(5)
    assert array_hash(numbers) == array_hash(numbers.astype(np.int16))
    assert array_hash(numbers * 1.0) == array_hash((numbers * 1.0).astype(np.float32))
    assert array_hash(numbers) != array_hash(numbers[::-1])
    vocab, cells = planted_cells
    rows, config = np.arange(10), PretrainConfig()
    stored = replace(cells, datasets=cells.datasets.astype(np.int32), totals=cells.totals.astype(np.float32))
    one, same = (run_identity(config, {}, vocab, x, (rows, rows)) for x in (cells, stored))
    assert differences(one, same) == []
