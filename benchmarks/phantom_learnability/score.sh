#!/usr/bin/env bash
# Scores the committed predictions again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
voco2d evaluate "$here/predictions.csv" --labels "$here/labels.csv" --bootstrap 1000 --json "$here/scores.json"
python - "$here" <<'PY'
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from voco2d.evaluation.pairing import pair
from voco2d.evaluation.tables import read_label_table, read_predictions
from voco2d.targets import TARGETS

here = Path(sys.argv[1])
paired = pair(read_predictions(here / "predictions.csv"), read_label_table(here / "labels.csv"), "max")


def injured_against_healthy(rows):
    return [roc_auc_score(paired.truth[name][rows] > 0, 1 - paired.probabilities[name][rows, 0]) for name in TARGETS]


everyone = np.arange(len(paired))
rng = np.random.default_rng(0)
drawn = [np.mean(injured_against_healthy(rng.integers(len(paired), size=len(paired)))) for _ in range(1000)]
for name, value in zip(TARGETS, injured_against_healthy(everyone), strict=True):
    print(f"AUROC {name}, injured against healthy: {value:.3f}")
low, high = np.quantile(drawn, (0.025, 0.975))
print(f"mean over the five targets: {np.mean(injured_against_healthy(everyone)):.3f} ({low:.3f} to {high:.3f})")
PY
