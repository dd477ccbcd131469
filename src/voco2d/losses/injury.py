"""The fine-tuning loss: sample-weighted cross-entropy a target, with the derived any_injury term (docs/finetuning.md).

A label of −1 is missing: that sample is not learnt from for that target. A target that no sample of a batch has a label
of adds 0 to the mean. Ordinal targets are learnt by the log loss of their classes' probabilities, what they are scored
by too, and not by K − 1 separate binary losses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from voco2d.targets import RSNA_2023, TargetSet

_MISSING = -1


@dataclass(frozen=True)
class InjuryLossArgs:
    """Settings of `InjuryLoss`.

    Args:
        any_injury: Add the log loss of the derived any_injury target, as the RSNA 2023 score does; other targets than
            RSNA's have none.
    """

    any_injury: bool = True


class InjuryLoss(nn.Module):
    """Mean over the targets of their sample-weighted cross-entropies: the RSNA 2023 score, differentiable.

    Args:
        args: Which terms there are.
        targets: What is graded.
    """

    def __init__(self, args: InjuryLossArgs, targets: TargetSet = RSNA_2023) -> None:
        super().__init__()
        self.args = args
        self.targets = targets

    def forward(
        self,
        logits: Mapping[str, Float[Tensor, "B ..."]],
        labels: Mapping[str, Int[Tensor, " B"]],
        totals: Mapping[str, float] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean of `injury_terms`, whose arguments these are.

        Args:
            logits: As in `injury_terms`.
            labels: As there.
            totals: As there.
        """
        terms = injury_terms(logits, labels, self.args.any_injury, totals, self.targets)
        return torch.stack(list(terms.values())).mean()


def injury_terms(
    logits: Mapping[str, Float[Tensor, "B ..."]],
    labels: Mapping[str, Int[Tensor, " B"]],
    any_injury: bool = True,
    totals: Mapping[str, float] | None = None,
    targets: TargetSet = RSNA_2023,
) -> dict[str, Float[Tensor, ""]]:
    """Compute each target's sample-weighted cross-entropy, in float32 also under autocast.

    Args:
        logits: Target name → (B, number of its classes).
        labels: Target name → (B) class indices; 0 is healthy, −1 missing.
        any_injury: Whether to add the derived term.
        totals: `weight_totals` of the batch these are a part of: the terms of all parts sum to those of the batch.
        targets: What is graded.

    Returns:
        Target name → scalar, nats; `any_injury` last where it was asked for.
    """
    log_probabilities = {name: F.log_softmax(logits[name].float(), dim=1) for name in targets}
    totals = {} if totals is None else totals
    terms = {
        name: weighted_nll(log_probabilities[name], labels[name], target.weights, totals.get(name))
        for name, target in targets.items()
    }
    if any_injury and targets.derived is not None:
        derived = any_injury_log_probabilities(log_probabilities)
        total = totals.get(targets.derived.name)
        injured = any_injured(labels, targets)
        terms[targets.derived.name] = weighted_nll(derived, injured, targets.derived.weights, total)
    return terms


def weight_totals(labels: Mapping[str, Int[Tensor, " B"]], targets: TargetSet = RSNA_2023) -> dict[str, float]:
    """Sum the sample weights of a batch by its `labels`, name of `targets` → sum; the derived target is one of them."""
    sums = {name: _weights(labels[name], target.weights).sum() for name, target in targets.items()}
    if targets.derived is not None:
        sums[targets.derived.name] = _weights(any_injured(labels, targets), targets.derived.weights).sum()
    return {name: float(total) for name, total in sums.items()}


def any_injured(labels: Mapping[str, Int[Tensor, " B"]], targets: TargetSet = RSNA_2023) -> Int[Tensor, " B"]:
    """Return (B,): 1 for each sample whose `labels` are injured in any of `targets`, else 0."""
    return torch.stack([labels[name] > 0 for name in targets]).any(dim=0).long()


def weighted_nll(
    log_probabilities: Float[Tensor, "B classes"],
    labels: Int[Tensor, " B"],
    weights: Sequence[float],
    total: float | None = None,
) -> Float[Tensor, ""]:
    """Average −log p(true class) with each sample weighted by its true class.

    The sum is divided by the sum of the weights, as the RSNA 2023 metric (scikit-learn's `log_loss` with
    `sample_weight`) does.

    Args:
        log_probabilities: (B, classes) natural logarithms.
        labels: (B) class indices, −1 where missing.
        weights: One weight a class.
        total: What the sum is divided by; the sum of the weights of these samples by default.
    """
    by_class = log_probabilities.new_tensor(weights)
    if total is None and (labels >= 0).all() and min(weights) > 0:
        return F.nll_loss(log_probabilities, labels, weight=by_class)
    total = float(_weights(labels, weights).sum()) if total is None else total
    summed = F.nll_loss(log_probabilities, labels, weight=by_class, reduction="sum", ignore_index=_MISSING)
    return summed / total if total > 0 else summed  # nothing is known then, and the sum is 0


def any_injury_log_probabilities(log_probabilities: Mapping[str, Float[Tensor, "B _"]]) -> Float[Tensor, "B 2"]:
    """Derive (log p(no injury), log p(any injury)) with p(any) = max over targets of 1 − p(healthy).

    Stays in logarithms: the maximum of 1 − p(healthy) is where log p(healthy) is smallest, and log(1 − p(healthy)) is
    the log-sum-exp over the injured classes, exact also where p(healthy) rounds to 1.

    Args:
        log_probabilities: Target name → (B, classes); column 0 is healthy.
    """
    healthy = torch.stack([values[:, 0] for values in log_probabilities.values()])
    injured = torch.stack([values[:, 1:].logsumexp(dim=1) for values in log_probabilities.values()])
    return torch.stack([healthy.amin(dim=0), injured.amax(dim=0)], dim=1)


def _weights(labels: Int[Tensor, " B"], weights: Sequence[float]) -> Float[Tensor, " B"]:
    by_class = torch.tensor(weights, device=labels.device)
    return by_class[labels.clamp(min=0)] * (labels != _MISSING)
