"""Grades raw scans with fine-tuned networks that are loaded once; says what must not be graded, and why."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

import pandas as pd

from voco2d.errors import ConfigError, ReadError
from voco2d.evaluation.scaler_file import read_scalers
from voco2d.inference.outcome import ReadOut, failed, first_study, series_of
from voco2d.inference.result_table import prediction_table
from voco2d.inference.results import GateMode, SeriesResult, StudyResult, group_studies
from voco2d.inference.runtime import Models, load_models
from voco2d.inference.series_grader import Look, SeriesGrader
from voco2d.io.discover import Rejection, Source, discover
from voco2d.io.readers import ReadArgs, read_source, read_volume
from voco2d.io.volume import Volume
from voco2d.models.flips import check_flips
from voco2d.preprocessing.organ_crop import check_organ_crop
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.progress import track
from voco2d.targets import TargetSet

# long: one class with everything a program asks of a model, most of it documentation

STORED: Final = "stored"
"""Calibrate by the file stored with the run, if there is one."""


class Predictor:
    """The networks of one or several fine-tuning runs with the preprocessing they were trained on.

    A web server or a DICOM node loads one and calls `predict` for each study. It holds no state between calls.

    Args:
        run: A run folder of `voco2d finetune`, the weights of one fold, a package of `voco2d export`, several of
            these, or loaded `Models`.
        device: auto (a GPU where there is one), cpu, cuda or cuda:N.
        read: How raw files are read; as the store that was trained on was read, by default.
        masks: Folder of organ masks, for a model that was trained with organ_crop=masks. A series without a mask is
            cropped to the body, as it would have been for training; its result says so.
        flips: Mirror images that are graded too, any of depth, height and width; as in training by default.
        precision: fp32 or bf16.
        gates: `refuse` gives no number where a gate finds something; `flag` gives it with what was found; `off` looks
            at nothing. Whatever is not `refuse` is told in every result.
        calibration: File of fitted scalers; `STORED` takes the run's own, None none.
        runtime: Engine, a name of `voco2d.inference.runtime.RUNTIMES`; by default what the model was made for.

    Raises:
        CheckpointError: There are no weights, they are damaged, not those of a classifier, or of different settings.
        ConfigError: The device, a flip, the precision, the engine or `gates` is unknown or not there, or the model
            needs TotalSegmentator and that is missing.
        UsageError: The folder of masks or the calibration does not exist, or the model was trained without masks.
        LabelError: The calibration holds no scalers.
    """

    def __init__(
        self,
        run: Path | str | Sequence[Path | str] | Models,
        device: str = "cpu",
        read: ReadArgs | None = None,
        masks: Path | None = None,
        flips: Sequence[str] | None = None,
        precision: str = "fp32",
        gates: GateMode = "refuse",
        calibration: Path | str | None = STORED,
        runtime: str | None = None,
    ) -> None:
        if gates not in get_args(GateMode):
            raise ConfigError(f"gates={gates} is not known; choose {', '.join(get_args(GateMode))}")
        models = run if isinstance(run, Models) else load_models(_paths(run), device, precision, runtime)
        self.models = models
        self.settings = replace(models.settings, read=read or models.settings.read)
        check_organ_crop(self.settings.preprocess.organ_crop, masks)
        self.test_flips = tuple(models.settings.test_flips if flips is None else flips)
        check_flips(self.test_flips)
        self.gates: GateMode = gates
        self._grader = SeriesGrader(models, self.settings, masks, self.test_flips, gates)
        self.precision = precision
        self.calibration = models.calibration if calibration == STORED else _optional_path(calibration)
        self.scalers = None if self.calibration is None else read_scalers(self.calibration, self.targets)

    @classmethod
    def load(cls, paths: Sequence[Path | str], **options: Any) -> "Predictor":
        """Load the networks of several runs; `options` are the keywords of the class.

        Args:
            paths: Run folders, weights of folds or packages, as `run` of the class.
            **options: The other keywords of the class.
        """
        return cls(paths, **options)

    @property
    def read_args(self) -> ReadArgs:
        """How raw files are read."""
        return self.settings.read

    @property
    def preprocess_args(self) -> PreprocessArgs:
        """How volumes are prepared."""
        return self.settings.preprocess

    @property
    def readout_args(self) -> ReadoutArgs:
        """What the networks see of a prepared volume."""
        return self.settings.readout

    @property
    def targets(self) -> TargetSet:
        """What the networks grade."""
        return self.settings.targets

    def __len__(self) -> int:
        """Count the networks whose probabilities are averaged."""
        return len(self.models.runtimes)

    def __call__(self, scan: Volume | Path | str) -> dict[str, float]:
        """Grade one volume, in memory or the one at a path.

        Returns:
            The class columns → probability; each target's classes sum to 1.

        Raises:
            ReadError: There is no volume, or more than one, or it can't be graded, or a gate refuses it.
        """
        volume = scan if isinstance(scan, Volume) else read_volume(scan, self.settings.read)
        study = self._study([self._grader.grade(volume)])
        if study.probabilities is None:
            raise ReadError(volume.source, f"not assessed: {study.reason}")
        return study.probabilities

    def predict(self, scan: Volume | Path | str, look: Look | None = None) -> StudyResult:
        """Grade one study: a volume in memory, or all series of one study at a path.

        A series that can't be read or graded is part of the answer, with its reason.

        Args:
            scan: The study.
            look: Is called with every series that could be prepared, whether it was assessed or not, and its result
                without times. What it raises makes the series one that could not be graded.

        Raises:
            ReadError: There is no series at the path, or series of several studies.
            UsageError: The path does not exist.
        """
        if isinstance(scan, Volume):
            return self._study([self._safely(lambda: self._grader.grade(scan, look=look), series_of(scan, self.gates))])
        studies, rejections = self.predict_studies([Path(scan)], look)
        if len(studies) > 1:
            raise ReadError(scan, f"holds {len(studies)} studies; give one of them, or use predict_studies")
        return first_study(studies, rejections, scan)

    def predict_studies(
        self, inputs: Sequence[Path], look: Look | None = None
    ) -> tuple[list[StudyResult], list[Rejection]]:
        """Grade every study found under `inputs`; one that can't be graded never stops the others.

        Args:
            inputs: Whatever `voco2d prepare` takes.
            look: As in `predict`.

        Returns:
            The studies in the order they were found in, and the files that belong to none.

        Raises:
            UsageError: An input does not exist.
        """
        sources, rejections = discover(inputs)
        series: list[SeriesResult] = []
        for source in track(sources, "predicting"):
            results, rejected = self.predict_source(source, look)
            series += results
            rejections = [*rejections, *rejected]
        return group_studies(series, self.scalers, self.targets), rejections

    def predict_many(self, inputs: Sequence[Path]) -> tuple[pd.DataFrame, list[Rejection]]:
        """Return `prediction_table` of what `predict_studies` finds, and the files that belong to none."""
        studies, rejections = self.predict_studies(inputs)
        return prediction_table(studies, self.targets), rejections

    def predict_source(self, source: Source, look: Look | None = None) -> tuple[list[SeriesResult], list[Rejection]]:
        """Grade one discovered series.

        Args:
            source: As `discover` finds it.
            look: As in `predict`.

        Returns:
            Its result, or none where nobody knows whose it is; and what of its files could not be read.
        """
        begun = time.perf_counter()
        rejected: tuple[Rejection, ...] = ()
        known = SeriesResult(
            source.patient_id or "", source.study_id or "", source.series_id or "", self.gates, source=str(source.path)
        )
        try:
            volume, rejected = read_source(source, self.settings.read)
            read_seconds = time.perf_counter() - begun
            known = series_of(volume, self.gates)
        except Exception as error:
            result = failed(error, known)
        else:
            result = self._safely(lambda: self._grader.grade(volume, look), known)
            result = replace(result, seconds={"read": read_seconds, **result.seconds})
        if not result.patient_id:
            return [], [*rejected, Rejection(str(source.path), result.error)]
        return [result], list(rejected)

    def read_out(self, volume: Volume) -> ReadOut:
        """Prepare a volume and take from it what the networks see.

        Raises:
            ReadError: There is no body in it.
        """
        return self._grader.read_out(volume)

    def _study(self, series: Sequence[SeriesResult]) -> StudyResult:
        return group_studies(series, self.scalers, self.targets)[0]

    def _safely(self, grade_it: Callable[[], SeriesResult], known: SeriesResult) -> SeriesResult:
        try:
            return grade_it()
        except Exception as error:
            return failed(error, known)


def _paths(run: Path | str | Sequence[Path | str]) -> list[Path]:
    given = [run] if isinstance(run, str | Path) else list(run)
    if not given:
        raise ConfigError("no model was named; give at least one run folder or weights file")
    return [Path(path) for path in given]


def _optional_path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)
