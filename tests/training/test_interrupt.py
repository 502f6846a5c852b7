import os
import signal
import threading

import pytest

from grnlab.training.interrupt import InterruptWatch


@pytest.fixture
def handlers():
    """The handlers before, restored whatever a test does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_is_noted_and_a_second_one_acts(handlers, number):
    watch = InterruptWatch()
    watch.start()
    assert not watch.seen
    os.kill(os.getpid(), number)
    assert watch.seen
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    watch.stop()
    assert {one: signal.getsignal(one) for one in handlers} == handlers


def test_slurm_warns_with_a_signal_of_its_own(handlers, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    watch = InterruptWatch()
    watch.start()
    assert signal.getsignal(signal.SIGUSR1) == handlers[signal.SIGUSR1]
    watch.stop()
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    watch.start()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert watch.seen
    watch.stop()
    assert {one: signal.getsignal(one) for one in handlers} == handlers


def test_a_thread_watches_nothing(handlers):
    watch = InterruptWatch()
    thread = threading.Thread(target=watch.start)
    thread.start()
    thread.join()
    watch.stop()
    assert {one: signal.getsignal(one) for one in handlers} == handlers
