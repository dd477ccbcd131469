"""From an explanation to the images of a study that reports refer to."""

from voco2d.inference.explain.explain_study import ExplainedSeries
from voco2d.inference.results import StudyResult
from voco2d.service.study_files import KeySlice, StudyFiles


def foremost(result: StudyResult) -> int:
    """Return which series of a study references point into: the first that was assessed, else the first."""
    return next((place for place, entry in enumerate(result.series) if entry.is_assessed), 0)


def find_key_slices(series: ExplainedSeries, files: StudyFiles) -> list[KeySlice]:
    """Name the images of a series that speak most for each target, by rank; the first of each has its picture.

    Slices that no image of `files` stands for, as where reading filled a gap, are left out.

    Args:
        series: Explained, or not.
        files: Images of that series.
    """
    if series.explanation is None:
        return []
    found = []
    for target, told in series.explanation.targets.items():
        for key, picture in zip(told.key_slices, series.key_images[target], strict=True):
            instance = key.source.instance_uid
            if instance in files:
                frame = key.source.instance_number if files.is_multiframe(instance) else None
                found.append(KeySlice(target, instance, picture if key.rank == 1 else b"", frame))
    return found
