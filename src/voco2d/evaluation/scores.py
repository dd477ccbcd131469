"""The tree of every score of one prediction table, the same shape for point values and for resampled ones."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from voco2d.evaluation.metrics import ClassValues, Values, class_metrics, decide, summary, target_metrics
from voco2d.evaluation.pairing import SCORED_TARGETS, Paired
from voco2d.evaluation.rsna_score import row_losses, row_weights, rsna_organs

Tree: TypeAlias = dict[str, Any]


def point_scores(paired: Paired) -> Tree:
    """Score the rows as they are; each leaf is a float, NaN where undefined."""
    whole, weighted = {}, {}
    for name in SCORED_TARGETS:
        losses, weights = row_losses(paired, name), row_weights(paired, name)
        right = decide(paired.probabilities[name]) == paired.truth[name]
        whole[name] = {"log_loss": float(losses.mean()), "accuracy": float(right.mean())}
        weighted[name] = float(weights @ losses / weights.sum())
    return score_tree(class_metrics(paired), whole, weighted)


def score_tree(classes: ClassValues, whole: Mapping[str, Mapping[str, Values]], weighted: Mapping[str, Values]) -> Tree:
    """Arrange values as `evaluate` returns them (DESIGN.md, 4).

    Args:
        classes: Values of each class.
        whole: `log_loss` and `accuracy` of each target, each row counting once.
        weighted: Log loss of each target with the sample weights of the RSNA score.

    Returns:
        `rsna` {the six parts, `mean`}, `rsna_organs`, `map`, the other means of `metrics.summary`, and `targets`, where
        each of the six has the class metrics, `log_loss`, `accuracy` and `classes` {class: class metrics}.
    """
    rsna = {**weighted, "mean": sum(weighted.values()) / len(weighted)}
    targets = {
        name: {**target_metrics(classes, name), **whole[name], "classes": dict(classes[name])}
        for name in SCORED_TARGETS
    }
    return {"rsna": rsna, "rsna_organs": rsna_organs(rsna), **summary(classes), "targets": targets}
