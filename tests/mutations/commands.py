"""Runs `voco2d prepare` over folders of damaged inputs, as a user would, and looks at everything that it tells."""

import csv
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from corpus import Files
from mutator import mutate
from plant import plant

INPUTS_A_RUN = 25
SECONDS = 300
_COUNTS = re.compile(r"^(\d+) prepared, 0 unchanged, (\d+) quarantined", re.MULTILINE)


def check_command(cases: dict[str, Files], markers: tuple[str, ...], seed: int, number: int) -> str:
    """Prepare a folder of damaged inputs.

    Returns:
        A complaint, empty where all is well: it ends by itself with code 0 and the right counts; no traceback, and no
        identifier in what it prints or in quarantine.csv.
    """
    with tempfile.TemporaryDirectory(prefix="mutations-") as work:
        source, store = Path(work, "source"), Path(work, "store")
        source.mkdir()
        for index in range(INPUTS_A_RUN):
            draw = np.random.default_rng([seed, number, index])
            case = str(draw.choice(sorted(cases)))
            files, _, _ = mutate(cases[case], draw)
            plant(cases[case], Path(work, f"beside-{index}"), Path(work, f"beside-{index}"))
            plant(files, source / f"input-{index}", Path(work, f"beside-{index}"))
        words = [sys.executable, "-m", "voco2d", "prepare", str(source), "--out", str(store), "--workers", "1"]
        run = subprocess.run(
            [*words, "preprocess.size=[4,16,16]"], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return _complaint(run, store, markers)


def _complaint(run: subprocess.CompletedProcess[str], store: Path, markers: tuple[str, ...]) -> str:
    said = run.stdout + run.stderr
    if run.returncode != 0:
        return f"exit code {run.returncode}: {run.stderr[-200:]}"
    if "Traceback" in said:
        return "a traceback"
    table = (store / "quarantine.csv").read_bytes()
    if any(marker in said or marker.encode() in table for marker in markers):
        return "an identifier was told"
    with (store / "quarantine.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = _COUNTS.search(run.stdout)
    if counts is None or int(counts[2]) != len(rows) or not all(row["reason"].strip() for row in rows):
        return f"{len(rows)} lines of quarantine.csv, but: {run.stdout[:100]}"
    return "" if int(counts[1]) > 0 else "nothing was prepared"
