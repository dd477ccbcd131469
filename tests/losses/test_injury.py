import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor

from voco2d.losses.injury import (
    InjuryLoss,
    InjuryLossArgs,
    any_injury_log_probabilities,
    injury_terms,
    weight_totals,
    weighted_nll,
)
from voco2d.target_block import parse_targets
from voco2d.targets import ANY_INJURY, TARGETS


@pytest.fixture
def batch() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    logits, labels = {}, {}
    for name, target in TARGETS.items():
        classes = len(target.classes)
        logits[name] = torch.randn(17, classes, generator=generator)
        labels[name] = torch.randint(classes, (17,), generator=generator)
        labels[name][:5] = 0  # nobody would be without any injury
    return logits, labels


def test_terms_agree_with_a_literal_loop(batch: tuple[dict[str, Tensor], dict[str, Tensor]]) -> None:
    logits, labels = batch
    terms = injury_terms(logits, labels)

    any_sum = any_weights = 0.0
    sums, weights = dict.fromkeys(TARGETS, 0.0), dict.fromkeys(TARGETS, 0.0)
    for row in range(17):
        injury, injured = 0.0, False
        for name, target in TARGETS.items():
            exponentials = [math.exp(value) for value in logits[name][row].tolist()]
            probabilities = [value / sum(exponentials) for value in exponentials]
            true = int(labels[name][row])
            sums[name] += -math.log(probabilities[true]) * target.weights[true]
            weights[name] += target.weights[true]
            injury = max(injury, 1 - probabilities[0])
            injured = injured or true > 0
        weight = ANY_INJURY.weights[int(injured)]
        any_sum += -math.log(injury if injured else 1 - injury) * weight
        any_weights += weight

    for name in TARGETS:
        assert float(terms[name]) == pytest.approx(sums[name] / weights[name], abs=1e-5)
    assert float(terms["any_injury"]) == pytest.approx(any_sum / any_weights, abs=1e-5)
    assert list(terms) == [*TARGETS, "any_injury"]


def test_terms_agree_with_scikit_learn(batch: tuple[dict[str, Tensor], dict[str, Tensor]]) -> None:
    logits, labels = batch
    terms = injury_terms(logits, labels)
    for name, target in TARGETS.items():
        true = labels[name].numpy()
        expected = log_loss(
            true,
            logits[name].double().softmax(dim=1).numpy(),
            sample_weight=np.asarray(target.weights)[true],
            labels=range(len(target.classes)),
        )
        assert float(terms[name]) == pytest.approx(expected, abs=1e-6)


def test_loss_is_the_mean_of_its_terms_and_any_injury_can_be_left_out(
    batch: tuple[dict[str, Tensor], dict[str, Tensor]],
) -> None:
    logits, labels = batch
    terms = injury_terms(logits, labels)
    with_any = InjuryLoss(InjuryLossArgs())(logits, labels)
    without = InjuryLoss(InjuryLossArgs(any_injury=False))(logits, labels)
    assert float(with_any) == pytest.approx(sum(map(float, terms.values())) / 6)
    assert float(without) == pytest.approx(sum(float(terms[name]) for name in TARGETS) / 5)


def test_gradients_are_right(batch: tuple[dict[str, Tensor], dict[str, Tensor]]) -> None:
    logits, labels = batch
    values = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

    def loss(free: Tensor) -> Tensor:
        return weighted_nll(free.log_softmax(dim=1), labels["bowel"][:2], TARGETS["bowel"].weights)

    assert torch.autograd.gradcheck(loss, values)
    leaves = {name: value.clone().requires_grad_() for name, value in logits.items()}
    InjuryLoss(InjuryLossArgs())(leaves, labels).backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves.values())


def test_certain_logits_stay_finite() -> None:
    logits = {name: torch.tensor([[300.0] + [-300.0] * (len(t.classes) - 1)]) for name, t in TARGETS.items()}
    for value in logits.values():
        value.requires_grad_()
    labels = {name: torch.tensor([1]) for name in TARGETS}
    loss = InjuryLoss(InjuryLossArgs())(logits, labels)
    loss.backward()
    assert loss.isfinite()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in logits.values())


def test_any_injury_probabilities_sum_to_one(batch: tuple[dict[str, Tensor], dict[str, Tensor]]) -> None:
    logits, _ = batch
    derived = any_injury_log_probabilities({name: value.log_softmax(dim=1) for name, value in logits.items()})
    torch.testing.assert_close(derived.exp().sum(dim=1), torch.ones(17))


def test_terms_of_the_parts_of_a_batch_sum_to_those_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = {
        name: torch.randint(0, len(target.classes), (7,), generator=generator) for name, target in TARGETS.items()
    }
    logits = {name: torch.randn(7, len(target.classes), generator=generator) for name, target in TARGETS.items()}
    totals = weight_totals(labels)
    parts = [
        injury_terms(
            {name: values[part] for name, values in logits.items()},
            {name: values[part] for name, values in labels.items()},
            totals=totals,
        )
        for part in (slice(0, 3), slice(3, 7))
    ]
    for name, term in injury_terms(logits, labels).items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], term)


def test_a_missing_label_is_as_if_the_sample_were_not_there() -> None:
    targets = parse_targets(
        {
            "a": {"kind": "binary", "classes": ["x", "y"], "weights": [1, 3]},
            "b": {"kind": "ordinal", "classes": [1, 2, 3]},
        }
    )
    generator = torch.Generator().manual_seed(0)
    logits = {name: torch.randn(6, len(target.classes), generator=generator) for name, target in targets.items()}
    labels = {"a": torch.tensor([0, -1, 1, 1, -1, 0]), "b": torch.tensor([2, 0, 1, -1, 0, 2])}
    terms = injury_terms(logits, labels, targets=targets)
    assert set(terms) == {"a", "b"}  # nothing is derived from others than RSNA's
    known = labels["a"] >= 0
    alone = weighted_nll(logits["a"][known].log_softmax(dim=1), labels["a"][known], targets["a"].weights)
    torch.testing.assert_close(terms["a"], alone)
    totals = weight_totals(labels, targets)
    parts = [slice(0, 2), slice(2, 6)]
    summed = sum(
        InjuryLoss(InjuryLossArgs(), targets)(
            {n: v[p] for n, v in logits.items()}, {n: v[p] for n, v in labels.items()}, totals
        )
        for p in parts
    )
    torch.testing.assert_close(summed, torch.stack(list(terms.values())).mean())


def test_a_target_that_nobody_has_a_label_of_adds_nothing() -> None:
    targets = parse_targets({"a": {"kind": "binary", "classes": ["x", "y"]}})
    logits = {"a": torch.randn(3, 2, requires_grad=True)}
    loss = InjuryLoss(InjuryLossArgs(), targets)(logits, {"a": torch.full((3,), -1)})
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits["a"].grad.any()


def test_small_weights_average_too() -> None:
    log_probabilities = torch.randn(2, 2).log_softmax(dim=1)
    loss = weighted_nll(log_probabilities, torch.tensor([0, -1]), (0.25, 0.5))
    torch.testing.assert_close(loss, -log_probabilities[0, 0])
    assert weighted_nll(log_probabilities, torch.tensor([0, 0]), (0.0, 1.0)) == 0
