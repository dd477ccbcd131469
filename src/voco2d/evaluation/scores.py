"""The tree of every score of one prediction table, the same shape for point values and for resampled ones."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from voco2d.evaluation.metrics import ClassValues, Values, class_metrics, decide, summary, target_metrics
from voco2d.evaluation.ordinal import ordinal_values
from voco2d.evaluation.pairing import Paired
from voco2d.evaluation.rsna_score import row_losses, row_weights, rsna_organs, score_name
from voco2d.targets import RSNA_2023, TargetSet

Tree: TypeAlias = dict[str, Any]


def point_scores(paired: Paired) -> Tree:
    """Score the rows as they are; each leaf is a float, NaN where undefined."""
    whole, weighted = {}, {}
    for name, target in paired.targets.scored.items():
        losses, weights = row_losses(paired, name), row_weights(paired, name)
        probabilities, truth = paired.labelled(name)
        called = decide(probabilities, target)
        known = len(truth) > 0
        whole[name] = {
            "log_loss": float(losses.mean()) if known else np.nan,
            "accuracy": float((called == truth).mean()) if known else np.nan,
        }
        if target.kind == "ordinal":
            graded = ordinal_values(truth, called, len(target.classes), np.ones((len(truth), 1)))
            whole[name] |= {metric: float(value[0]) for metric, value in graded.items()}
        total = weights.sum()
        weighted[name] = float(weights @ losses / total) if total > 0 else np.nan
    return score_tree(class_metrics(paired), whole, weighted, paired.targets)


def score_tree(
    classes: ClassValues,
    whole: Mapping[str, Mapping[str, Values]],
    weighted: Mapping[str, Values],
    targets: TargetSet = RSNA_2023,
) -> Tree:
    """Arrange values as `evaluate` returns them (docs/evaluation.md).

    Args:
        classes: Values of each class.
        whole: `log_loss`, `accuracy`, and of ordinal targets `ORDINAL_METRICS`, each row counting once.
        weighted: Log loss of each target with the sample weights of its classes.
        targets: What is scored.

    Returns:
        `rsna` {the six parts, `mean`}, `rsna_organs`, `map`, the other means of `metrics.summary`, and `targets`, where
        each of the six has the class metrics, `log_loss`, `accuracy` and `classes` {class: class metrics}. Of other
        targets than RSNA's there is `score` in the place of `rsna`, and no mean that is about organs.
    """
    score = {**weighted, "mean": sum(weighted.values()) / len(weighted)}
    tree: Tree = {score_name(targets): score}
    if targets.is_rsna:
        tree["rsna_organs"] = rsna_organs(score)
    by_target = {
        name: {**target_metrics(classes, target), **whole[name], "classes": dict(classes[name])}
        for name, target in targets.scored.items()
    }
    return {**tree, **summary(classes, targets), "targets": by_target}
