"""Cells cut to some of their genes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from grnlab.data.tokens import keep_tokens


@given(seed=st.integers(0, 99), share=st.floats(0, 1))
def test_what_is_kept_stays_in_order(make_tokens, seed, share):
    tokens = make_tokens((9, 4, 7), width=11, hidden=True, seed=seed)
    keep = (torch.rand(3, 11, generator=torch.Generator().manual_seed(seed)) < share) & tokens.real_BT
    kept, place = keep_tokens(tokens, keep)
    assert kept.genes_BT.shape[1] == max(int(keep.sum(1).max()), 1)
    for cell in range(3):
        real = kept.real_BT[cell]
        assert torch.equal(place[cell][real], keep[cell].nonzero().squeeze(1))
        for name in ("genes_BT", "values_BT", "hidden_BT"):
            assert torch.equal(getattr(kept, name)[cell][real], getattr(tokens, name)[cell][keep[cell]])
    assert kept.totals_B is tokens.totals_B
    assert kept.labels.keys() == tokens.labels.keys()
