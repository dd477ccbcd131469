import json
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What came of each case in the first of two processes, and in the second."""
    folder = tmp_path_factory.mktemp("meeting")
    one = Path(__file__).with_name("one_of_two.py")
    processes = [subprocess.Popen([sys.executable, str(one), str(rank), str(folder)]) for rank in range(2)]
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    ("case", "first", "second"),
    [
        ("none", "(0, 7)", "(1, 7)"),
        (
            "everywhere",
            "UsageError 2 False batch_size=3 is odd",
            "OtherProcessError 2 True process 0: batch_size=3 is odd",
        ),
        ("first", "ReadError 1 False scan.nii: cut off", "OtherProcessError 1 True process 0: scan.nii: cut off"),
        (
            "second",
            "OtherProcessError 1 False process 1: scan.nii: cut off",
            "OtherProcessError 1 True process 1: scan.nii: cut off",
        ),
        ("fault", "IndexError", "OtherProcessError 1 True process 0: unexpected IndexError"),
        (
            "differ",
            "Voco2dError 1 False the processes differ in the step: 7, 8; start them again",
            "OtherProcessError 1 True process 0: the processes differ in the step: 7, 8; start them again",
        ),
        ("gone", "OtherProcessError 1 False another process stopped; its error, or the system's log, says why", "gone"),
    ],
)
def test_what_goes_wrong_in_one_process_stops_both_and_is_told_once(
    outcomes: list[dict[str, str]], case: str, first: str, second: str
) -> None:
    """Took a bug: a volume that only one process couldn't read left the others waiting for half an hour."""
    assert [told[case] for told in outcomes] == [first, second]


@pytest.mark.slow
def test_what_the_second_process_cannot_read_ends_both_in_one_sentence(store: Path, tmp_path: Path) -> None:
    """A volume that only the second can't read, at the second step."""
    script = Path(__file__).with_name("pretrain_with_an_unreadable_volume.py")
    words = ["backbone=test_vit", "device=cpu", "devices=2", "steps=3", "batch_size=2"]
    words += ["method.crop=32", "method.slices=2", "method.hidden=16"]
    command = [sys.executable, str(script), "pretrain", str(store), "--out", str(tmp_path / "run"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(errors) == 1, done.stderr
    assert re.search(r"voco2d pretrain: error: process 1: \S+\.npy: damaged", errors[0])
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
