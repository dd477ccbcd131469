"""From an explanation to the images of a study that reports refer to."""

from voco2d.inference.explain.explain_study import ExplainedStudy
from voco2d.inference.results import StudyResult
from voco2d.service.study_files import KeySlice, StudyFiles
from voco2d.targets import Target


def foremost(result: StudyResult, target: Target) -> int | None:
    """Return which series of a study speaks most for a target; None where no series was assessed.

    It is the one with the highest 1 − p(first class), so that references lead to what raised the study's number, which
    is the maximum over series; the first of several that are equal.
    """
    answers = [(place, result.series_answer(entry)[0]) for place, entry in enumerate(result.series)]
    firsts = {place: answer[target.columns[0]] for place, answer in answers if answer is not None}
    return min(firsts, key=lambda place: firsts[place], default=None)


def find_key_slices(explained: ExplainedStudy, files: StudyFiles) -> list[KeySlice]:
    """Name the images of the foremost series of each target that speak most for it, by rank; the first has its picture.

    Slices that no image of `files` stands for, as where reading filled a gap, are left out.

    Args:
        explained: The answer and its explanation; a target whose foremost series has none has no key slices.
        files: Images of that study.
    """
    found = []
    for target in explained.result.targets.values():
        place = foremost(explained.result, target)
        series = None if place is None else explained.series[place]
        if series is None or series.explanation is None:
            continue
        told = series.explanation.targets[target.name]
        for key, picture in zip(told.key_slices, series.key_images[target.name], strict=True):
            instance = key.source.instance_uid
            if instance in files:
                frame = key.source.instance_number if files.is_multiframe(instance) else None
                found.append(KeySlice(target.name, instance, picture if key.rank == 1 else b"", frame))
    return found
