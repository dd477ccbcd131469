"""Reads damaged files by the thousand: python tests/mutations/run.py --count 2000 --seed 0 [--json FILE] [--only N]

Exit code 0 where each was read right or turned away with its reason, within 10 s of processor time and 2 GB; else 1,
with the numbers of the others, which `--only N` repeats. `--commands N` runs `voco2d prepare` over N folders of them.
`--real FOLDER` takes real files in place of the made ones (only their damaged copies are written, into TMPDIR).
"""

import argparse
import json
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from commands import check_command
from corpus import MARKERS, TOLERANCE_HU, Files, patient
from corpus_arrays import build, real_cases
from mutator import mutate
from plant import planted
from verdict import capture_logs, compare_sound, judge, read

SECONDS = 10
"""Of processor time, which other work on the machine doesn't lengthen."""

SECONDS_BY_THE_CLOCK = 60
"""For what waits, such as for a pipe."""

BYTES = 2 * 2**30
MOST_BYTES = 6 * 2**30
"""Of memory that is not a file's; what wants more gets a MemoryError in place of the machine's last pages."""


class TooSlow(BaseException):
    """Raised by the alarm."""


class Tally:
    """What came of all inputs so far."""

    def __init__(self) -> None:
        self.verdicts: Counter[str] = Counter()
        self.ways: dict[str, Counter[str]] = {}
        self.cases: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.slowest = 0.0
        self.largest = 0

    def complain(self, what: str) -> None:
        self.complaints.append(what)
        print(f"  {what}", file=sys.stderr, flush=True)


def main() -> int:
    options = _options()
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _too_slow)
    log = capture_logs()
    tally, begun = Tally(), time.monotonic()
    cases, markers = build(), MARKERS
    if options.real:
        cases, more = real_cases(options.real)
        markers += more
    elif options.only is None:
        for told in _sound_complaints(cases):
            tally.complain(told)
    for number in range(options.count) if options.only is None else [options.only]:
        draw = np.random.default_rng([options.seed, number])
        case = str(draw.choice(sorted(cases)))
        files, name, way = mutate(cases[case], draw)
        what = f"{number}: {case}, {name!r}, {way}"
        print(what, file=sys.stderr, flush=True)  # the last line names the one that killed the process
        log.seek(0)
        log.truncate()
        with planted(files, cases[case]) as folder:
            verdict, complaint, took, peak = _try(folder, files, cases[case], log, markers)
            if options.keep:
                shutil.copytree(folder, options.keep, dirs_exist_ok=True, symlinks=True)
        tally.slowest, tally.largest = max(tally.slowest, took), max(tally.largest, peak)
        tally.verdicts[verdict] += 1
        tally.cases[case] += 1
        tally.ways.setdefault(way, Counter())[verdict] += 1
        if complaint:
            tally.complain(f"{what}: {verdict}: {complaint}")
    for number in range(options.commands):
        print(f"command {number}", file=sys.stderr, flush=True)
        if told := check_command(cases, markers, options.seed, number):
            tally.complain(f"command {number}: {told}")
    return _report(tally, options, time.monotonic() - begun)


def _try(folder: Path, files: Files, sound: Files, log, markers) -> tuple[str, str, float, int]:  # type: ignore[no-untyped-def]
    """Read and judge one input; returns verdict, complaint, seconds and peak bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew for each input (proc(5))
    start = time.process_time()
    _limit(SECONDS, SECONDS_BY_THE_CLOCK)
    try:
        reading = read(folder)
        _limit(0, 0)
        took, peak = time.process_time() - start, _peak_bytes()
        verdict, complaint = judge(reading, files, sound, log.getvalue(), markers)
    except TooSlow:
        reason = f"took over {SECONDS} s, or {SECONDS_BY_THE_CLOCK} s by the clock"
        return "slow", reason, float(SECONDS), _peak_bytes()
    except Exception as error:
        return "crash", f"{type(error).__name__}: {error}", time.process_time() - start, _peak_bytes()
    finally:
        _limit(0, 0)
    if peak > BYTES:
        complaint = f"{peak / 1e9:.1f} GB of memory; {complaint}"
    return verdict, complaint, took, peak


def _sound_complaints(cases: dict[str, Files]) -> Iterator[str]:
    """What is wrong with the readings of undamaged cases: values and order must be those they were made of."""
    hu = patient()
    for case, files in cases.items():
        with planted(files, files) as folder:
            if told := compare_sound(read(folder), hu, TOLERANCE_HU.get(case, 0)):
                yield f"{case}: {told}"


def _report(tally: Tally, options: argparse.Namespace, seconds: float) -> int:
    result = {
        "count": sum(tally.verdicts.values()),
        "seed": options.seed,
        "verdicts": dict(sorted(tally.verdicts.items())),
        "by_mutation": {way: dict(sorted(found.items())) for way, found in sorted(tally.ways.items())},
        "by_case": dict(sorted(tally.cases.items())),
        "commands": options.commands,
        "slowest_s": round(tally.slowest, 2),
        "peak_resident_gb": round(tally.largest / 2**30, 2),
        "seconds": round(seconds, 1),
        "complaints": tally.complaints,
    }
    text = json.dumps(result, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)
    return 1 if tally.complaints else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--commands", type=int, default=0)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _peak_bytes() -> int:
    """Peak resident memory of this process since the peak was last reset."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _limit(seconds: float, seconds_by_the_clock: int) -> None:
    """Raise `TooSlow` after so much processor time or time; 0 takes a limit away."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(seconds_by_the_clock)


def _too_slow(_: int, __: FrameType | None) -> None:
    raise TooSlow


if __name__ == "__main__":
    sys.exit(main())
