"""Compares `voco2d` with the two-stage way on one generated series, in alternation on one core, and writes JSON.

Ratios are medians over rounds of one run after the other, so that whatever else the machine does meets both.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from series import write_series
from two_stage import PNG_SETTINGS

_WORKER = Path(__file__).with_name("worker.py")
_PACKAGES = ("numpy", "scipy", "pydicom", "pylibjpeg-rle", "pillow")
Result = dict[str, Any]


def run(what: str, series: Path, work: Path) -> Result:
    """One measurement in a fresh process on the core this one is bound to."""
    out, report = work / "out.npy", work / "report.json"
    subprocess.run([sys.executable, _WORKER, what, series, out, report], check=True)
    shutil.rmtree(work / "out", ignore_errors=True)
    return json.loads(report.read_text())


def compare(series: Path, work: Path, rounds: int) -> Result:
    """Alternate ours, each kind of PNG, and the reading of a prepared volume."""
    rows: list[dict[str, Result]] = []
    for _ in range(rounds):
        row = {"ours": run("ours", series, work)}
        row["reading"] = run("reading", work / "out.npy", work)
        rows.append(row | {png: run(png, series, work) for png in PNG_SETTINGS})
    times = {
        name: {key: statistics.median(row[name][key] for row in rows) for key in ("cpu_s", "wall_s", "peak_mib")}
        for name in rows[0]
    }
    ratios = {
        f"{clock}: {name} / ours": statistics.median(row[name][clock] / row["ours"][clock] for row in rows)
        for clock in ("cpu_s", "wall_s")
        for name in PNG_SETTINGS
    }
    stages = {name: rows[-1][name]["stages_cpu_s"] for name in PNG_SETTINGS}
    return {
        "rounds": rounds,
        "median": times,
        "series_a_minute_per_core": {name: 60 / times[name]["cpu_s"] for name in ("ours", *PNG_SETTINGS)},
        "ratio": ratios,
        "reading_share_of_preparing": statistics.median(r["reading"]["wall_s"] / r["ours"]["wall_s"] for r in rows),
        "two_stage_stages_cpu_s": stages,
    }


def breakdown(series: Path, work: Path, rounds: int) -> Result:
    """Where our time goes: median CPU seconds by stage, and each stage's share of the whole."""
    results = [run("breakdown", series, work) for _ in range(rounds)]
    total = statistics.median(result["cpu_s"] for result in results)
    stages = {
        name: statistics.median(result["stages_cpu_s"][name] for result in results)
        for name in results[0]["stages_cpu_s"]
    }
    return {"total_cpu_s": total, "stages": {n: {"cpu_s": s, "share": s / total} for n, s in stages.items()}}


def main() -> None:
    """Run everything and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-large", action="store_true", help="leave out the 1,700-slice series")
    args = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
        work = Path(folder)
        size = write_series(work / "series", 300, 512)
        result = {
            # run.sh puts --json FILE first
            "command": " ".join(["benchmarks/ingest/run.sh", *sys.argv[3:]]),
            "hardware": {"cpu": _cpu(), "cores_used": 1, "system": platform.platform()},
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
            "series": {"slices": 300, "matrix": 512, "bytes_a_slice": size // 300},
            **compare(work / "series", work, args.rounds),
            "breakdown": breakdown(work / "series", work, args.rounds),
            "large": {},
        }
        shutil.rmtree(work / "series")
        for matrix in () if args.no_large else (512, 1024):
            write_series(work / "large", 1700, matrix)
            measured = run("ours", work / "large", work)
            result["large"][f"1700 x {matrix} x {matrix}"] = {key: measured[key] for key in ("peak_mib", "cpu_s")}
            shutil.rmtree(work / "large")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(_rounded(result), indent=2) + "\n")


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
