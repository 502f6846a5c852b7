import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from grnlab.training.curve import LossCurve, MeanLosses


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=20), st.integers(0, 20))
def test_means_do_not_depend_on_where_they_are_interrupted(losses, place):
    whole = MeanLosses(np.zeros(2))
    for one in losses:
        whole.add(np.array(one))
    first = MeanLosses(np.zeros(2))
    for one in losses[:place]:
        first.add(np.array(one))
    second = MeanLosses(np.array(first.total.tolist()), first.n)
    for one in losses[place:]:
        second.add(np.array(one))
    assert second.mean().tolist() == whole.mean().tolist()
    np.testing.assert_allclose(whole.mean(), np.mean(losses, axis=0))


def test_means_begin_anew():
    mean = MeanLosses(np.zeros(1))
    mean.add(np.array([3.0]))
    mean.clear()
    assert mean.mean().tolist() == [0.0]
    mean.add(np.array([1.0]))
    assert mean.mean().tolist() == [1.0]


def test_points():
    curve = LossCurve(["mask", "mvc"])
    curve.add_point(step=3, cells=24, train=np.array([3.0, 2.0]), val=np.array([1.23456789, 1.0]))
    assert curve.rounded() == [
        {
            "step": 3, "cells": 24, "train/mask": 3.0, "train/mvc": 2.0,
            "val/mask": 1.23457, "val/mvc": 1.0, "val/loss": 2.23457,
        }
    ]  # fmt: skip
    assert curve.points[0]["val/mask"] == 1.23456789
