import dataclasses

import pytest
import torch
import torch.nn.functional as F

from grnlab.backbones import DrugBert, DrugBertConfig
from grnlab.data import CellTokens, SignatureTokens
from grnlab.objectives import MaskValues, Respond, TellConditions, build_objectives


@pytest.fixture(scope="module")
def model(tiny_vocab):
    torch.manual_seed(0)
    config = DrugBertConfig(d_model=16, n_heads=2, features=("a",), drugs=("x", "y"), cells=("A", "B", "C"), dose=True)
    return DrugBert(tiny_vocab, config).eval()


@pytest.fixture
def tokens(make_tokens):
    base = make_tokens((9, 6, 9))
    values = torch.randn(base.values_BT.shape, generator=torch.Generator().manual_seed(0)) * base.real_BT
    labels = {"cell": torch.tensor([0, 2, -1]), "drug": torch.tensor([1, 0, 0])}
    return SignatureTokens(
        **vars(base) | {"values_BT": values, "labels": labels},
        drug_BF=torch.ones(3, 1),
        log_dose_B=torch.tensor([1.0, float("nan"), -1.0]),
    )


def corrupted(objective, tokens, *, seed=0):
    return objective.corrupt(tokens, generator=torch.Generator().manual_seed(seed))


def test_masked_values_are_the_loss_and_never_seen(model, tokens):
    task = MaskValues(rate=0.5)
    seen = corrupted(task, tokens)
    assert isinstance(seen, SignatureTokens)
    assert not (seen.hidden_BT & ~tokens.real_BT).any()
    encoded = model.encode(seen)
    made = model.decode_values(encoded, seen)
    expected = (made - tokens.values_BT)[seen.hidden_BT].square().mean()
    torch.testing.assert_close(task.loss(model, encoded, seen=seen, target=tokens), expected)
    other = dataclasses.replace(seen, values_BT=torch.where(seen.hidden_BT, 9.0, seen.values_BT))
    torch.testing.assert_close(model.decode_values(model.encode(other), other), made)
    with pytest.raises(ValueError, match=r"apply MaskValues.corrupt"):
        task.loss(model, encoded, seen=tokens, target=tokens)


@pytest.mark.parametrize("rate", [0.0, 1.5, float("nan")])
def test_a_rate_that_cannot_be(rate):
    with pytest.raises(ValueError, match="must lie above 0"):
        MaskValues(rate=rate)


def test_the_four_tasks_of_the_paper(model, tokens):
    tasks = build_objectives(["mask_values", {"name": "tell_conditions", "weight": 0.5}])
    assert tasks == [MaskValues(), TellConditions(weight=0.5)]
    encoded = model.encode(tokens)
    told = model.tell(encoded)
    expected = (
        F.cross_entropy(told["cell"][:2], torch.tensor([0, 2]))
        + F.cross_entropy(told["drug"], tokens.labels["drug"])
        + (told["dose"][[0, 2], 0] - torch.tensor([1.0, -1.0])).square().mean()
    )
    torch.testing.assert_close(tasks[1].loss(model, encoded, seen=tokens, target=tokens), expected)


def test_conditions_that_are_told_must_not_be_given(model, tokens):
    given = dataclasses.replace(tokens, given=True)
    with pytest.raises(ValueError, match="was given the conditions"):
        TellConditions().loss(model, model.encode(given), seen=given, target=tokens)


def test_signatures_that_lack_a_condition_are_named(model, tokens, tiny_vocab):
    encoded = model.encode(tokens)
    for target, missing in (
        (dataclasses.replace(tokens, labels={"drug": tokens.labels["drug"]}), "cell"),
        (dataclasses.replace(tokens, log_dose_B=None), "dose"),
    ):
        with pytest.raises(ValueError, match=f"tells '{missing}', which the signatures lack"):
            TellConditions().loss(model, encoded, seen=tokens, target=target)
    bare = DrugBert(tiny_vocab, DrugBertConfig(n_layers=1, d_model=8, n_heads=2))
    with pytest.raises(ValueError, match="tells no condition"):
        TellConditions().loss(bare, bare.encode(tokens), seen=tokens, target=tokens)


def test_a_response_is_made_of_the_conditions_alone(model, tokens):
    task = Respond()
    seen = corrupted(task, tokens)
    assert seen.given
    assert torch.equal(seen.hidden_BT, tokens.real_BT)
    made = model.decode_values(model.encode(seen), seen)
    other = dataclasses.replace(seen, values_BT=seen.values_BT + 5)
    torch.testing.assert_close(model.decode_values(model.encode(other), other), made)
    expected = (made - tokens.values_BT)[tokens.real_BT].square().mean()
    torch.testing.assert_close(task.loss(model, model.encode(seen), seen=seen, target=tokens), expected)


def test_a_response_needs_conditions_and_a_run_of_its_own(tokens, make_tokens):
    with pytest.raises(ValueError, match="needs signatures with conditions"):
        corrupted(Respond(), make_tokens())
    with pytest.raises(ValueError, match="trains alone"):
        corrupted(Respond(), corrupted(MaskValues(), tokens))
    assert isinstance(corrupted(MaskValues(), make_tokens()), CellTokens)
