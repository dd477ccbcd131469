"""Keep the figures of the benchmarks over time, and draw docs/benchmarks.md from them.

    python tools/benchmark_history.py            # draw the page and its figure from benchmarks/history.csv
    python tools/benchmark_history.py --append   # first take in what the commits say that the table doesn't have

A figure is a value in a JSON file that a benchmark commits; `FIGURES` says which. Commit a new result first, then
append: each commit of such a file gives one row, told by the commit's date, so that a rebase makes no second one.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Drawing

ROOT = Path(__file__).parents[1]
HISTORY = ROOT / "benchmarks" / "history.csv"
PAGE = ROOT / "docs" / "benchmarks.md"
DRAWING = ROOT / "docs" / "images" / "benchmark_ratios.svg"
RATIO = "ratio"


@dataclass(frozen=True)
class Figure:
    """One number of a benchmark.

    Args:
        benchmark: Its folder.
        name: What it is, in the table.
        file: JSON file below that folder.
        keys: Where in it.
        unit: `ratio`, or a unit.
        low: Whether lower is better.
    """

    benchmark: str
    name: str
    file: str
    keys: tuple[str, ...]
    unit: str = RATIO
    low: bool = True


@dataclass(frozen=True)
class Row:
    """One line of the table; texts as they stand there."""

    date: str
    commit: str
    benchmark: str
    figure: str
    value: str
    unit: str
    machine: str


_STUDY, _STUDIES = ("one_study", "ratios"), ("many_studies", "ratios")
FIGURES = (
    Figure(
        "pretrain_step", "time of a step, batch 1, ours ÷ the paper's code", "results/batch-1.json", ("time_ratio",)
    ),
    Figure("pretrain_step", "memory, batch 1, ours ÷ the paper's code", "results/batch-1.json", ("memory_ratio",)),
    Figure(
        "pretrain_step", "time of a step, batch 4, ours ÷ the paper's code", "results/batch-4.json", ("time_ratio",)
    ),
    Figure("pretrain_step", "memory, batch 4, ours ÷ the paper's code", "results/batch-4.json", ("memory_ratio",)),
    Figure("pretrain_step", "time of a step, batch 4", "results/batch-4.json", ("ours", "seconds"), "s"),
    Figure(
        "ingest", "processor time, OpenCV ÷ ours", "results/ingest.json", ("ratio", "cpu_s: opencv / ours"), low=False
    ),
    Figure(
        "ingest", "processor time, Pillow ÷ ours", "results/ingest.json", ("ratio", "cpu_s: pillow / ours"), low=False
    ),
    Figure("ingest", "peak memory of a series", "results/ingest.json", ("median", "ours", "peak_mib"), "MiB"),
    Figure(
        "ingest_limits",
        "files found, any layout",
        "result.json",
        ("discovery", "any_layout", "files_a_second"),
        "1/s",
        low=False,
    ),
    Figure(
        "predict_speed", "all but the network ÷ decoding", "results.json", (*_STUDY, "rest ÷ decoding, torch", "median")
    ),
    Figure(
        "predict_speed",
        "network by ONNX Runtime ÷ its bare run",
        "results.json",
        (*_STUDY, "model by ONNX Runtime ÷ bare run", "median"),
    ),
    Figure(
        "predict_speed",
        "network by torch ÷ bare run of ONNX Runtime",
        "results.json",
        (*_STUDY, "model by torch ÷ bare run of ONNX Runtime", "median"),
    ),
    Figure(
        "predict_speed",
        "studies an hour, together ÷ one by one",
        "results.json",
        (*_STUDIES, "studies an hour together ÷ one by one, torch", "median"),
        low=False,
    ),
    Figure(
        "node_load", "images lost of 50 studies, node killed three times", "results.json", ("images_lost",), "images"
    ),
    Figure("node_load", "peak memory", "results.json", ("peak_rss_mb",), "MB"),
    Figure(
        "localisation",
        "accuracy after 2000 steps, lcnet_050",
        "results_lcnet_050.json",
        ("presets", "voco2d", "after_all", "accuracy"),
        "share",
        low=False,
    ),
    Figure(
        "localisation",
        "accuracy after 2000 steps, test_efficientnet",
        "results_test_efficientnet.json",
        ("presets", "voco2d", "after_all", "accuracy"),
        "share",
        low=False,
    ),
    Figure("phantom_learnability", "RSNA score", "scores.json", ("rsna", "mean"), "score"),
    Figure("phantom_learnability", "mAP", "scores.json", ("map",), "share", low=False),
)
"""Figures that a change of the code can make better or worse."""

_MACHINES = (("hardware", "processor"), ("hardware", "cpu"), ("machine", "cpu"), ("hardware",))


def main(words: Sequence[str]) -> None:
    """Take in what is new if asked to, and draw."""
    rows = read_history()
    if "--append" in words:
        known = {(row.date, row.benchmark, row.figure) for row in rows}
        new = [row for row in committed() if (row.date, row.benchmark, row.figure) not in known]
        rows = sorted([*rows, *new], key=lambda row: (row.date, row.benchmark, row.figure))
        write_history(rows)
        print(f"{len(new)} new figures")  # noqa: T201
    PAGE.write_text(page(rows), encoding="utf-8")
    draw(rows)


def read_history() -> list[Row]:
    """Read the table; it may not be there yet."""
    if not HISTORY.is_file():
        return []
    with HISTORY.open(encoding="utf-8", newline="") as stream:
        return [Row(**line) for line in csv.DictReader(stream)]


def write_history(rows: Sequence[Row]) -> None:
    """Write the table."""
    with HISTORY.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def committed() -> Iterator[Row]:
    """Yield every figure of every commit that measured its file's figures anew, where the file had it by then.

    A commit that leaves all of them as they were (it renamed a key, say) measured nothing.
    """
    files = dict.fromkeys((figure.benchmark, figure.file) for figure in FIGURES)
    for benchmark, file in files:
        figures = [figure for figure in FIGURES if (figure.benchmark, figure.file) == (benchmark, file)]
        path = f"benchmarks/{benchmark}/{file}"
        before: list[float] = []
        for line in _git("log", "--reverse", "--no-merges", "--format=%h %aI", "--abbrev=7", "--", path).splitlines():
            commit, date = line.split()
            tree = json.loads(_git("show", f"{commit}:{path}"))
            known = [(figure, value) for figure in figures if (value := value_of(tree, figure.keys)) is not None]
            values = [value for _, value in known]
            if values == before:
                continue
            before = values
            for figure, value in known:
                yield Row(date[:16], commit, benchmark, figure.name, shown(value), figure.unit, _machine(tree))


def current() -> Iterator[tuple[Figure, str]]:
    """Yield every figure as the files say it now."""
    for figure in FIGURES:
        tree = json.loads((ROOT / "benchmarks" / figure.benchmark / figure.file).read_text(encoding="utf-8"))
        yield figure, shown(value_of(tree, figure.keys))


def value_of(tree: Any, keys: Sequence[str]) -> Any:
    """Follow keys into a tree; None where one is missing."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def shown(value: float) -> str:
    """Write a value with four digits."""
    return f"{value:.4g}"


def page(rows: Sequence[Row]) -> str:
    """Write the page."""
    lines = [
        "<!-- made by tools/benchmark_history.py -->",
        "",
        "# Benchmarks over time",
        "",
        "What the benchmarks said, commit by commit: `benchmarks/history.csv`. A ratio is over something timed in the "
        "same run; seconds and megabytes can be compared on one machine only. A change is not always one of the code: "
        "the first figures of pretrain_step were taken beside other work, which slowed the two sides unlike.",
        "",
        "![The ratios, a panel a benchmark, in the order they were measured in](images/benchmark_ratios.svg)",
    ]
    for benchmark in dict.fromkeys(figure.benchmark for figure in FIGURES):
        readme = ROOT / "benchmarks" / benchmark / "README.md"
        title = f"[{benchmark}](../benchmarks/{benchmark}/README.md)" if readme.is_file() else benchmark
        lines += [
            "",
            f"## {title}",
            "",
            "| figure | better is | first | newest | between |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [_line(figure, _of(rows, figure)) for figure in FIGURES if figure.benchmark == benchmark]
        machines = dict.fromkeys(row.machine for row in rows if row.benchmark == benchmark and row.machine)
        lines += ["", f"Machine: {'; '.join(machines)}."] if machines else []
    lines += [
        "",
        "After a new result: commit it, then `python tools/benchmark_history.py --append`. Which figures are kept "
        "stands there in `FIGURES`.",
    ]
    return "\n".join(lines) + "\n"


def digest(rows: Sequence[Row]) -> str:
    """Tell the table that a drawing was made from."""
    return blake2b(repr([astuple(row) for row in rows]).encode(), digest_size=8).hexdigest()


def draw(rows: Sequence[Row]) -> None:
    """Draw the ratios, a panel a benchmark; the same table gives the same file."""
    ratios = [figure for figure in FIGURES if figure.unit == RATIO]
    names = list(dict.fromkeys(figure.benchmark for figure in ratios))
    drawing = Drawing(figsize=(9, 2.6 * len(names)), layout="constrained")
    panels: Any = drawing.subplots(len(names), 1)
    for panel, name in zip(panels, names, strict=True):
        times = sorted({(row.date, row.commit) for row in rows if row.benchmark == name})
        for figure in (figure for figure in ratios if figure.benchmark == name):
            points = _of(rows, figure)
            places = [times.index((row.date, row.commit)) for row in points]
            panel.plot(places, [float(row.value) for row in points], "o-", label=figure.name)
        panel.axhline(1, color="0.6", linewidth=0.8, linestyle=":")
        panel.set_yscale("log")
        panel.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"], minor=False)
        panel.minorticks_off()
        panel.set_ylim(0.1, 10)
        panel.set_xticks(range(len(times)), [f"{date[:10]}\n{commit}" for date, commit in times])
        panel.set_xlim(-0.5, len(times) - 0.5)
        panel.set_title(name)
        panel.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    with mpl.rc_context({"svg.hashsalt": "voco2d", "svg.fonttype": "none"}):
        drawing.savefig(DRAWING, metadata={"Date": None, "Description": digest(rows)})


def _of(rows: Sequence[Row], figure: Figure) -> list[Row]:
    return [row for row in rows if (row.benchmark, row.figure) == (figure.benchmark, figure.name)]


def _line(figure: Figure, rows: Sequence[Row]) -> str:
    unit = "" if figure.unit in (RATIO, "share", "score") else f" {figure.unit}"
    cells = [f"{row.value}{unit} ({row.date[:10]}, {row.commit})" for row in rows]
    between = ", ".join(f"{row.value}{unit}" for row in rows[1:-1])
    newest = cells[-1] if len(cells) > 1 else ""
    first = cells[0] if cells else "not recorded"
    return f"| {figure.name} | {'lower' if figure.low else 'higher'} | {first} | {newest} | {between} |"


def _machine(tree: Any) -> str:
    """Tell the processor, as far as the file does, and the cores."""
    found = next((name for keys in _MACHINES if isinstance(name := value_of(tree, keys), str)), "")
    cores = next(
        (
            cores
            for keys in (("hardware", "cores"), ("machine", "cores"))
            if (cores := value_of(tree, keys)) is not None
        ),
        None,
    )
    return f"{found}, {cores} cores" if found and cores else found


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(sys.argv[1:])
