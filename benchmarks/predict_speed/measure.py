"""Compares grading with decoding, with the bare network, and with a script that loads the model for each study."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pydicom
import torch

from voco2d.inference.onnx_runtime import import_onnxruntime
from voco2d.inference.predictor import Predictor
from voco2d.io.dicom_frames import kept_header
from voco2d.io.discover import discover
from voco2d.io.readers import read_source
from voco2d.memory import freeze_loaded

sys.path.insert(0, str(Path(__file__).parents[1] / "ingest"))
from series import write_series

VOCO2D = str(Path(sys.executable).with_name("voco2d"))
SLICES, SIZE = 300, 512
STUDIES = 12


def main() -> None:
    """Make the model and the series, measure in turns, write one JSON file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run, package = make_model(work)
        studies = [work / "large" / str(number) / "1" for number in range(options.rounds + 1)]
        for number, study in enumerate(studies):
            write_series(study, SLICES, SIZE, seed=number)
        result = {
            "machine": {
                "cpu": cpu_name(),
                "cores": os.cpu_count(),
                "torch": torch.__version__,
                "rounds": options.rounds,
            },
            "one_study": one_study(run, package, studies),
            "many_studies": many_studies(run, package, work, max(1, options.rounds // 2)),
        }
    options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(options.json.read_text(encoding="utf-8"))


def make_model(work: Path) -> tuple[Path, Path]:
    """Fine-tune efficientnet_b0 for one epoch on phantoms, which is enough to time it, and export it."""
    call("phantom", work / "phantoms", "--patients", 6, "--enriched", "size=128", "mean_slices=40")
    call("prepare", work / "phantoms", "--out", work / "store")
    words = ["backbone=efficientnet_b0", "epochs=1", "folds=2", "run_folds=1", "batch_size=1", "accumulate=4"]
    call("finetune", work / "store", "--init", "random", "--out", work / "run", *words)
    call("export", work / "run", "--out", work / "package")
    return work / "run", work / "package"


def one_study(run: Path, package: Path, studies: list[Path]) -> dict[str, Any]:
    """Time the parts of grading a series beside decoding it and beside the bare network, a new series each round."""
    engines = {
        name: Predictor.load([path], gates=gates, flips=(), device="cpu")
        for name, path, gates in (
            ("torch", run, "flag"),  # asks them all, and gives numbers of a series that is no patient
            ("torch_no_gates", run, "off"),
            ("onnx", package, "flag"),
        )
    }
    session = import_onnxruntime().InferenceSession(
        str(next(package.glob("*.onnx"))), providers=["CPUExecutionProvider"]
    )
    freeze_loaded()  # as the commands do
    seconds: dict[str, list[float]] = {}
    for study in studies:  # the first is not counted
        slices = read_out(engines["onnx"], study)
        inputs = {session.get_inputs()[0].name: slices[None]}
        seconds.setdefault("decode_pydicom", []).append(timed(lambda study=study: decode(study)))
        seconds.setdefault("decode_2_threads", []).append(timed(lambda study=study: decode(study, threads=2)))
        seconds.setdefault("bare_onnx", []).append(timed(lambda inputs=inputs: session.run(None, inputs)))
        for name, engine in engines.items():
            results = []
            seconds.setdefault("memory_first", []).append(timed(touch_memory))
            seconds.setdefault("memory_again", []).append(timed(touch_memory))
            kept_header.cache_clear()
            whole = timed(lambda e=engine, s=study, r=results: r.extend(grade(e, s)))
            model = results[0].seconds["model"]
            seconds.setdefault(f"{name}_model", []).append(model)
            seconds.setdefault(f"{name}_rest", []).append(whole - model)
            for part, value in results[0].seconds.items():
                seconds.setdefault(f"{name}_part_{part}", []).append(value)
    counted = {name: values[1:] for name, values in seconds.items()}
    ratios = {
        "rest ÷ decoding, torch": ratio(counted["torch_rest"], counted["decode_pydicom"]),
        "rest without gates ÷ decoding, torch": ratio(counted["torch_no_gates_rest"], counted["decode_pydicom"]),
        "rest ÷ decoding, ONNX Runtime": ratio(counted["onnx_rest"], counted["decode_pydicom"]),
        "rest ÷ decoding in two threads, torch": ratio(counted["torch_rest"], counted["decode_2_threads"]),
        "model by ONNX Runtime ÷ bare run": ratio(counted["onnx_model"], counted["bare_onnx"]),
        "model by torch ÷ bare run of ONNX Runtime": ratio(counted["torch_model"], counted["bare_onnx"]),
    }
    shape = list(slices.shape)
    return {"slices": SLICES, "size": SIZE, "network_input": shape, "ratios": ratios, "seconds": medians(counted)}


def many_studies(run: Path, package: Path, work: Path, rounds: int) -> dict[str, Any]:
    """Time one command for all studies beside one command a study."""
    studies = []
    for number in range(STUDIES):
        studies.append(work / "many" / str(number + 1) / "1")
        write_series(studies[-1], 60, 256, seed=number)
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, model in (("torch", run), ("onnx", package)):
            out = work / "out"
            together = timed(lambda model=model, out=out: grade_by_command(model, studies, out))
            alone = timed(lambda model=model, out=out: [grade_by_command(model, [study], out) for study in studies])
            seconds.setdefault(f"{name}_together", []).append(together)
            seconds.setdefault(f"{name}_one_by_one", []).append(alone)
    ratios = {
        f"studies an hour together ÷ one by one, {name}": ratio(
            seconds[f"{name}_one_by_one"], seconds[f"{name}_together"]
        )
        for name in ("torch", "onnx")
    }
    return {"studies": STUDIES, "slices": 60, "size": 256, "ratios": ratios, "seconds": medians(seconds)}


def read_out(engine: Predictor, study: Path) -> np.ndarray:
    """Return what the network sees of a series, (S, C, H, W)."""
    sources, _ = discover([study])
    return engine.read_out(read_source(sources[0], engine.settings.read)[0]).slices


def touch_memory() -> None:
    """Take and fill as much memory as the volume needs: a virtual machine's host may have to find it anew each time."""
    np.empty((SLICES, SIZE, SIZE), np.int16).fill(1)


def decode(study: Path, threads: int = 1) -> int:
    """Decode each slice by pydicom's defaults; the sum keeps what was decoded in use."""
    paths = sorted(study.iterdir())
    if threads == 1:
        return sum(map(_corner, paths))
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(_corner, paths))


def _corner(path: Path) -> int:
    return int(pydicom.dcmread(path).pixel_array[0, 0])


def grade(engine: Predictor, study: Path) -> list[Any]:
    """Do what `voco2d predict` does with one study, from its folder to the answer."""
    studies, rejections = engine.predict_studies([study])
    assert not rejections
    assert studies[0].series[0].is_assessed, studies[0].series[0]
    return list(studies[0].series)


def grade_by_command(model: Path, studies: list[Path], out: Path) -> None:
    """Run `voco2d predict` on some studies."""
    shutil.rmtree(out, ignore_errors=True)
    call("predict", *studies, "--model", model, "--out", out / "answers.csv", "--gates", "off", "--device", "cpu")


def call(*words: object) -> None:
    """Run a command of voco2d to its end, quietly."""
    done = subprocess.run([VOCO2D, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"voco2d {words[0]}: {done.stderr.strip()[-2000:]}")


def timed(work: Callable[[], object]) -> float:
    """Return the seconds it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return the median, least and greatest ratio of the same round."""
    values = np.divide(ours, theirs)
    return {
        "median": round(float(np.median(values)), 2),
        "least": round(values.min(), 2),
        "greatest": round(values.max(), 2),
    }


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return the median of each list."""
    return {name: round(median(values), 3) for name, values in seconds.items()}


def cpu_name() -> str:
    """Return the processor's name as Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
