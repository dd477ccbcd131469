"""The tables and the page of a study, from its predictions, labels and account of itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from voco2d.config import from_tree, override
from voco2d.evaluation.study_analysis import (
    KEYS,
    MEAN,
    score_table,
    significance_table,
)
from voco2d.evaluation.study_contests import AnalysisArgs, check_claims
from voco2d.evaluation.tables import read_label_table
from voco2d.inference.report_page import (
    Block,
    Bullets,
    Cell,
    Gallery,
    Paragraph,
    Row,
    Section,
    Table,
    scored,
    write_report,
)
from voco2d.inference.report_study_figures import (
    contest_name,
    difference_forest,
    label_efficiency,
    save_figures,
    seeds_interval,
    title_of,
)
from voco2d.inference.report_study_files import read_account, read_study_predictions
from voco2d.target_block import parse_targets
from voco2d.targets import TargetSet

PAGE: Final = "report.html"
"""What the page needs of `study.json`."""
_CAVEATS: Final = (
    "An interval in small print is over patients, for just these trained models: another draw of test patients. How "
    "much another seed changes is what the seeds show; with few of them that is a hint, no measurement.",
    "A p-value asks whether these models differ on such patients (paired permutation test by patient, mean over "
    "seeds), not whether other seeds would; hence the count of seeds in which an arm is better stands beside it. "
    "Holm's correction covers all rows of the table of differences, those of all scores.",
    "Pretraining sees no patient who is validated on or tested: asserted from the digests in each checkpoint that has "
    "any; arms whose checkpoint has none are named above.",
)
_PHANTOMS: Final = (
    "The patients are phantoms: a result on them says that a method can work, not that it does on patients."
)


def write_study_report(out: Path, overrides: Sequence[str] = (), workers: int = 1) -> Path:
    """Compute `results*.csv`, `significance.csv`, `figures/` and the page from the predictions of a study.

    Args:
        out: Its folder: `predictions*.csv.gz`, `labels.csv` and `study.json`.
        overrides: `key=value` words that change `AnalysisArgs`.
        workers: Processes that compare arms.

    Returns:
        The page.

    Raises:
        UsageError: A file is missing.
        LabelError: A table can't be used.
        ConfigError: A word can't be used, or names an arm or fraction that isn't there.
    """
    about = read_account(out)
    tree = dict(about["configuration"]["analysis"])
    override(tree, overrides)
    args = from_tree(AnalysisArgs, tree)
    targets = parse_targets(about["configuration"].get("finetune", {}).get("targets"))
    args = args.for_targets(targets)
    predictions, labels = read_study_predictions(out, targets), read_label_table(out / "labels.csv", targets)
    check_claims(args, list(predictions["arm"].unique()), list(predictions["fraction"].unique()))
    scores = score_table(predictions, labels, args, targets)
    significance = significance_table(predictions, labels, args, workers, targets)
    scores.to_csv(out / "results.csv", index=False, float_format="%.6g")
    significance.to_csv(out / "significance.csv", index=False, float_format="%.6g")
    curves = [
        (f"labels_{metric}", label_efficiency(scores, metric, targets)) for metric in (*args.metrics, *args.further)
    ]
    compared = [] if significance.empty else args.metrics
    forests = [
        (f"differences_{metric}", difference_forest(significance, metric, args.alpha, targets)) for metric in compared
    ]
    save_figures([*curves, *forests], out / "figures")
    sections = [
        Section("What was done", tuple(_told(about, predictions))),
        Section("Scores over the share of labels", (Gallery(tuple(figure for _, figure in curves)),)),
        Section("Scores", (_score_table(scores, args, targets),)),
    ]
    if forests:
        blocks = (Gallery(tuple(figure for _, figure in forests)), _difference_table(significance, args, targets))
        sections.append(Section(f"Differences to {args.primary}", blocks))
    sections += _group_sections(out, predictions, labels, args, targets)
    sections.append(Section("What pretraining cost", (_compute_table(about),)))
    write_report(out / PAGE, "A study of starts", sections)
    return out / PAGE


def _group_sections(
    out: Path, predictions: pd.DataFrame, labels: pd.DataFrame, args: AnalysisArgs, targets: TargetSet
) -> list[Section]:
    """Score each group of patients by itself where labels name several, and write `results_<group>.csv`."""
    groups = sorted(set(labels["group"])) if "group" in labels else []
    sections = []
    for group in groups if len(groups) > 1 else []:
        part = labels[labels["group"] == group]
        scores = score_table(predictions[predictions["patient_id"].isin(part["patient_id"])], part, args, targets)
        scores.to_csv(out / f"results_{group}.csv", index=False, float_format="%.6g")
        sections.append(
            Section(f"Scores of the {len(part)} {group} patients alone", (_score_table(scores, args, targets),))
        )
    return sections


def _told(about: Mapping[str, Any], predictions: pd.DataFrame) -> list[Block]:
    patients = ", ".join(f"{count} {role}" for role, count in about["patients"].items())
    parts = [f"{predictions[key].nunique()} {key}s" for key in KEYS]
    configuration = about["configuration"]
    folds = int(configuration["split"]["folds"])
    lines = [
        f"{', '.join(parts)}: {predictions.groupby(list(KEYS)).ngroups * folds} classifiers. Patients: {patients}"
        f"{f' (the first of {folds} folds)' if folds > 1 else ''}; {predictions['patient_id'].nunique()} were tested.",
        f"Pretraining saw the patients of {configuration['split']['pretrain_on']}"
        f"{' and the unlabeled' if configuration['split']['pretrain_on'] == 'train' else ''}, never their labels.",
        f"Command: {about['command']}",
    ]
    caveats = [_PHANTOMS] if configuration["cohort"]["store"] is None else []
    unknown = [entry["arm"] for entry in about["compute"] if not entry["tells_patients"]]
    if unknown:
        caveats.append(f"{', '.join(unknown)}: the checkpoint doesn't say which patients it has seen.")
    return [*(Paragraph(line) for line in lines), Bullets((*caveats, *_CAVEATS)), _share_table(about)]


def _share_table(about: Mapping[str, Any]) -> Table:
    shares = about["class_shares"]
    columns = list(next(iter(shares.values())))
    rows = tuple((column, *(f"{share[column]:.1%}" for share in shares.values())) for column in columns)
    return Table(("class", *shares), rows, "Share of the labelled patients with each class, of the first fold.")


def _score_table(scores: pd.DataFrame, args: AnalysisArgs, targets: TargetSet) -> Table:
    metrics = (*args.metrics, *args.further)
    rows: list[Row] = []
    for (arm, fraction), found in scores.groupby(["arm", "fraction"], sort=False):
        cells = []
        for metric in metrics:
            chosen = found[found["metric"] == metric]
            mean = chosen[chosen["seed"] == MEAN].iloc[0]
            seeds = " ".join(f"{value:.3f}" for value in chosen[chosen["seed"] != MEAN]["value"])
            cell = scored(*_nullable(mean))
            cells.append(Cell(cell.text, f"{cell.note}; seeds {seeds}"))
        rows.append((f"{arm}, {fraction:.0%}", *cells))
    caption = "Mean over seeds, its 95 % interval over patients, and the score of each seed. ↓: lower is better."
    return Table(("arm, labels", *(title_of(metric, targets) for metric in metrics)), tuple(rows), caption)


def _difference_table(significance: pd.DataFrame, args: AnalysisArgs, targets: TargetSet) -> Table:
    rows: list[Row] = []
    for _, row in significance.iterrows():
        value, bounds = _nullable(row, "difference")
        sure = bool(row["p_holm"] < args.alpha)
        rows.append(
            (
                contest_name(row),
                title_of(str(row["metric"]), targets),
                scored(value, bounds, sign=True),
                _p(row["p"]),
                Cell(_p(row["p_holm"]), strong=sure),
                f"{row['seeds_better']} of {row['seeds']}",
                seeds_interval(row),
            )
        )
    header = ("comparison", "score", "difference", "p", "p, Holm", "seeds better", "95 %, seeds drawn too")
    caption = (
        f"First minus second, mean over seeds, with its 95 % interval of the paired bootstrap by patient "
        f"({args.resamples} draws); p of {args.permutations} exchanges; bold: below {args.alpha:g} once corrected. "
        "Last: seeds drawn with replacement besides, which with few seeds still comes out too narrow."
    )
    return Table(header, tuple(rows), caption)


def _compute_table(about: Mapping[str, Any]) -> Table:
    rows: list[Row] = []
    for entry in about["compute"]:
        first = tuple(_plain(entry[key]) for key in ("steps", "images", "pixels", "patients_seen"))
        step = "" if entry["seconds_a_step"] is None else f"{entry['seconds_a_step']:.2f}"
        spent = (f"{entry['pretrain_seconds']:,.0f}", f"{entry['finetune_seconds']:,.0f}")
        rows.append((entry["arm"], entry["start"], *first, step, *spent))
    header = ("arm", "start", "steps", "images", "pixels", "patients", "s a step", "pretraining, s", "fine-tuning, s")
    caption = (
        "Of one pretraining: steps, images its student encoded, their pixels, patients. Seconds are summed over all "
        "runs of an arm, on machines that may have done other work beside."
    )
    return Table(header, tuple(rows), caption)


def _nullable(row: "pd.Series[Any]", key: str = "value") -> tuple[float | None, tuple[float, float] | None]:
    """Return a score and its interval, None where it is undefined."""
    if pd.isna(row[key]):
        return None, None
    return float(row[key]), (float(row["low"]), float(row["high"]))


def _p(value: Any) -> str:
    return "undefined" if pd.isna(value) else f"{float(value):.2g}"


def _plain(value: Any) -> str:
    return "" if value is None else f"{value:,}"
