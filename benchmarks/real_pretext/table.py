"""Writes the scores as tables, with what each difference's interval says, in Markdown."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

READINGS = {"left_out": "Patient left out", "mixed": "Other blocks of the patient known (easier, says less)"}
METRICS = {"roc_auc": "ROC area", "average_precision": "average precision"}
STARTS = ("random", "simclr", "voco2d")


def write_table(results: dict[str, Any], out: Path) -> None:
    """Write the tables to the Markdown file `out`."""
    out.write_text("\n".join(_lines(results)) + "\n")


def _lines(results: dict[str, Any]) -> Iterator[str]:
    yield "# Results"
    yield ""
    yield "Written by `publish.py` from `predictions.csv.gz`: mean over seeds, 95 % interval, each seed."
    for reading, title in READINGS.items():
        yield from ("", f"## {title}", "", "| mean over three patients | " + " | ".join(METRICS.values()) + " |")
        yield "| --- | --- | --- |"
        scores = results["readings"][reading]
        for start in STARTS:
            yield f"| `{start}` | " + " | ".join(_told(scores[metric]["macro"][start]) for metric in METRICS) + " |"
        for name in scores["roc_auc"]["difference"]:
            told = (_told(scores[metric]["difference"][name], judged=True) for metric in METRICS)
            yield f"| `{name.replace(' - ', '` − `')}` | " + " | ".join(told) + " |"
        yield from _single(scores)


def _single(scores: dict[str, Any]) -> Iterator[str]:
    """One row a patient and organ: ROC areas, means over seeds."""
    yield from ("", "| ROC area | slices, with it | " + " | ".join(f"`{start}`" for start in STARTS) + " |")
    yield "| --- | --- | " + " | ".join("---" for _ in STARTS) + " |"
    for patient, organs in scores["roc_auc"]["single"].items():
        for organ, found in organs.items():
            means = (f"{sum(found[start]) / len(found[start]):.2f}" for start in STARTS)
            counts = f"{found['slices']}, {found['present']}"
            yield f"| `{patient}`, {organ.replace('_', ' ')} | {counts} | " + " | ".join(means) + " |"
    drawn = scores["roc_auc"]["undefined_draws"]
    yield from ("", f"Draws in which nothing could be scored: {drawn}.")


def _told(found: dict[str, Any], judged: bool = False) -> str:
    low, high = found["interval"]
    seeds = ", ".join(f"{value:.2f}" for value in found["seeds"])
    told = f"{found['value']:.2f} ({low:.2f} to {high:.2f}); {seeds}"
    if not judged:
        return told
    return told + ("; holds 0" if low <= 0 <= high else "; does not hold 0")
