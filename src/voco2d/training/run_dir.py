"""The folder of one training run: its configuration, its environment and its metrics."""

import importlib.metadata
import json
import math
import os
import platform
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from voco2d.config import Tree, to_yaml
from voco2d.config_tree import SCHEMA, SCHEMA_KEY, check_schema
from voco2d.durable import write_durably
from voco2d.errors import UsageError
from voco2d.version import VERSION

CONFIG_NAME = "config.yaml"
ENVIRONMENT_NAME = "environment.json"
METRICS_NAME = "metrics.jsonl"

_PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "pandas", "scikit-learn", "safetensors")

Entry = float | int | str | None | Sequence[float]
Record = Mapping[str, Entry]


@dataclass(frozen=True)
class RunDir:
    """A run folder that was created or opened for continuation.

    Args:
        path: The folder.
    """

    path: Path

    @classmethod
    def create(cls, path: Path, kind: str, config: Any, inputs: Mapping[str, str], resume: bool) -> "RunDir":
        """Make the folder and write `config.yaml` and `environment.json` into it.

        Args:
            path: Where the run goes.
            kind: What kind of run it is, `pretrain` or `finetune`.
            config: The resolved configuration, a dataclass.
            inputs: What the run was made from, name to path or hash.
            resume: Whether an existing run may be continued; a folder without one is simply started.

        Raises:
            UsageError: The folder holds something and `resume` is off, it holds another kind of run, or it is a file.
        """
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; name a folder for the run")
        begun = _read_environment(path)
        if resume and begun is not None and begun.get("kind") != kind:
            raise UsageError(f"{path} holds a run of kind {begun.get('kind')!r}, not {kind!r}; choose another --out")
        occupied = path.is_dir() and not all(_is_left_over(file) for file in path.iterdir())
        if occupied and not (resume and begun is not None):
            way_out = "choose another --out" if resume else "continue it with --resume or choose another --out"
            raise UsageError(f"{path} is not empty{' and holds no run' if begun is None else ''}; {way_out}")
        path.mkdir(parents=True, exist_ok=True)
        about = {"kind": kind, "inputs": dict(inputs), **environment(), "resumed": _resumptions(begun)}
        # the environment comes first: a folder without it is taken for somebody else's
        write_text(path / ENVIRONMENT_NAME, json.dumps(about, indent=2) + "\n")
        write_text(path / CONFIG_NAME, to_yaml(config))
        return cls(path)

    def log(self, record: Record) -> None:
        """Append one line to `metrics.jsonl`; a value that is not finite is written as null."""
        line = {key: _finite_or_none(value) for key, value in record.items()}
        with (self.path / METRICS_NAME).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, allow_nan=False) + "\n")

    def read_log(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the records of `metrics.jsonl`; a line cut by an abort is left out.

        Args:
            since: Of a log in the order of steps: records of this step and later ones, and the last one before. What
                comes before that is not read.
        """
        file = self.path / METRICS_NAME
        if not file.is_file():
            return []
        records = []
        for _, line in lines_backwards(file):
            record = _parse(line)
            if record is not None:
                records.append(record)
                if record.get("step", since) < since:
                    break
        return records[::-1]

    def keep_log(self, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Keep the records for which `wanted` is true and drop the others and cut lines."""
        kept = [json.dumps(record) + "\n" for record in self.read_log() if wanted(record)]
        write_text(self.path / METRICS_NAME, "".join(kept))

    def truncate_log(self, step: int) -> None:
        """Drop the records after `step`, which a resumed run writes again, and a cut line among them."""
        file = self.path / METRICS_NAME
        if not file.is_file():
            return
        kept = (end for end, line in lines_backwards(file) if (_parse(line) or {}).get("step", step + 1) <= step)
        with file.open("r+b") as stream:
            end = next(kept, 0)
            stream.truncate(end)
            stream.seek(max(end - 1, 0))
            if end and stream.read(1) != b"\n":
                stream.write(b"\n")


def read_config(path: Path) -> Tree | None:
    """Return the plain values of a run's `config.yaml`, or None where there is no run.

    Raises:
        UsageError: The file is damaged.
        ConfigError: It is of another schema.
    """
    file = path / CONFIG_NAME
    if not file.is_file():
        return None
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: damaged; choose another --out") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{file}: damaged; choose another --out")
    check_schema(tree.pop(SCHEMA_KEY, SCHEMA), str(file))
    return tree


def lines_backwards(file: Path, block: int = 1 << 16) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file, the last one first, reading no more than is asked for.

    Args:
        file: Text in UTF-8; what isn't is replaced.
        block: Bytes that are read at a time.

    Yields:
        The byte at which the line ends, its line feed included, and its text.
    """
    with file.open("rb") as stream:
        begin = size = stream.seek(0, os.SEEK_END)
        rest = b""  # the end of a line whose beginning is not read yet
        while begin > 0:
            step = min(block, begin)
            begin -= step
            stream.seek(begin)
            rest = stream.read(step) + rest
            if begin:
                first, feed, whole = rest.partition(b"\n")
                if not feed:
                    continue
            else:
                first, feed, whole = b"", b"", rest
            end = begin + len(rest)
            for line in reversed(_lines(whole)):
                yield min(end, size), line.decode(errors="replace")
                end -= len(line)
            rest = first + feed


def write_text(path: Path, text: str) -> None:
    """Write a text file so that an abort leaves the old one or the new one, never half of it."""
    write_durably(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def environment() -> dict[str, Any]:
    """Describe versions and hardware, and when that was."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "voco2d": VERSION,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def _lines(text: bytes) -> list[bytes]:
    """Split at line feeds alone, each of which stays with its line."""
    *whole, last = text.split(b"\n")
    return [line + b"\n" for line in whole] + ([last] if last else [])


def _is_left_over(file: Path) -> bool:
    """Tell whether a file is what `write_text` leaves when it is killed."""
    return file.name.startswith(".") and file.name.endswith(".tmp")


def _read_environment(path: Path) -> dict[str, Any] | None:
    file = path / ENVIRONMENT_NAME
    return _parse(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else None


def _resumptions(begun: Mapping[str, Any] | None) -> list[str]:
    """List when the earlier parts of this run were started."""
    return [] if begun is None else [*begun.get("resumed", []), str(begun.get("started"))]


def _parse(text: str) -> dict[str, Any] | None:
    try:
        record = json.loads(text)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def _finite_or_none(value: Entry) -> Entry:
    return None if isinstance(value, float) and not math.isfinite(value) else value
