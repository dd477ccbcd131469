"""`voco2d info`: what a bug report should hold; doesn't import torch."""

import argparse
import json
import os
import platform
import subprocess

from voco2d.version import VERSION, installed_version

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "lightning-fabric",
    "numpy",
    "numba",
    "pandas",
    "pydicom",
    "pylibjpeg",
    "nibabel",
)


def run(options: argparse.Namespace) -> int:
    """Print versions and hardware."""
    facts = {
        "voco2d": VERSION,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": str(os.cpu_count()),
        "gpu": _gpus(),
        **{name: installed_version(name) or "not installed" for name in _PACKAGES},
    }
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name:18}{value}")
    return 0


def _gpus() -> str:
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "none found"
    return "; ".join(listing.stdout.split("\n")).strip("; ") or "none found"
