"""Grades one volume: it is prepared, looked at by the gates, and shown to the networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from voco2d.errors import ReadError
from voco2d.inference.gates import find_far, find_in_body, find_in_header, find_unreadable, ordered
from voco2d.inference.outcome import Clock, ReadOut, geometry_of, series_of
from voco2d.inference.probabilities import grade
from voco2d.inference.results import Finding, GateMode, SeriesResult
from voco2d.inference.runtime import Models, Slices
from voco2d.inference.settings import ModelSettings
from voco2d.io.volume import Volume
from voco2d.preprocessing.organ_crop import NO_ORGAN_BOX
from voco2d.preprocessing.preprocess import PreprocessArgs, prepare_volume
from voco2d.preprocessing.readout import read_channels

Look: TypeAlias = Callable[[Volume, ReadOut, SeriesResult], None]
"""What looks at a series while its volume is in memory; see `voco2d.inference.predictor.Predictor.predict`."""


@dataclass(frozen=True)
class SeriesGrader:
    """What is done with every volume alike; `Predictor` says what each of these is.

    Args:
        models: The networks.
        settings: How a volume becomes what they see.
        masks: Folder of organ masks.
        flips: Mirror images that are graded too.
        gates: What becomes of a volume in which a gate finds something.
    """

    models: Models
    settings: ModelSettings
    masks: Path | None
    flips: tuple[str, ...]
    gates: GateMode

    def read_out(self, volume: Volume) -> ReadOut:
        """Prepare a volume and take from it what the networks see.

        Raises:
            ReadError: There is no body in it.
        """
        return self._read_out(volume, self.settings.preprocess)

    def grade(self, volume: Volume, look: Look | None = None) -> SeriesResult:
        """Prepare, look, grade; all gates that look at pixels come before the networks, which cost most.

        A volume whose geometry is refused is prepared too, if it can be: that it shows a head says more than that it
        has few slices.

        Args:
            volume: The series.
            look: Is shown what was seen of it, and the result without its times.

        Raises:
            ReadError: There is no body in it, or the networks' answer is not finite.
        """
        clock = Clock()
        checks = self.gates != "off"
        findings = find_unreadable(volume) if checks else []
        result = replace(series_of(volume, self.gates), geometry=geometry_of(volume, None))
        args = self.settings.preprocess
        if refused := self._stops(findings):
            args = replace(args, organ_crop="none")  # organs may take minutes to find
        try:
            seen = self._read_out(volume, args)
        except ReadError:
            if not refused:
                raise
            findings += find_in_header(volume.body_part, findings)
            return replace(result, findings=ordered(findings), seconds=clock.seconds)
        clock.stop("prepare")
        if checks:
            is_axial = not any(finding.gate == "not_axial" for finding in findings)
            findings += find_in_body(volume, seen.prepared, args, is_axial=is_axial)
            findings += find_in_header(volume.body_part, findings)
        clock.stop("gates")
        result = replace(
            result,
            geometry=geometry_of(volume, seen.prepared),
            remarks=tuple(note for note in seen.prepared.notes if note.startswith(NO_ORGAN_BOX)),
        )
        if self._stops(findings):
            return _shown(look, volume, seen, replace(result, findings=ordered(findings)), clock)
        folds, distances = self._ask(seen.slices)
        clock.stop("model")
        if not np.isfinite(folds).all():
            raise ReadError(volume.source, "the classifier's answer is not finite")
        if checks:
            findings += find_far(distances)
        answered = None if self._stops(findings) else folds
        result = replace(result, folds=answered, findings=ordered(findings), distances=tuple(distances))
        return _shown(look, volume, seen, result, clock)

    def _read_out(self, volume: Volume, args: PreprocessArgs) -> ReadOut:
        prepared = prepare_volume(volume, args, masks=self.masks)
        return ReadOut(prepared, read_channels(prepared.hu, self.settings.readout))

    def _ask(self, slices: Slices) -> tuple[Float[np.ndarray, "K classes"], list[float]]:
        """Return each network's probabilities, and its feature distance as a share of the threshold."""
        rows, ratios = [], []
        for runtime in self.models.runtimes:
            probabilities, features = grade(runtime, slices, self.flips, self.settings.targets)
            rows.append(probabilities)
            if runtime.feature_distance is not None and features is not None:
                ratios.append(runtime.feature_distance.ratio(features))
        return np.stack(rows), ratios

    def _stops(self, findings: Sequence[Finding]) -> bool:
        return self.gates == "refuse" and any(finding.refuses for finding in findings)


def _shown(look: Look | None, volume: Volume, seen: ReadOut, result: SeriesResult, clock: Clock) -> SeriesResult:
    """Show a result to `look`, and add the times to it."""
    if look is not None:
        look(volume, seen, result)
        clock.stop("look")
    return replace(result, seconds=clock.seconds)
