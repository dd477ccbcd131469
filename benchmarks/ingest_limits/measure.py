"""Measures peak memory of `voco2d prepare` on a large .nii.gz, and how fast many files are looked through."""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from make import SLICES_A_SERIES, write_nifti, write_tree

_DISCOVER = """
import json, sys, time
from pathlib import Path
from voco2d.io.discover import discover
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
before, wall, cpu = peak(), time.perf_counter(), time.process_time()
sources, rejections = discover([Path(sys.argv[1])])
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({"sources": len(sources), "files": sum(len(source.files) for source in sources),
    "rejections": len(rejections), "wall_s": round(wall, 2), "cpu_s": round(cpu, 2),
    "peak_mib": round(peak()), "of_that_imports_mib": round(before)}))
"""


def main() -> None:
    """Write the inputs, measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="folder for the inputs, with 4 GB of room")
    parser.add_argument("--slices", type=int, default=1700)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    result = {
        "nifti": _prepare(options.work, options.slices),
        "discovery": _discovery(options.work, options.files),
    }
    text = json.dumps(result, indent=1) + "\n"
    options.json.write_text(text)
    sys.stdout.write(text)


def _prepare(work: Path, slices: int) -> dict[str, Any]:
    scan = work / f"scan-{slices}.nii.gz"
    if not scan.exists():
        write_nifti(scan, slices, 512)
    store = work / f"store-{time.time_ns()}"
    words = [sys.executable, "-m", "voco2d", "prepare", str(scan), "--out", str(store), "--workers", "1"]
    start = time.monotonic()
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    together = 0.0
    while run.poll() is None:
        together = max(together, _resident_mib(run.pid))
        time.sleep(0.02)
    said = run.communicate()[0].splitlines()
    return {
        "slices": slices,
        "file_mib": round(scan.stat().st_size / 2**20),
        "voxels_mib": round(slices * 512 * 512 * 2 / 2**20),
        "exit_code": run.returncode,
        "said": next((line for line in said if "prepared" in line), ""),
        "wall_s": round(time.monotonic() - start, 1),
        "peak_largest_process_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "peak_all_processes_mib": round(together),
    }


def _resident_mib(pid: int) -> float:
    """Resident memory of a process and all below it; pages that they share are counted each time."""
    try:
        own = int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, IndexError):  # it has just ended
        return 0.0
    return own + sum(_resident_mib(int(child)) for child in children)


def _discovery(work: Path, files: int) -> dict[str, Any]:
    """The same files twice: in the competition's layout, which is not opened, and elsewhere, where headers are read."""
    tree = work / f"tree-{files}"
    if not tree.exists():
        write_tree(tree, files)
    layout, plain = tree / "train_images", tree / "scans"
    result: dict[str, Any] = {"files": files, "series": -(-files // SLICES_A_SERIES)}
    for name, folder in (("competition_layout", layout), ("any_layout", plain)):
        if folder == plain:
            layout.rename(plain)
        try:
            _discover(tree)  # the first one warms the cache
            found = _discover(tree)
        finally:
            if folder == plain:
                plain.rename(layout)
        result[name] = {**found, "files_a_second": round(files / found["wall_s"])}
    return result


def _discover(tree: Path) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-c", _DISCOVER, str(tree)], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    found: dict[str, Any] = json.loads(run.stdout)
    return found


if __name__ == "__main__":
    main()
