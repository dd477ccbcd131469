"""Grades raw scans with a fine-tuned run; its folds are loaded once and averaged."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from voco2d.config import from_tree
from voco2d.errors import CheckpointError, ConfigError, ReadError, Voco2dError
from voco2d.evaluation.tables import ASSESSED, NOT_ASSESSED
from voco2d.io.discover import Rejection, Source, discover
from voco2d.io.readers import ReadArgs, read_source, read_volume
from voco2d.io.volume import Volume
from voco2d.logs import wordless
from voco2d.models.checkpoint import Metadata, newest_weights
from voco2d.models.classifier import Classifier, class_probabilities, load_classifier
from voco2d.models.flip_average import check_flips, flip_averaged
from voco2d.preprocessing.organ_crop import NO_ORGAN_BOX, check_organ_crop
from voco2d.preprocessing.preprocess import PreprocessArgs, prepare_volume, settings_tree
from voco2d.preprocessing.readout import ReadoutArgs, read_channels
from voco2d.progress import track
from voco2d.targets import CLASS_COLUMNS

PREDICTION_COLUMNS: tuple[str, ...] = ("patient_id", "series_id", *CLASS_COLUMNS, "status", "reason")

_DESCRIPTION = ("classifier", "preprocess", "read", "readout", "test_flips")
"""Entries of the metadata in which all folds of a run must agree."""
_log = logging.getLogger(__name__)

Args = TypeVar("Args")
Row = dict[str, str | float]


class Predictor:
    """The classifiers of a fine-tuning run with the preprocessing they were trained on.

    Args:
        run: A run folder of `voco2d finetune`, or the weights of one fold.
        device: auto (a GPU where there is one), cpu, cuda or cuda:N.
        read: How raw files are read; as the store that was trained on was read, by default.
        masks: Folder of organ masks, for a model that was trained with organ_crop=masks. A series without a mask is
            cropped to the body, as it would have been for training; `predict_many` says so in its `reason`.
        flips: Mirror images that are graded too, any of depth, height and width; as in training by default.

    Raises:
        CheckpointError: There are no weights, they are damaged, or they are not those of a classifier.
        ConfigError: The device is unknown or not there, a flip is unknown, or the model needs TotalSegmentator and
            that is missing.
        UsageError: The folder of masks does not exist, or the model was trained without masks.
    """

    def __init__(
        self,
        run: Path | str,
        device: str = "cpu",
        read: ReadArgs | None = None,
        masks: Path | None = None,
        flips: Sequence[str] | None = None,
    ) -> None:
        self._device = _choose_device(device)
        loaded = [load_classifier(path) for path in _fold_files(Path(run))]
        description = _common_description([metadata for _, metadata in loaded], run)
        self.read_args = read or _settings(ReadArgs, _read_tree(description["read"]), run)
        self.preprocess_args = _settings(PreprocessArgs, settings_tree(description["preprocess"] or {}), run)
        check_organ_crop(self.preprocess_args.organ_crop, masks)
        self._masks = masks
        self.readout_args = _settings(ReadoutArgs, description["readout"], run)
        self.test_flips = tuple(description["test_flips"] or () if flips is None else flips)
        check_flips(self.test_flips)
        self._classifiers: list[Classifier] = [classifier.to(self._device) for classifier, _ in loaded]

    def __len__(self) -> int:
        """Count the folds whose probabilities are averaged."""
        return len(self._classifiers)

    def __call__(self, path: Path | str) -> dict[str, float]:
        """Grade the one volume at `path`.

        Returns:
            The 13 class columns → probability; each target's classes sum to 1.

        Raises:
            ReadError: There is no volume, or more than one, or it can't be graded.
        """
        return self.predict_volume(read_volume(path, self.read_args))

    def predict_source(self, source: Source) -> dict[str, float]:
        """Grade one discovered series; otherwise as `__call__`."""
        volume, _ = read_source(source, self.read_args)
        return self.predict_volume(volume)

    def predict_volume(self, volume: Volume) -> dict[str, float]:
        """Grade a volume in memory; otherwise as `__call__`."""
        return self._grade(volume)[0]

    def _grade(self, volume: Volume) -> tuple[dict[str, float], str]:
        """Return the probabilities, and what to say about the crop to organs if that was asked for."""
        prepared = prepare_volume(volume, self.preprocess_args, masks=self._masks)
        slices = read_channels(prepared.hu, self.readout_args)
        probabilities = self._probabilities(slices)
        if not np.isfinite(probabilities).all():
            raise ReadError(volume.source, "the classifier's answer is not finite")
        uncropped = [note for note in prepared.notes if note.startswith(NO_ORGAN_BOX)]
        return dict(zip(CLASS_COLUMNS, probabilities.tolist(), strict=True)), "; ".join(uncropped)

    def predict_many(self, inputs: Sequence[Path]) -> tuple[pd.DataFrame, list[Rejection]]:
        """Grade every series found under `inputs`; one that can't be graded never stops the others.

        Args:
            inputs: Whatever `voco2d prepare` takes.

        Returns:
            `PREDICTION_COLUMNS`, one row a series, the classes empty and `reason` filled where it was not assessed
            (where it was, `reason` only tells of a missing organ mask); and the files that belong to no row.

        Raises:
            UsageError: An input does not exist.
        """
        sources, rejections = discover(inputs)
        rows = []
        for source in track(sources, "predicting"):
            row, rejected = self._row(source)
            rows += row
            rejections = [*rejections, *rejected]
        return pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS)), rejections

    def _row(self, source: Source) -> tuple[list[Row], list[Rejection]]:
        """Return the table row of one series, or none and a rejection where nobody knows whose it is."""
        patient_id, series_id = source.patient_id, source.series_id
        rejected: tuple[Rejection, ...] = ()
        try:
            volume, rejected = read_source(source, self.read_args)
            patient_id, series_id = volume.patient_id, volume.series_id
            graded, remark = self._grade(volume)
        except Exception as error:
            # whatever a damaged file makes a decoder raise, the other inputs must still be graded
            _log.debug("%s\n%s", source.path, wordless(error))
            reason = _reason(error)
            if not patient_id:
                return [], [*rejected, Rejection(str(source.path), reason)]
            return [_ids(patient_id, series_id) | {"status": NOT_ASSESSED, "reason": reason}], list(rejected)
        return [_ids(patient_id, series_id) | graded | {"status": ASSESSED, "reason": remark}], list(rejected)

    @torch.inference_mode()
    def _probabilities(self, slices: Float[np.ndarray, "S C H W"]) -> Float[np.ndarray, " classes"]:
        volume = torch.from_numpy(slices)[None].to(self._device)  # (1, S, C, H, W)
        graded = [flip_averaged(classifier, volume, self.test_flips) for classifier in self._classifiers]
        folds = [class_probabilities(logits)[0] for logits in graded]
        return torch.stack(folds).mean(dim=0).cpu().numpy()


def _ids(patient_id: str, series_id: str | None) -> Row:
    return {"patient_id": patient_id, "series_id": series_id or ""}


def _reason(error: Exception) -> str:
    """Say why, without a path; errors that are not ours keep their words to themselves, which may hold identifiers."""
    if isinstance(error, ReadError):
        return error.reason
    if isinstance(error, Voco2dError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "could not be graded, in a way that was not foreseen; --verbose tells where it failed"


def _fold_files(run: Path) -> list[Path]:
    if not run.is_dir():
        return [run]
    return sorted(run.glob("fold_*.safetensors")) or [newest_weights(run)]


def _common_description(folds: Sequence[Metadata], run: Path | str) -> Mapping[str, Any]:
    first = {key: folds[0].get(key) for key in _DESCRIPTION}
    if any({key: fold.get(key) for key in _DESCRIPTION} != first for fold in folds):
        raise CheckpointError(f"{run}: its folds were trained with different settings; name one fold's weights")
    return first


def _read_tree(tree: Any) -> Any:
    """Complete the reading of a run of an earlier version, which corrected no tilt."""
    return {"correct_tilt": False, **tree} if tree else tree


def _settings(cls: type[Args], tree: Any, run: Path | str) -> Args:
    try:
        return from_tree(cls, tree or {})
    except ConfigError as error:
        raise CheckpointError(
            f"{run}: its settings are not known here ({error}); use the version that wrote it"
        ) from error


def _choose_device(device: str) -> torch.device:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return torch.device("cuda" if gpus else "cpu")
    name, _, number = device.partition(":")
    if name not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ConfigError(f"device={device} is not known; choose auto, cpu, cuda or cuda:N")
    if name == "cuda" and int(number or 0) >= gpus:
        raise ConfigError(f"device={device}: torch sees {gpus} GPUs here; choose device=cpu or auto")
    return torch.device(device)
