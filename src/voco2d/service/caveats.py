"""What must be known beside the numbers of an answer, in words that fit objects of any character set."""

from collections.abc import Sequence

from voco2d.inference.results import StudyResult


def caveats(result: StudyResult, numbers: Sequence[str] = ()) -> list[str]:
    """Tell the reason of each series, empty where it has none: remarks, gates that were overruled, why it was refused.

    Args:
        result: The answer.
        numbers: Series number of each series, empty where nobody knows it; without them series are told by their place.

    Returns:
        One text in ASCII a series, which says what series it is of where there are several.
    """
    count = len(result.series)
    told = []
    for place, entry in enumerate(result.series):
        number = numbers[place] if place < len(numbers) else ""
        which = f"series {place + 1} of {count}{f' (number {number})' if number else ''}"
        text = entry.reason if count == 1 else f"{which}, {entry.status.replace('_', ' ')}: {entry.reason}"
        told.append(text.encode("ascii", "replace").decode() if entry.reason else "")
    return told


def calibration(result: StudyResult) -> str:
    """Tell whether the probabilities are calibrated."""
    return "calibrated" if result.scalers is not None else "not calibrated"
