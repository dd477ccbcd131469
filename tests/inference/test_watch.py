import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.commands.tables import write_text
from voco2d.errors import StoreError, UsageError
from voco2d.inference.predictor import Predictor
from voco2d.inference.results import StudyResult
from voco2d.inference.watch import LEDGER_NAME, Watcher, watch
from voco2d.io.source import Rejection


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def write_scan(path: Path, patient: str, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:40, :40]
    body = (rows - 20) ** 2 + (columns - 20) ** 2 < 18**2
    hu = np.where(body, 40, -1000) + np.random.default_rng(seed).integers(-80, 80, (8, 40, 40))
    np.save(path, hu.astype(np.int16))
    sidecar = {"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": patient}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


@pytest.fixture
def predictor(mean_predictor: Callable[..., Predictor]) -> Predictor:
    return mean_predictor(0.5, 2.0, size=(8, 32, 32), gates="off")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def start(predictor: Predictor, inbox: Path, tmp_path: Path) -> Iterator[Callable[[Clock], Watcher]]:
    """Open a watcher; the one before it has ended."""
    opened: list[Watcher] = []

    def make(clock: Clock) -> Watcher:
        for earlier in opened:
            earlier.__exit__()
        opened.append(Watcher(predictor, inbox, tmp_path / "out", 10, write_text, clock))
        return opened[-1]

    yield make
    for watcher in opened:
        watcher.__exit__()


def patients(tmp_path: Path) -> list[str]:
    return pd.read_csv(tmp_path / "out" / "predictions.csv", dtype={"patient_id": str})["patient_id"].tolist()


def test_an_entry_is_graded_once_it_has_been_quiet(
    start: Callable[[Clock], Watcher], inbox: Path, tmp_path: Path
) -> None:
    clock = Clock()
    watcher = start(clock)
    write_scan(inbox / "one" / "a.npy", "p1")
    assert watcher.step() == 1
    clock.now = 9
    write_scan(inbox / "one" / "b.npy", "p1", seed=1)  # still coming in
    assert watcher.step() == 1
    clock.now = 18
    assert watcher.step() == 1
    assert patients(tmp_path) == []
    clock.now = 19
    assert watcher.step() == 0
    assert patients(tmp_path) == ["p1", "p1"]
    (result,) = (tmp_path / "out" / "studies").glob("*[0-9a-f].json")
    assert "one" not in result.name
    (study,) = json.loads(result.read_text())["studies"]
    assert len(study["series"]) == 2
    assert study["intervals"]["liver_high"][0] < study["intervals"]["liver_high"][1]


def count_calls(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    graded: list[str] = []
    plain = predictor.predict_studies

    def counted(inputs: Sequence[Path]) -> tuple[list[StudyResult], list[Rejection]]:
        graded.extend(path.name for path in inputs)
        return plain(inputs)

    monkeypatch.setattr(predictor, "predict_studies", counted)
    return graded


def test_a_restart_repeats_nothing_and_loses_nothing(
    start: Callable[[Clock], Watcher],
    predictor: Predictor,
    inbox: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a", "b", "c"):
        write_scan(inbox / f"{name}" / "scan.npy", name)
    graded = count_calls(predictor, monkeypatch)
    clock = Clock()
    watcher = start(clock)
    watcher.step()
    clock.now = 10
    written: list[str] = []

    def cut_off(path: Path, text: str) -> None:
        if path.name.endswith(".report.json"):
            written.append(path.name)
            if len(written) == 2:
                raise SystemExit("killed")
        write_text(path, text)

    monkeypatch.setattr(watcher, "_write", cut_off)
    with pytest.raises(SystemExit):
        watcher.step()
    assert graded == ["a", "b"]
    again = start(clock)
    again.step()
    clock.now = 20
    assert again.step() == 0
    assert graded == ["a", "b", "b", "c"]
    assert patients(tmp_path) == ["a", "b", "c"]
    write_scan(inbox / "b" / "scan.npy", "b", seed=5)  # changed, so graded anew
    again.step()
    clock.now = 30
    again.step()
    assert graded == ["a", "b", "b", "c", "b"]
    assert patients(tmp_path) == ["a", "b", "c"]


def test_what_can_not_be_graded_is_listed_with_its_reason(
    start: Callable[[Clock], Watcher], inbox: Path, tmp_path: Path
) -> None:
    (inbox / "letter.txt").write_text("no scan")
    (inbox / "empty").mkdir()
    (inbox / ".hidden").write_text("not looked at")
    write_scan(inbox / "good.npy", "p1")
    clock = Clock()
    watcher = start(clock)
    watcher.step()
    clock.now = 10
    watcher.step()
    failed = pd.read_csv(tmp_path / "out" / "failed.csv").set_index("path")["reason"].to_dict()
    assert failed.keys() == {"letter.txt", "empty", "good.json"}
    assert failed["letter.txt"] == "not a CT format: .txt"
    assert failed["empty"] == "no CT series in it"
    assert watcher.counts() == {"done": 1, "failed": 3}
    clock.now = 100
    assert watcher.step() == 0


def test_an_entry_that_ends_the_program_is_given_up(
    start: Callable[[Clock], Watcher],
    predictor: Predictor,
    inbox: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_scan(inbox / "a" / "scan.npy", "a")

    def die(_: Sequence[Path]) -> None:
        raise SystemExit(137)

    monkeypatch.setattr(predictor, "predict_studies", die)
    clock = Clock()
    for _ in range(3):
        watcher = start(clock)
        watcher.step()
        clock.now += 10
        with pytest.raises(SystemExit):
            watcher.step()
    watcher = start(clock)
    watcher.step()
    clock.now += 10
    assert watcher.step() == 0
    assert "ended the program 3 times" in (tmp_path / "out" / "failed.csv").read_text()


def test_one_process_watches_for_one_output(
    start: Callable[[Clock], Watcher], predictor: Predictor, inbox: Path, tmp_path: Path
) -> None:
    start(Clock())
    with pytest.raises(UsageError, match="another process"):
        Watcher(predictor, inbox, tmp_path / "out", 10, write_text)
    with pytest.raises(UsageError, match="lies in the watched folder"):
        Watcher(predictor, inbox, inbox / "out", 10, write_text)
    with pytest.raises(UsageError, match="no such folder"):
        Watcher(predictor, tmp_path / "nowhere", tmp_path / "other", 10, write_text)


def test_results_of_two_models_are_not_mixed(
    start: Callable[[Clock], Watcher], mean_predictor: Callable[..., Predictor], inbox: Path, tmp_path: Path
) -> None:
    start(Clock()).__exit__()
    start(Clock()).__exit__()  # the same model goes on
    other = mean_predictor(0.5, size=(8, 32, 32), gates="off")
    with pytest.raises(UsageError, match="holds results of another model; choose another --out"):
        Watcher(other, inbox, tmp_path / "out", 10, write_text, Clock())


def test_a_damaged_state_is_told(predictor: Predictor, inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LEDGER_NAME).write_bytes(b"no database" * 200)
    with pytest.raises(StoreError, match="damaged"):
        Watcher(predictor, inbox, tmp_path / "out", 10, write_text)


def test_once_ends_when_nothing_waits(start: Callable[[Clock], Watcher], inbox: Path, tmp_path: Path) -> None:
    write_scan(inbox / "a" / "scan.npy", "a")
    clock = Clock()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    watch(start(clock), 4, once=True, sleep=sleep)
    assert slept == [4, 4, 4]
    assert patients(tmp_path) == ["a"]


_KILLED = """
import sys, time
from pathlib import Path
from voco2d.commands.tables import write_text
from voco2d.inference.predictor import Predictor
from voco2d.inference.watch import Watcher, watch

run, inbox, out = map(Path, sys.argv[1:])
predictor = Predictor(run, gates="off")
print("ready", flush=True)
with Watcher(predictor, inbox, out, 0, write_text) as watcher:
    watch(watcher, 0.05, once=False)
"""


@pytest.mark.slow
def test_nothing_is_lost_when_the_process_is_killed_at_any_moment(
    inbox: Path, tmp_path: Path, make_run: Callable[[Path], Path]
) -> None:
    run, out = make_run(tmp_path / "run"), tmp_path / "out"
    names = [f"s{number:02d}" for number in range(6)]
    for number, name in enumerate(names):
        write_scan(inbox / name / "scan.npy", name, seed=number)
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, run, inbox, out], stdout=subprocess.PIPE, env=dict(os.environ)
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        before = len(list(out.glob("studies/*.report.json")))
        deadline = time.monotonic() + 60
        while len(list(out.glob("studies/*.report.json"))) < before + 2 and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    predictor = Predictor(run, gates="off")
    with Watcher(predictor, inbox, out, 0, write_text) as watcher:
        watcher.step()
        assert watcher.counts() == {"done": len(names), "failed": 0}
    assert patients(tmp_path) == names
    first = (out / "predictions.csv").read_bytes()
    shutil.rmtree(out)
    with Watcher(predictor, inbox, out, 0, write_text) as watcher:
        watcher.step()
    assert (out / "predictions.csv").read_bytes() == first
