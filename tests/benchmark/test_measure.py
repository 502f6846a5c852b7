import time

import numpy as np
import pytest

from grnlab.benchmark import measure
from grnlab.benchmark.measure import Shared, measured


def work(seconds):
    started = time.process_time()
    while time.process_time() - started < seconds:
        pass
    return seconds


def test_cpu_time_counts_work_and_not_sleep():
    with measured() as cost:
        work(0.05)
        time.sleep(0.2)
    assert 0.05 <= cost.cpu_s < 0.15


def test_the_peak_is_that_of_the_block():
    with measured() as small:
        pass
    if np.isnan(small.peak_mb):
        pytest.skip("the peak of memory cannot be read here")
    with measured() as large:
        np.ones(20_000_000).sum()
    with measured() as after:
        pass
    assert large.peak_mb > small.peak_mb + 100
    assert after.peak_mb < large.peak_mb - 100


def test_where_memory_cannot_be_read(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "_RESET", tmp_path / "nothing" / "here")
    with measured() as cost:
        pass
    assert np.isnan(cost.peak_mb)
    assert cost.cpu_s >= 0


def test_shared_work_is_done_once_and_charged_to_everyone():
    shared, calls = Shared(), []

    def make():
        calls.append(1)
        return work(0.05)

    for _ in range(2):
        with shared.method() as cost:
            assert shared.get("maps", make) == 0.05
            work(0.02)
        assert 0.07 <= cost.cpu_s < 0.13
    assert len(calls) == 1
    with shared.method() as cost:
        work(0.01)
    assert cost.cpu_s < 0.04


def test_the_cost_of_a_method_that_fails_is_known():
    costs = []

    def fail():
        with Shared().method() as cost:
            costs.append(cost)
            work(0.02)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert costs[0].cpu_s >= 0.02
