import pytest
import torch

from grnlab.training.averaging import WeightAverage


@pytest.fixture
def weights():
    return {"a": torch.nn.Parameter(torch.tensor([1.0, 2.0])), "b": torch.nn.Parameter(torch.tensor(3.0))}


def set_to(weights, value):
    with torch.no_grad():
        for weight in weights.values():
            weight.fill_(value)


def test_average_from_the_definition(weights):
    average, expected = WeightAverage(weights, 0.5), torch.tensor([1.0, 2.0], dtype=torch.float64)
    for step in range(1, 15):
        set_to(weights, float(step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(average.averages["a"].double(), expected, rtol=1e-6, atol=0)
    assert weights["a"].tolist() == [14.0, 14.0]


def test_the_average_takes_the_place_of_the_weights_and_gives_it_back(weights):
    average = WeightAverage(weights, 0.5)
    set_to(weights, 9.0)

    def fail():
        with average.in_place():
            assert weights["a"].tolist() == [1.0, 2.0]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert weights["a"].tolist() == [9.0, 9.0]
    average.to_model()
    assert weights["a"].tolist() == [1.0, 2.0]
    assert weights["a"].requires_grad
