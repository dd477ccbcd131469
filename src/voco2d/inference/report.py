"""Reports: one self-contained HTML page for a run, and the sections that other pages are put together from."""

import json
from pathlib import Path

from voco2d.errors import UsageError
from voco2d.evaluation.origin import ORIGINS, TRANSDUCTIVE, origin_path, read_origin
from voco2d.evaluation.tables import read_label_table, read_predictions
from voco2d.inference.report_comparison import comparison_section
from voco2d.inference.report_montage import montage_section
from voco2d.inference.report_page import Paragraph, Section, text_section, write_report
from voco2d.inference.report_pretrain import pretrain_curves_section
from voco2d.inference.report_runs import finetune_curves_section, read_environment, settings_section
from voco2d.inference.report_scores import prediction_section, scores_section
from voco2d.target_block import RUN_CONFIG, read_targets
from voco2d.targets import RSNA_2023

__all__ = [
    "Section",
    "comparison_section",
    "finetune_curves_section",
    "montage_section",
    "prediction_section",
    "pretrain_curves_section",
    "report_run",
    "scores_section",
    "settings_section",
    "text_section",
    "write_report",
]


def report_run(run: Path, out: Path | None = None) -> Path:
    """Write the page of a pretraining or fine-tuning run; what the run lacks is said in words.

    Args:
        run: Its folder.
        out: The HTML file; `report.html` in the run folder if not given.

    Returns:
        Where the page is.

    Raises:
        UsageError: The folder holds no run of a known kind, or `out` is a folder.
        LabelError: The run's tables are damaged.
    """
    environment = read_environment(run)
    if environment is None:
        raise UsageError(f"{run}: no run there (environment.json is missing or damaged); name a run folder")
    kind = environment.get("kind")
    if kind == "pretrain":
        sections = [pretrain_curves_section(run)]
    elif kind == "finetune":
        sections = [finetune_curves_section(run), _out_of_fold_section(run)]
    else:
        raise UsageError(f"{run}: a run of kind {kind!r}; reports are made of pretrain and finetune runs")
    page = out if out is not None else run / "report.html"
    write_report(page, f"{kind}: {run.resolve().name}", [*sections, settings_section(run)])
    return page


def _out_of_fold_section(run: Path) -> Section:
    title, predictions, labels = "Out-of-fold scores", run / "oof_predictions.csv", run / "labels.csv"
    if not (predictions.is_file() and labels.is_file()):
        return text_section(title, ["No fold has been finished yet, so there is nothing to score."])
    if len(predictions.read_text(encoding="utf-8").splitlines()) <= 1:  # the header alone, which no table may be
        return text_section(title, ["The split names nobody to validate on, so there is nothing to score."])
    targets = read_targets(run) if (run / RUN_CONFIG).is_file() else RSNA_2023
    graded, truth = read_predictions(predictions, targets), read_label_table(labels, targets)
    section = scores_section(graded, truth, title=title, targets=targets)
    return Section(section.title, (Paragraph(_origin(predictions)), *section.blocks))


def _origin(table: Path) -> str:
    """Say in words what the scores below may be compared with."""
    origin = read_origin(table)
    if not origin:
        return "Whether pretraining saw the patients graded here has not been recorded."
    about = json.loads(origin_path(table).read_text(encoding="utf-8"))
    kept = {"last": "The last epoch is kept.", "loss": "The epoch of the lowest validation loss is kept."}
    best = "The epoch is chosen on the patients it is graded on, which makes the scores slightly too good."
    return f"{ORIGINS[origin[TRANSDUCTIVE]]} {kept.get(str(about.get('select')), best)}"
