"""Measures whether explanations find injured slices and organs of phantoms that the network never saw.

    benchmarks/attribution/run.sh FOLDER    # makes phantoms and a network, and calls this
    python benchmarks/attribution/run.py FOLDER

Slices: on which source slices the sign of an injury shows, `image_level_labels.csv` says for bowel and extravasation.
In the plane: how much of a map lies in the injured organ, by the organ masks.
Results: `results.json`, and `slices.csv` and `planes.csv` with each patient's, beside this file.
"""

import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from voco2d.data.slice_tables import read_findings
from voco2d.inference.explain.evidence import HIDDEN_SLICES, Evidence, hide_slices
from voco2d.inference.explain.explainer import Explainer, rank_slices
from voco2d.inference.explain.explanation import SeriesExplanation
from voco2d.inference.outcome import ReadOut
from voco2d.inference.predictor import Predictor
from voco2d.inference.results import SeriesResult
from voco2d.io.orientation import to_patient_axes
from voco2d.io.volume import Volume
from voco2d.preprocessing.organ_masks import read_mask
from voco2d.store.instance_numbers import decode_numbers

HERE = Path(__file__).resolve().parent
ORGANS = {"liver": (1,), "spleen": (2,), "kidney": (3, 4), "bowel": (5,)}
"""Target → numbers in the masks."""
FINDINGS = ("bowel", "extravasation")
USUAL = "usual place"
"""A ranking that sees no scan: how often training patients show the sign at this share of the scan's length."""
BINS = 20
KEYS = 3
BODY_HU = -300
RESAMPLES = 2000


def main() -> None:
    """Explain the unseen patients and write what was found."""
    work = Path(sys.argv[1])
    shown = read_findings(work / "unseen" / "image_level_labels.csv")
    labels = pd.read_csv(work / "unseen" / "train.csv", dtype={"patient_id": str}).set_index("patient_id")
    usual = usual_places(work)
    predictor = Predictor.load([work / "classifier"], gates="off", device="cpu", flips=())
    explainer = Explainer(predictor, KEYS)
    slices, planes = [], []
    for patient in labels.index:
        found: list[tuple[Volume, ReadOut, SeriesExplanation]] = []

        def look(volume: Volume, seen: ReadOut, result: SeriesResult, found: list[Any] = found) -> None:
            found.append((volume, seen, explainer.explain(volume, seen, result)))

        predictor.predict(work / "unseen" / "train_images" / patient, look)
        ((volume, seen, told),) = found
        injured = {name: not labels.loc[patient, f"{name}_healthy"] for name in told.targets}
        signs = shown.get((volume.patient_id, volume.series_id), {})
        asked = any(injured[name] and signs.get(name) for name in FINDINGS)
        hidden = hide_slices(predictor.models.runtimes, seen.slices)[0] if asked else {}
        slices += [
            {"patient": patient, "target": name, "p": told.targets[name].injury, **row}
            for name in FINDINGS
            if injured[name] and signs.get(name)
            for row in slice_rows(volume, told, hidden[name], name, signs[name], usual[name])
        ]
        planes += [
            {"patient": patient, "target": name, "p": told.targets[name].injury, **plane_row(work, volume, told, name)}
            for name in ORGANS
            if injured[name]
        ]
    tables = {"slices": pd.DataFrame(slices), "planes": pd.DataFrame(planes)}
    for name, table in tables.items():
        table.round(6).to_csv(HERE / f"{name}.csv", index=False, lineterminator="\n")
    write(tables)


def usual_places(work: Path) -> dict[str, NDArray[np.float64]]:
    """Return how often the training patients show each sign in each `BINS`-th part of the scan, from the head down."""
    split = pd.read_csv(work / "splits.csv", dtype=str)
    train = set(split.loc[split["split"] == "train", "patient_id"])
    index = pd.read_parquet(work / "store" / "index.parquet")
    shown = read_findings(work / "cohort" / "image_level_labels.csv")
    counts = {name: np.zeros(BINS) for name in FINDINGS}
    for row in index.to_dict("records"):
        signs = shown.get((str(row["patient_id"]), str(row["series_id"])), {})
        if str(row["patient_id"]) in train:
            numbers = decode_numbers(row["instance_numbers"])
            for name in FINDINGS:
                for place, number in enumerate(numbers):
                    counts[name][int(BINS * place / len(numbers))] += number in signs.get(name, ())
    return counts


def slice_rows(
    volume: Volume,
    told: SeriesExplanation,
    hidden: Evidence,
    name: str,
    signs: set[int],
    usual: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """Score each curve of one target of one series over the source slices that the network saw."""
    positive = np.isin(volume.instance_numbers, list(signs))
    curves: dict[str, NDArray[np.float64]] = {
        method: told.source_curve(name, method) for method in told.targets[name].curves
    }
    curves[HIDDEN_SLICES] = told.grid.curve(hidden.curves[HIDDEN_SLICES])
    depth = len(positive)
    curves[USUAL] = usual[(BINS * np.arange(depth) / depth).astype(int)]
    inside = np.isfinite(told.source_curve(name))
    count, total = int(positive[inside].sum()), int(inside.sum())
    rows: list[dict[str, Any]] = []
    for method, curve in curves.items():
        if count:
            ranked = rank_slices(np.where(inside, curve, -np.inf), KEYS)
            rows.append(
                {
                    "method": method,
                    "hit": bool(positive[ranked[0]]),
                    "hit_any": bool(positive[ranked].any()),
                    "average_precision": average_precision_score(positive[inside], curve[inside]),
                    "chance_hit": count / total,
                    "chance_hit_any": 1 - np.prod([(total - count - i) / (total - i) for i in range(len(ranked))]),
                    "chance_average_precision": chance_average_precision(count, total),
                }
            )
    return rows


def chance_average_precision(count: int, total: int) -> float:
    """Return the expected average precision of a random order of `total` slices of which `count` are positive."""
    harmonic = sum(1 / i for i in range(1, total + 1))
    return (harmonic + (count - 1) / max(1, total - 1) * (total - harmonic)) / total


def plane_row(work: Path, volume: Volume, told: SeriesExplanation, name: str) -> dict[str, Any]:
    """Tell which share of a map within the body lies in the organ, on the organ's slice of the highest attribution.

    Chance is the organ's share of the body there, as of a map that is even. A second row of numbers tells whether the
    first key slice shows the organ at all; chance is the share of slices that do.
    """
    mask = read_mask(work / "unseen" / "segmentations" / f"{volume.series_id}.nii", ORGANS[name])
    organ, _ = to_patient_axes(mask.inside, mask.affine_lps)
    assert organ.shape == volume.hu.shape
    target = told.targets[name]
    ranking = target.curves[told.ranked_by]
    shows = [bool(organ[place.index].any()) for place in told.slices]
    best = int(np.where(shows, ranking, -np.inf).argmax())
    index = told.slices[best].index
    seen = told.grid.plane(np.ones((1, 1), np.float32)) > 0
    body = seen & (np.asarray(volume.hu[index]) > BODY_HU)
    heat = np.where(body, told.source_heat(name, best), 0)
    total = float(heat.sum())
    return {
        "heat_in_organ": float(heat[organ[index]].sum()) / total if total > 0 else np.nan,
        "chance_heat_in_organ": float((organ[index] & body).sum() / body.sum()),
        "organ_on_slice": shows[target.key_slices[0].slice],
        "chance_organ_on_slice": float(np.mean(shows)),
    }


def write(tables: Mapping[str, pd.DataFrame]) -> None:
    """Average over patients, with 95 % bootstrap intervals by patient."""
    columns = {
        "slices": ("hit", "hit_any", "average_precision"),
        "planes": ("heat_in_organ", "organ_on_slice"),
    }
    results: dict[str, Any] = {
        "command": "benchmarks/attribution/run.sh FOLDER",
        "seeds": {"phantoms": 6, "training": 0, "bootstrap": 0},
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, no GPU, torch {torch.__version__}",
        "patients": {"trained on": 240, "explained": int(pd.concat(tables.values())["patient"].nunique())},
        "interval": f"95 %; of shares of patients exact, of others by {RESAMPLES} bootstrap resamples of patients",
    }
    for kind, table in tables.items():
        by = ["target", "method"] if kind == "slices" else ["target"]
        for chosen, rows in (("all injured", table), ("called injured", table[table["p"] > 0.5])):
            for keys, group in rows.groupby(by):
                place = results.setdefault(kind, {}).setdefault(chosen, {}).setdefault("/".join(keys), {})
                place["patients"] = len(group)
                for column in columns[kind]:
                    measured = proportion if group[column].dtype == bool else interval
                    place[column] = measured(group[column])
                    place[f"chance_{column}"] = round(float(group[f"chance_{column}"].mean()), 4)
                    place[f"{column}_above_chance"] = interval(group[column] - group[f"chance_{column}"])
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def interval(column: pd.Series) -> list[float]:
    """Return the mean and the ends of its bootstrap interval; a patient is one value, those without are left out."""
    values = column.dropna().to_numpy(float)
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    return [round(float(value), 4) for value in (values.mean(), *np.quantile(means, (0.025, 0.975)))]


def proportion(column: pd.Series) -> list[float]:
    """Return the share of patients and the ends of its exact interval (Clopper and Pearson)."""
    ends = binomtest(int(column.sum()), len(column)).proportion_ci(0.95, "exact")
    return [round(float(value), 4) for value in (column.mean(), ends.low, ends.high)]


if __name__ == "__main__":
    main()
