import threading
import time

import pytest
import torch
from grnlab_kernels import workers


@pytest.fixture(params=[1, 2, 5])
def n_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("n_rows", "size", "expected"), [(0, 4, []), (3, 4, [(0, 3)]), (8, 4, [(0, 4), (4, 8)]), (5, 4, [(0, 4), (4, 5)])]
)
def test_panels(n_rows, size, expected):
    assert list(workers.panels(n_rows, size)) == expected


def test_results_come_in_order(n_threads):
    def work(start, end):
        time.sleep(0.002 * (3 - start % 4))  # later panels are done sooner
        return start, end

    assert list(workers.run(work, 23, 2)) == list(workers.panels(23, 2))
    assert list(workers.run(work, 0, 2)) == []


def test_each_worker_has_one_thread(n_threads):
    seen = list(workers.run(lambda start, end: (torch.get_num_threads(), threading.current_thread().name), 12, 1))
    assert {count for count, _ in seen} == {1}
    names = {name for _, name in seen}
    assert len(names) <= n_threads
    assert all(name.startswith("grnlab") for name in names) == (n_threads > 1)
    assert torch.get_num_threads() == n_threads


def test_a_worker_does_its_own_panels(n_threads):
    def work(start, end):
        names = set(workers.run(lambda start, end: threading.current_thread().name, 4, 1))
        return names == {threading.current_thread().name}

    assert all(workers.run(work, 6, 1))


def test_other_devices_are_left_to_the_caller(n_threads):
    device = torch.device("cuda", 0)
    names = workers.run(lambda start, end: threading.current_thread().name, 6, 1, device)
    assert set(names) == {threading.current_thread().name}


def test_few_results_wait(n_threads):
    done = []
    results = workers.run(lambda start, end: done.append(start), 100, 1)
    for taken in range(1, 21):
        next(results)
        time.sleep(0.001)
        assert len(done) <= taken + 2 * n_threads
    results.close()


def test_an_error_reaches_the_caller_and_ends_the_workers(n_threads):
    def work(start, end):
        if start == 3:
            raise ZeroDivisionError
        return start

    before = threading.active_count()
    results = workers.run(work, 50, 1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == before
    assert torch.get_num_threads() == n_threads


def test_a_run_left_early_ends_its_workers(n_threads):
    before = threading.active_count()
    results = workers.run(lambda start, end: start, 50, 1)
    next(results)
    results.close()
    assert threading.active_count() == before
    assert torch.get_num_threads() == n_threads


def test_workers_are_in_the_mode_of_the_caller(n_threads):
    def modes(start, end):
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    assert set(workers.run(modes, 4, 1)) == {(False, True)}
    with torch.no_grad():
        assert set(workers.run(modes, 4, 1)) == {(False, False)}
    with torch.inference_mode():
        total = torch.zeros(4)
        assert set(workers.run(modes, 4, 1)) == {(True, False)}
        list(workers.run(lambda start, end: total[start:end].add_(1), 4, 1))
    assert total.tolist() == [1, 1, 1, 1]
