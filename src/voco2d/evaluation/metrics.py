"""How well each class is found: rankings and decisions a class, and their means over classes.

Decision rule: a target of two classes is called injured from a probability of 0.5 on; a graded target is given its most
probable class, of equals the milder one. An ordinal target is given the highest class that it is in, or beyond, with a
probability of 0.5 or more (as CORAL does, Cao et al., 2020): the median, of which the mean error in grades is lowest.

A class that no row has, or that every row has, leaves `average_precision` and `roc_auc` undefined; a class that no row
has leaves `precision`, `recall` and `f1` undefined, and one that every row has `specificity`. Undefined is NaN here and
`null` in JSON, and a mean over classes is undefined when one of them is: a mean over fewer classes would not compare.
A class that rows have and that is never called has precision 0, scikit-learn's and the published tables' convention.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.metrics import average_precision_score, roc_auc_score

from voco2d.evaluation.pairing import Paired
from voco2d.targets import RSNA_2023, Target, TargetSet

DECISIONS: Final = ("precision", "recall", "specificity", "f1")
CLASS_METRICS: Final = ("average_precision", "roc_auc", *DECISIONS)

Values: TypeAlias = Any
"""A float, or an array with one value a resample; arithmetic is the same for both."""
ClassValues: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Values]]]
"""Values by target, class and metric."""


def decide(probabilities: Float[np.ndarray, "N classes"], target: Target) -> Int[np.ndarray, " N"]:
    """Call each row's class by the decision rule of this module."""
    if target.kind == "ordinal":
        beyond = 1 - probabilities.cumsum(axis=1)[:, :-1]  # P(class > k)
        ranks: Int[np.ndarray, " N"] = (beyond >= 0.5).sum(axis=1)
        return ranks
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] >= 0.5).astype(np.int64)
    called: Int[np.ndarray, " N"] = probabilities.argmax(axis=1)
    return called


def class_metrics(paired: Paired) -> ClassValues:
    """Compute `CLASS_METRICS` for each class of each target, the derived one among them."""
    values = {}
    for name, target in paired.targets.scored.items():
        probabilities, truth = paired.labelled(name)
        called = decide(probabilities, target)
        values[name] = {
            grade: {**_ranking(truth == index, probabilities[:, index]), **_decisions(truth == index, called == index)}
            for index, grade in enumerate(target.classes)
        }
    return values


def summary(classes: ClassValues, targets: TargetSet = RSNA_2023) -> dict[str, Values]:
    """Average over classes: `map` and the other `CLASS_METRICS`, and with the paper's nine classes, `*_organs9`.

    Those without an ending average the eight classes that are an injury (bowel_injury, extravasation_injury, low and
    high of three organs); `organs9` the nine classes of kidney, liver and spleen, healthy ones too, as the paper does.
    Of other targets than RSNA's the mean is over the `graded_classes` of each, and there is no other.
    """
    names = {metric: "map" if metric == "average_precision" else metric for metric in CLASS_METRICS}
    chosen = [classes[name][targets[name].classes[grade]] for name, grade in averaged_classes(targets)]
    means = {names[metric]: _mean(chosen, metric) for metric in CLASS_METRICS}
    if not targets.is_rsna:
        return means
    organs = [classes[name][grade] for name in targets.organs for grade in targets[name].classes]
    return means | {f"{names[metric]}_organs9": _mean(organs, metric) for metric in CLASS_METRICS}


def averaged_classes(targets: TargetSet) -> list[tuple[str, int]]:
    """List the classes, target and number, that the means over all targets average, see `summary`."""
    if targets.is_rsna:
        return [(name, grade) for name, target in targets.items() for grade in range(1, len(target.classes))]
    return [(name, grade) for name, target in targets.items() for grade in graded_classes(target)]


def graded_classes(target: Target) -> tuple[int, ...]:
    """Tell which classes a target's own value averages: the injury of a binary target, all of a graded one."""
    return (1,) if len(target.classes) == 2 else tuple(range(len(target.classes)))


def target_metrics(classes: ClassValues, target: Target) -> dict[str, Values]:
    """Reduce a target's classes to one value a metric: injury of a binary target, the mean over a graded one's classes.

    The mean takes the healthy class in, as scikit-learn's `macro` and the published tables do.
    """
    chosen = [target.classes[index] for index in graded_classes(target)]
    return {metric: _mean([classes[target.name][grade] for grade in chosen], metric) for metric in CLASS_METRICS}


def _mean(classes: Sequence[Mapping[str, Values]], metric: str) -> Values:
    return sum(values[metric] for values in classes) / len(classes)


def _ranking(positive: Bool[np.ndarray, " N"], score: Float[np.ndarray, " N"]) -> dict[str, float]:
    if positive.all() or not positive.any():
        return {"average_precision": np.nan, "roc_auc": np.nan}
    return {
        "average_precision": float(average_precision_score(positive, score)),
        "roc_auc": float(roc_auc_score(positive, score)),
    }


def _decisions(positive: Bool[np.ndarray, " N"], called: Bool[np.ndarray, " N"]) -> dict[str, float]:
    hits, healthy = int((positive & called).sum()), int((~positive).sum())
    values = decision_values(hits, int(positive.sum()), int(called.sum()), healthy)
    return {metric: float(value) for metric, value in values.items()}


def decision_values(hits: Values, positive: Values, called: Values, negative: Values) -> dict[str, Values]:
    """Compute precision, recall, specificity and F1 from counts (or arrays of counts).

    Args:
        hits: Rows of the class that were called so.
        positive: Rows of the class.
        called: Rows that were called so.
        negative: Rows of another class.
    """
    hits, positive, called, negative = (
        np.asarray(count, dtype=np.float64) for count in (hits, positive, called, negative)
    )
    occurs = np.where(positive > 0, 1.0, np.nan)
    return {
        "precision": occurs * hits / np.maximum(called, 1),
        "recall": occurs * hits / np.maximum(positive, 1),
        "specificity": np.where(negative > 0, 1.0, np.nan) * (negative - called + hits) / np.maximum(negative, 1),
        "f1": occurs * 2 * hits / np.maximum(called + positive, 1),
    }


def decision_draws(
    positive: Bool[np.ndarray, " n"], called: Bool[np.ndarray, " n"], times: Float[np.ndarray, "n draws"]
) -> dict[str, Values]:
    """Compute `decision_values` of rows that count several times, for many countings at once.

    Args:
        positive: Rows of the class.
        called: Rows that were called so.
        times: How often each row counts in each draw.
    """
    hits, occurring, chosen = np.stack([positive & called, positive, called]).astype(np.float64) @ times
    return decision_values(hits, occurring, chosen, times.sum(axis=0) - occurring)
