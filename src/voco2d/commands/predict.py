"""`voco2d predict`: grade raw scans, once or as they come into a folder."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from voco2d.commands.tables import refuse_folder, refuse_unwritable, write_table, write_text
from voco2d.errors import UsageError
from voco2d.inference.predictor import STORED, Predictor
from voco2d.inference.result_files import RunTimes, hashed_id, report_text, results_text
from voco2d.inference.result_table import prediction_table
from voco2d.inference.results import NOTICE, StudyResult
from voco2d.inference.watch import Watcher, watch
from voco2d.io.discover import refuse_missing
from voco2d.io.readers import ReadArgs
from voco2d.io.source import Rejection
from voco2d.memory import freeze_loaded

if TYPE_CHECKING:
    from voco2d.inference.explain.study_pages import StudyPages


def run(options: argparse.Namespace) -> int:
    """Grade what can be read and count the rest; 1 where nothing could be graded.

    Raises:
        UsageError: Options don't go together, the output is of the wrong kind, lies in a store or can't be written, the
            inputs hold no file at all, or the folder of masks is missing or of no use to the model.
    """
    if options.watch is None:
        return _predict(options)
    if options.inputs:
        raise UsageError("--watch DIR takes no INPUT beside it; put scans into DIR")
    if options.explain is not None:
        raise UsageError("--explain goes without --watch; name the studies")
    if options.out.is_file():
        raise UsageError(f"{options.out} is a file; with --watch, --out names a folder for results")
    predictor = _load(options)
    freeze_loaded()
    with Watcher(predictor, options.watch, options.out, options.quiet_seconds, write_text) as watcher:
        print(f"watching {options.watch}; results: {options.out}. {NOTICE}", flush=True)
        watch(watcher, max(0.2, min(5.0, options.quiet_seconds / 4)), options.once)
        counts = watcher.counts()
    print(f"entries: {counts['done']} graded, {counts['failed']} failed, listed in {options.out / 'failed.csv'}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    if not options.inputs:
        raise UsageError("no INPUT was named; give scans, or --watch DIR")
    for path in options.inputs:
        refuse_missing(path)
    refuse_folder(options.out)
    results, report = _beside(options.out)
    if (options.out.parent / "store.json").is_file():
        raise UsageError(f"{options.out}: lies in a store, whose files it could replace; choose another --out")
    for folder in (options.out.parent, *([] if options.explain is None else [options.explain])):
        refuse_unwritable(folder)
    started = RunTimes.now()
    begun = time.monotonic()
    predictor = _load(options)
    pages = _pages(options.explain, predictor)
    freeze_loaded()
    loading_s = time.monotonic() - begun
    studies, rejections = predictor.predict_studies(options.inputs, None if pages is None else pages.look)
    if not studies and not rejections:
        inputs = ", ".join(str(path) for path in options.inputs)
        raise UsageError(f"no file in {inputs}; give DICOM folders, NIfTI, NRRD, MetaImage or NumPy files")
    table = prediction_table(studies, predictor.targets)
    write_table(options.out, table)
    write_text(results, results_text(studies))
    if pages is not None:
        _write_pages(options.explain, pages, studies)
    times = RunTimes(started, RunTimes.now(), loading_s)
    write_text(report, report_text(predictor, studies, rejections, times))
    quarantine = options.out.with_suffix(".quarantine.csv")
    _write_quarantine(quarantine, rejections)
    assessed = int((table["status"] == "assessed").sum())
    skipped = f", {len(rejections)} files skipped, listed in {quarantine}" if rejections else ""
    gates = "" if predictor.gates == "refuse" else f", gates={predictor.gates}"
    counts = f"{assessed} series assessed, {len(table) - assessed} not assessed{skipped}{gates}"
    print(f"{counts}; table: {options.out}. {NOTICE}")
    return 0 if assessed else 1


def _load(options: argparse.Namespace) -> Predictor:
    read = None if options.identity_axes is None else ReadArgs(identity_axes=options.identity_axes)
    given = options.calibration
    calibration = STORED if given is None else None if given == Path("none") else given
    return Predictor.load(
        options.model,
        device=options.device,
        read=read,
        masks=options.masks,
        flips=options.test_flips,
        precision=options.precision,
        gates=options.gates,
        calibration=calibration,
        runtime=options.runtime,
    )


def _pages(folder: Path | None, predictor: Predictor) -> "StudyPages | None":
    """Prepare to explain, where that is asked for.

    Raises:
        UsageError: A package that pages need is not installed.
    """
    if folder is None:
        return None
    try:
        from voco2d.inference.explain.explanation import NO_MAPS
        from voco2d.inference.explain.study_pages import StudyPages
    except ModuleNotFoundError as error:  # an ONNX package is run where voco2d's own dependencies are left out
        raise UsageError(f"--explain needs {error.name}, which is not installed; pip install {error.name}") from error
    pages = StudyPages(predictor)
    if not pages.gives_maps:
        print(f"key slices only: {NO_MAPS}")
    return pages


def _write_pages(folder: Path, pages: "StudyPages", studies: Sequence[StudyResult]) -> None:
    """Write a page and a JSON a study, and a table that says which study is in which."""
    rows = []
    for study in studies:
        name = hashed_id(f"{study.patient_id}\n{study.study_id}")
        pages.write_page(folder / f"{name}.html", study)
        write_text(folder / f"{name}.json", pages.explanation_text(study))
        rows.append((study.patient_id, study.study_id, study.status, f"{name}.html", f"{name}.json"))
    columns = ["patient_id", "study_id", "status", "page", "explanation"]
    write_table(folder / "index.csv", pd.DataFrame(rows, columns=columns))
    print(f"explanations: {folder}, listed in index.csv")


def _beside(out: Path) -> tuple[Path, Path]:
    """Name the results and the report that go with a table.

    Raises:
        UsageError: The table's name is theirs.
    """
    if out.suffix == ".json":
        raise UsageError(f"{out}: the table is a CSV, its JSON comes beside it; name for example predictions.csv")
    return out.with_suffix(".json"), out.with_suffix(".report.json")


def _write_quarantine(path: Path, rejections: Sequence[Rejection]) -> None:
    """List what was skipped; an older list is removed where nothing was."""
    if rejections:
        rows = [(rejection.path, rejection.reason) for rejection in rejections]
        write_table(path, pd.DataFrame(rows, columns=["path", "reason"]))
    else:
        path.unlink(missing_ok=True)
