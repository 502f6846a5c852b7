import numpy as np
import pytest

from grnlab.network import power_law


def test_power_law_of_planted_degrees(build, empty):
    rng = np.random.default_rng(0)
    degrees = np.minimum(rng.zipf(2.5, size=400), 390)
    rows = [(f"R{i}", f"T{j}", 1.0) for i, degree in enumerate(degrees) for j in range(degree)]
    fit = power_law(build(rows), "out_degree")
    assert fit["alpha"] == pytest.approx(2.5, abs=0.3)
    assert fit["distance"] < 0.1
    assert np.isnan(power_law(empty)["alpha"])
    with pytest.raises(ValueError, match="by must be one of degree"):
        power_law(empty, "pagerank")
