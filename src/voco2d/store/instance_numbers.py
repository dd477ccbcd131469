"""The DICOM instance numbers of a volume's slices as a short text, for the index."""

from collections.abc import Sequence


def encode_numbers(numbers: Sequence[int]) -> str:
    """Write numbers as runs, `first:last` where they rise or fall by one: 3, 2, 1, 9 becomes "3:1,9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and _continues(runs[-1], number):
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}:{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def decode_numbers(text: str) -> tuple[int, ...]:
    """Read what `encode_numbers` wrote.

    Raises:
        ValueError: It is something else.
    """
    numbers: list[int] = []
    for run in text.split(",") if text else ():
        first, _, last = run.partition(":")
        start, stop = int(first), int(last or first)
        step = 1 if stop >= start else -1
        numbers += range(start, stop + step, step)
    return tuple(numbers)


def _continues(run: Sequence[int], number: int) -> bool:
    step = number - run[-1]
    return abs(step) == 1 and (len(run) == 1 or run[1] - run[0] == step)
