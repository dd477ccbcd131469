"""Measures how often the 95 % bootstrap intervals of `voco2d evaluate` hold the true value, on simulated cohorts.

    python benchmarks/interval_coverage/run.py

Writes `results.json` beside this file; some minutes of one core. `--quick` tries it and writes `quick.json` here.
README.md tells what is simulated.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from voco2d.data.phantom.labels import draw_grades
from voco2d.evaluation.measures import find_measure, measure_values
from voco2d.evaluation.pairing import Paired, with_any_injury
from voco2d.evaluation.significance import percentile_interval, row_draws
from voco2d.targets import TARGETS

HERE = Path(__file__).resolve().parent
MEASURES = [find_measure(name) for name in ("map", "roc_auc", "rsna", "liver.brier", "liver.ece")]
COHORTS: Final = {
    "400 patients, RSNA 2023's shares": (400, False),
    "400 patients, enriched": (400, True),
    "3,147 patients, RSNA 2023's shares": (3147, False),
}
"""Patients, and whether injuries are enriched as `voco2d phantom --enriched` does."""
SIMULATED, RESAMPLES, SEED = 300, 500, 0
POOL = 20_000
"""Patients whose grades are drawn; every cohort is drawn from them."""
POPULATION = 300_000
"""Patients whose scores are taken for the true ones."""
SKILLS = (1.0, 2.0)
"""How far the evidence for the true class lies above that for the others, in deviations of its noise."""


def main() -> None:
    """Simulate each kind of cohort and write how often intervals hold the truth."""
    simulated, population = (20, 20_000) if "--quick" in sys.argv else (SIMULATED, POPULATION)
    results = [
        {"cohort": name, "skill": skill, "scores": coverage(*kind, skill, simulated, population)}
        for name, kind in COHORTS.items()
        for skill in SKILLS
    ]
    protocol = {"cohorts": simulated, "resamples": RESAMPLES, "population": population, "seed": SEED}
    text = json.dumps({**protocol, "coverage": results}, indent=1, ensure_ascii=False)
    (Path("quick.json") if "--quick" in sys.argv else HERE / "results.json").write_text(text + "\n", encoding="utf-8")


def coverage(patients: int, enriched: bool, skill: float, simulated: int, population: int) -> dict[str, dict[str, Any]]:
    """Simulate cohorts of one kind.

    Returns:
        For each score its true value, in how many cohorts it is defined, and the share of those whose interval holds
        it.
    """
    rng = np.random.default_rng(SEED)
    pool = draw_pool(rng, enriched)
    whole = simulate(rng, pool, population, skill)
    truth = {name: float(value[0]) for name, value in _scores(whole, np.ones((population, 1))).items()}
    held: dict[str, list[bool]] = {name: [] for name in truth}
    for number in range(simulated):
        cohort = simulate(rng, pool, patients, skill)
        points = _scores(cohort, np.ones((patients, 1)))
        parts = [_scores(cohort, times) for times in row_draws(cohort, RESAMPLES, number)]
        for name, true in truth.items():
            low, high = percentile_interval(float(points[name][0]), np.concatenate([part[name] for part in parts]))
            if np.isfinite(low):
                held[name].append(low <= true <= high)
    return {
        name: {"true": round(truth[name], 4), "defined": len(said), "held": round(float(np.mean(said)), 3)}
        for name, said in held.items()
    }


def simulate(rng: np.random.Generator, pool: Mapping[str, np.ndarray], patients: int, skill: float) -> Paired:
    """Draw patients from a pool, and what a network says of each that knows how far its evidence goes.

    Each class has normal evidence of deviation 1, with mean `skill` for the true one; probabilities are what follows
    from it and the shares of the classes, so they are calibrated.

    Args:
        rng: Source of randomness.
        pool: Of each target (patients, classes), one-hot.
        patients: How many.
        skill: As in `SKILLS`.
    """
    chosen = rng.integers(len(pool["bowel"]), size=patients)
    truth, said = {}, {}
    for name, everyone in pool.items():
        truth[name] = everyone[chosen]
        evidence = skill * truth[name] + rng.standard_normal(truth[name].shape)
        odds = everyone.mean(axis=0) * np.exp(skill * evidence)
        said[name] = odds / odds.sum(axis=1, keepdims=True)
    return Paired(
        patient_ids=tuple(map(str, range(patients))),
        probabilities=with_any_injury(said),
        truth={name: classes.argmax(axis=1) for name, classes in with_any_injury(truth).items()},
    )


def draw_pool(rng: np.random.Generator, enriched: bool) -> dict[str, np.ndarray]:
    """Draw grades as the phantom does: of each target (patients, classes), one-hot."""
    grades = [draw_grades(rng, enriched) for _ in range(POOL)]
    return {name: np.eye(len(target.classes))[[drawn[name] for drawn in grades]] for name, target in TARGETS.items()}


def _scores(cohort: Paired, times: np.ndarray) -> dict[str, np.ndarray]:
    return measure_values(cohort, MEASURES, times)


if __name__ == "__main__":
    main()
