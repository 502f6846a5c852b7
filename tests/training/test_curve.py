from types import SimpleNamespace

import pytest
import torch


@pytest.fixture
def curve():
    from grnlab.training.curve import LossCurve

    return LossCurve()


def trainer(step=0, *, sanity=False, **metrics):
    metrics = {name.replace("_", "/"): torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(global_step=step, sanity_checking=sanity, callback_metrics=metrics)


def test_training_losses_are_averaged_between_validations(curve):
    for value in (1.0, 2.0, 6.0):
        curve.on_train_batch_end(trainer(train_mask=value, loss=9.0), None)
    curve.on_validation_end(trainer(3, val_mask=5.0, train_mask=6.0), None)
    curve.on_train_batch_end(trainer(train_mask=4.0), None)
    curve.on_validation_end(trainer(4, val_mask=1.23456789), None)
    assert curve.points == [
        {"step": 3, "train/mask": 3.0, "val/mask": 5.0},
        {"step": 4, "train/mask": 4.0, "val/mask": 1.23457},
    ]


def test_the_check_before_training_is_no_point(curve):
    curve.on_validation_end(trainer(val_mask=5.0, sanity=True), None)
    assert curve.points == []
    curve.on_validation_end(trainer(val_mask=5.0), None)
    assert curve.points == [{"step": 0, "val/mask": 5.0}]
