"""Prepares one series once, in a process of its own, and writes what it took as JSON."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Stopwatch:
    """CPU seconds by stage; a stage may lie inside another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrap(self, module: Any, name: str, stage: str) -> None:
        """Time every call of `module.name`."""
        function = getattr(module, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            return self.call(stage, function, *args, **kwargs)

        setattr(module, name, timed)

    def call(self, stage: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Time one call."""
        start = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - start


def peak_mib() -> float:
    """Peak resident memory of this process alone, MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def ours(series: Path, out: Path, watch: Stopwatch, breakdown: bool) -> tuple[float, float]:
    """Discover, read, prepare, write, measure; returns wall and CPU seconds."""
    from voco2d.io import dicom, dicom_decode, dicom_stored
    from voco2d.io.discover import discover
    from voco2d.io.readers import read_source
    from voco2d.preprocessing import preprocess
    from voco2d.store import conversion
    from voco2d.store.survey import survey

    if breakdown:
        watch.wrap(dicom_stored, "decode_pixel_data", "RLE decoding alone")
        watch.wrap(dicom_decode, "_read_pixels", "decode: open, parse, decode, rescale")
        watch.wrap(dicom, "_read_headers", "headers of the series")
        for name in ("find_partial_slices", "find_body"):
            watch.wrap(preprocess, name, "body and partial slices")
        watch.wrap(preprocess, "_resample", "resize")
    wall, cpu = time.perf_counter(), time.process_time()
    sources = watch.call("discover (reads the headers, too)", discover, [series])[0]
    volume, _ = watch.call("read", read_source, sources[0])
    prepared = watch.call("prepare", preprocess.prepare_volume, volume)
    with out.open("wb") as file:
        watch.call("write", conversion._write_npy, file, prepared.hu)
    (out.parent / "thumbnails").mkdir(exist_ok=True)
    watch.call("quality and thumbnail", survey, out.parent, "benchmark", volume, prepared)
    return time.perf_counter() - wall, time.process_time() - cpu


def theirs(series: Path, out: Path, watch: Stopwatch, png: str) -> tuple[float, float]:
    """The two stages; returns wall and CPU seconds."""
    from two_stage import dicom_to_png, png_to_array

    folder = out.with_suffix("")
    wall, cpu = time.perf_counter(), time.process_time()
    watch.call("DICOM to PNG", dicom_to_png, series, folder, png)
    watch.call("PNG to array", png_to_array, series, folder, out)
    return time.perf_counter() - wall, time.process_time() - cpu


def reading(volume: Path) -> tuple[float, float]:
    """Read a prepared volume whole; returns wall and CPU seconds."""
    import numpy as np

    wall, cpu = time.perf_counter(), time.process_time()
    np.load(volume, mmap_mode="r").sum(dtype=np.int64)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Do one measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["ours", "breakdown", "reading", "opencv", "pillow", "stored"])
    parser.add_argument("series", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("json", type=Path)
    args = parser.parse_args()
    watch = Stopwatch()
    if args.what in ("ours", "breakdown"):
        wall, cpu = ours(args.series, args.out, watch, args.what == "breakdown")
    elif args.what == "reading":
        wall, cpu = reading(args.series)
    else:
        wall, cpu = theirs(args.series, args.out, watch, args.what)
    result = {"wall_s": wall, "cpu_s": cpu, "peak_mib": peak_mib(), "stages_cpu_s": watch.seconds}
    args.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
