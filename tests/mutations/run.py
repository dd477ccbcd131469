"""Reads damaged files by the thousand: python tests/mutations/run.py --count 2000 --seed 0 [--json FILE] [--only N]

Exit code 0 where each was read right or turned away with its reason, within 10 s and 2 GB; else 1, with the numbers of
the others, which `--only N` repeats.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from corpus import build
from mutator import mutate
from verdict import capture_logs, judge, read

SECONDS = 10
BYTES = 2 * 2**30


class TooSlow(BaseException):
    """Raised by the alarm."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_slow)
    cases = build()
    log = capture_logs()
    verdicts: Counter[str] = Counter()
    ways: dict[str, Counter[str]] = {}
    complaints, slowest, largest = [], 0.0, 0
    begun = time.monotonic()
    for number in range(options.count) if options.only is None else [options.only]:
        draw = np.random.default_rng([options.seed, number])
        case = str(draw.choice(sorted(cases)))
        files, name, way = mutate(cases[case], draw)
        what = f"{number}: {case}, {name}, {way}"
        print(what, file=sys.stderr, flush=True)  # the last line names the one that killed the process
        folder = Path(tempfile.mkdtemp(prefix="mutation-"))
        for file, data in files.items():
            (folder / file).write_bytes(data)
        log.seek(0)
        log.truncate()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew for each input (proc(5))
        start = time.monotonic()
        signal.alarm(SECONDS)
        try:
            reading = read(folder)
            signal.alarm(0)
            took = time.monotonic() - start
            slowest = max(slowest, took)
            peak = _peak_bytes()
            verdict, complaint = judge(reading, files, cases[case], log.getvalue())
            largest = max(largest, peak)
            if peak > BYTES:
                complaint = f"{peak / 1e9:.1f} GB of memory; {complaint}"
        except TooSlow:
            verdict, complaint = "slow", f"took over {SECONDS} s"
        except Exception as error:
            verdict, complaint = "crash", f"{type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
        verdicts[verdict] += 1
        ways.setdefault(way, Counter())[verdict] += 1
        if complaint:
            complaints.append(f"{what}: {verdict}: {complaint}")
            print(f"  {complaint}", file=sys.stderr)
        if options.keep:
            shutil.copytree(folder, options.keep, dirs_exist_ok=True)
        shutil.rmtree(folder)
    result = {
        "count": sum(verdicts.values()),
        "seed": options.seed,
        "verdicts": dict(sorted(verdicts.items())),
        "by_mutation": {way: dict(sorted(found.items())) for way, found in sorted(ways.items())},
        "slowest_s": round(slowest, 2),
        "peak_resident_gb": round(largest / 2**30, 2),
        "seconds": round(time.monotonic() - begun, 1),
        "complaints": complaints,
    }
    text = json.dumps(result, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)
    return 1 if complaints else 0


def _peak_bytes() -> int:
    """Peak resident memory of this process since the peak was last reset."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _too_slow(_: int, __: FrameType | None) -> None:
    raise TooSlow


if __name__ == "__main__":
    sys.exit(main())
