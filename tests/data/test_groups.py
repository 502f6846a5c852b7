"""Labels of cells that can name a group, and those that cannot."""

import pandas as pd
import pytest

from grnlab.data.groups import groups_of


@pytest.mark.parametrize("label", ["", "  ", "\ud800"])
def test_a_label_that_cannot_name_a_group_is_told_at_once(label):
    obs = pd.DataFrame({"kind": [label, label, "B", "B"]})
    with pytest.raises(ValueError, match="for 2 cells, which cannot name a group"):
        groups_of(obs, "kind", min_cells=2, skip_small=False)


def test_cells_without_a_label_and_small_groups_are_left_out():
    obs = pd.DataFrame({"kind": [None, "", "B", "B"]})
    assert list(groups_of(obs, "kind", min_cells=2, skip_small=True)) == ["B"]
