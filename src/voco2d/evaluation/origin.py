"""What the file beside a table of predictions says of whom the backbones have seen before: `<its name>.json`."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

TRANSDUCTIVE: Final = "transductive"
"""Its key: whether pretraining has seen patients who are graded; null where the checkpoint doesn't say."""
ORIGINS: Final = {
    True: "Transductive: pretraining has seen patients that are graded here; never compare with a run that hasn't.",
    False: "No patient graded here was seen in pretraining.",
    None: "The checkpoint doesn't say which patients it has seen; those graded here may be among them.",
}


def origin_path(table: Path) -> Path:
    """Name the file beside a table."""
    return table.with_suffix(".json")


def read_origin(table: Path) -> dict[str, bool | None]:
    """Return `transductive` as the file beside a table says it; empty where nothing has been recorded."""
    try:
        about = json.loads(origin_path(table).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    found = about.get(TRANSDUCTIVE, "") if isinstance(about, dict) else ""
    return {TRANSDUCTIVE: found} if found is None or isinstance(found, bool) else {}


def common_origin(origins: Iterable[dict[str, bool | None]]) -> dict[str, bool | None]:
    """Return what holds for a blend: seen if one has, unknown if one doesn't say; empty where none says anything."""
    listed = list(origins)
    known = [origin.get(TRANSDUCTIVE) for origin in listed]
    if not any(listed):
        return {}
    return {TRANSDUCTIVE: True if True in known else None if None in known else False}


def origin_warnings(origin: dict[str, bool | None]) -> list[str]:
    """Return what has to be told beside scores: nothing where nobody was seen, or nothing has been recorded."""
    return [ORIGINS[seen] for seen in origin.values() if seen is not False]
