"""Prepares a phantom cohort in one go, killed three times and on a dask cluster, and compares the stores' bytes."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KILLS = (0.2, 0.45, 0.7)
"""Share of the series that is done when a run is killed."""


def main() -> int:
    """Run all ways, write the result, and return 0 where the stores are equal."""
    options = _options()
    work = options.work
    cohort = work / "cohort"
    if not (cohort / "train.csv").is_file():
        phantom = ["phantom", cohort, "--patients", options.patients, "--enriched"]
        _voco2d([*phantom, f"size={options.size}", f"mean_slices={options.slices}"])
    for name in ("whole", "killed", "dask"):
        shutil.rmtree(work / name, ignore_errors=True)
    size = f"preprocess.size={options.prepared}"
    result: dict[str, Any] = {"patients": options.patients}
    begun = time.monotonic()
    _voco2d(["prepare", cohort, "--out", work / "whole", size])
    result["whole_seconds"] = round(time.monotonic() - begun, 1)
    result["series"] = len(_records(work / "whole"))
    result["kills"] = _prepare_killed(cohort, work / "killed", size, result["series"])
    begun = time.monotonic()
    _voco2d(["prepare", cohort, "--out", work / "dask", "--dask", "local:2", size])
    result["dask_seconds"] = round(time.monotonic() - begun, 1)
    whole = _contents(work / "whole")
    result["files"] = len(whole)
    result["bytes"] = sum(path.stat().st_size for path in (work / "whole").rglob("*") if path.is_file())
    differing = {name: _differing(whole, _contents(work / name)) for name in ("killed", "dask")}
    result["differing_files"] = differing
    result["equal"] = not any(differing.values())
    redone = max(entry["done_twice"] for entry in result["kills"])
    result["at_most_series_in_flight_repeated"] = redone == 0
    text = json.dumps(result, indent=1) + "\n"
    options.result.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0 if result["equal"] and redone == 0 else 1


def _prepare_killed(cohort: Path, store: Path, size: str, series: int) -> list[dict[str, int]]:
    """Prepare, killing the run at each of KILLS and starting it again; report what each restart did."""
    kills = []
    for share in (*KILLS, None):
        before = _records(store)
        words = [sys.executable, "-m", "voco2d", "prepare", str(cohort), "--out", str(store), size]
        with subprocess.Popen(words) as run:
            while share is not None and len(_records(store)) < share * series:
                if run.poll() is not None:
                    raise SystemExit("the run ended before it could be killed; take more patients")
                time.sleep(0.02)
            if share is not None:
                run.send_signal(signal.SIGKILL)
            run.wait()
        time.sleep(1.0)  # workers whose parent was killed end by themselves
        after = _records(store)
        twice = sum(after.get(name) != moment for name, moment in before.items())
        kills.append({"there_before": len(before), "there_after": len(after), "done_twice": twice})
    return kills


def _records(store: Path) -> dict[str, int]:
    """Name of each finished series, and when its volume was written."""
    names = [path.stem for path in store.glob("records/[!.]*.json")]
    return {name: (store / "volumes" / f"{name}.npy").stat().st_mtime_ns for name in names}


def _contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


def _differing(first: dict[str, bytes], second: dict[str, bytes]) -> list[str]:
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def _voco2d(words: Sequence[object]) -> None:
    subprocess.run([sys.executable, "-m", "voco2d", *map(str, words)], check=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--slices", type=int, default=80)
    parser.add_argument("--prepared", default="[32,128,128]")
    parser.add_argument("--result", type=Path, default=Path(__file__).with_name("result.json"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    raise SystemExit(main())
