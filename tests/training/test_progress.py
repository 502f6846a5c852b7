import pytest
from hypothesis import given
from hypothesis import strategies as st

from grnlab.training import PretrainConfig
from grnlab.training.progress import Progress


def rates(config, steps):
    return [Progress(step=step).rate(config) for step in range(steps)]


def test_the_rate_rises_then_falls_to_zero():
    config = PretrainConfig(warmup=4, max_steps=10)
    assert rates(config, 11) == pytest.approx([min((step + 1) / 4, 1) * (1 - step / 10) for step in range(11)])


def test_a_constant_rate_rises_only():
    config = PretrainConfig(warmup=2, max_steps=10, schedule="constant")
    assert rates(config, 5) == [0.5, 1.0, 1.0, 1.0, 1.0]
    assert rates(PretrainConfig(warmup=0, schedule="constant"), 2) == [1.0, 1.0]


def test_share_is_the_larger_of_steps_and_minutes():
    config = PretrainConfig(max_steps=10, max_minutes=2.0)
    assert Progress(step=3, minutes=0.2).share(config) == pytest.approx(0.3)
    assert Progress(step=3, minutes=1.0).share(config) == pytest.approx(0.5)
    assert Progress(step=3, minutes=10.0).share(config) == 1.0
    assert Progress(step=3, minutes=10.0).ended(config)
    assert not Progress(step=9, minutes=1.9).ended(config)
    assert Progress(step=10).ended(config)


def test_plateaus():
    config = PretrainConfig(schedule="plateau", plateau_patience=2, plateau_factor=0.5, warmup=1)
    progress, seen = Progress(step=10), []
    for loss in (3.0, 2.0, 2.0, 2.5, 2.1, 1.0, 1.5, 1.0, 0.5):
        progress.validated(loss, config)
        seen.append(progress.rate(config))
    assert seen == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert progress.best == 0.5


def test_early_stop_counts_from_the_best_however_often_the_rate_was_lowered():
    config = PretrainConfig(schedule="plateau", plateau_patience=1, early_stop=3)
    progress = Progress()
    ended = []
    for loss in (2.0, 3.0, 1.0, 1.0, 1.1, 1.2):
        progress.validated(loss, config)
        ended.append(progress.ended(config))
    assert ended == [False] * 5 + [True]
    assert progress.factor == pytest.approx(0.6**4)


@given(st.lists(st.floats(0, 10), max_size=12), st.integers(0, 12))
def test_progress_goes_on_from_its_plain_values(losses, place):
    config = PretrainConfig(schedule="plateau", early_stop=2)
    whole, halves = Progress(), Progress()
    for number, loss in enumerate(losses):
        if number == place:
            halves = Progress(**halves.to_dict())
        whole.validated(loss, config)
        halves.validated(loss, config)
    assert halves == whole
