"""What a measurement was made on."""

import os
import platform
from pathlib import Path
from typing import Any

from voco2d.version import VERSION, installed_version

_PACKAGES = ("torch", "timm", "monai", "numba")


def hardware() -> dict[str, Any]:
    """Return the processor, its cores, the memory and the versions that a measurement depends on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "platform": platform.platform(),
        "voco2d": VERSION,
        **{name: installed_version(name) for name in _PACKAGES},
    }


def load() -> float:
    """Return how many processes wanted a core in the last minute, on average."""
    return os.getloadavg()[0]


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
