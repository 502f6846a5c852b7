import pytest

from grnlab.training import PretrainConfig


def test_lists_and_single_names_become_tuples():
    config = PretrainConfig(objectives=["mask", {"name": "mvc", "weight": 2.0}], log="csv")
    assert config.objectives == ("mask", {"name": "mvc", "weight": 2.0})
    assert config.log == ("csv",)
    assert PretrainConfig(log=[]).log == ()
    assert PretrainConfig(label=["dataset", "sex"]).label == ("dataset", "sex")
    assert PretrainConfig(label="sex").label == "sex"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, "max_steps=0 must be above 0"),
        ({"max_minutes": -1.0}, "max_minutes=-1.0 must be above 0"),
        ({"max_minutes": float("nan")}, "max_minutes=nan must be above 0"),
        ({"seed": -1}, "seed=-1 must be 0 or above"),
        ({"clip": 0.0}, "clip=0.0 must be above 0"),
        ({"schedule": "cosine"}, "schedule='cosine' is unknown; choose among 'linear', 'plateau', 'constant'"),
        ({"log": ("csv", "wandb")}, "log='wandb' is unknown"),
        ({"strategy": "deepspeed"}, "strategy='deepspeed' is unknown"),
        ({"precision": "bf16-true"}, "precision='bf16-true' is unknown"),
        ({"gene_vectors": "esm2"}, "gene_vectors='esm2' is unknown; choose among 'random', 'coexpression'"),
        ({"average": 1.0}, "average=1.0 must lie between 0 and 1"),
        ({"devices": 2, "nodes": 2, "accumulate": 6}, "accumulate=6 .* shared evenly .* = 4 processes"),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        PretrainConfig(**options)


def test_cells_of_a_step_do_not_depend_on_the_processes():
    one, four = PretrainConfig(accumulate=8), PretrainConfig(accumulate=8, devices=2, nodes=2)
    assert one.cells_per_step == four.cells_per_step == 256
    assert (one.world_size, four.world_size) == (1, 4)
