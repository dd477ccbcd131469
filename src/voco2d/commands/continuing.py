"""What `--resume` goes on with where nothing else is said."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voco2d.training.continuation import recorded_inputs
from voco2d.training.run_dir import CONFIG_NAME


def base_config(options: argparse.Namespace, default: Any = None) -> Any:
    """Return the preset or file the settings start from: that of `--config`, of the run to be continued, or `default`.

    Args:
        options: With `config`, `resume` and `out`.
        default: Of a run that begins.
    """
    return options.config or own_file(options, CONFIG_NAME) or default


def own_file(options: argparse.Namespace, name: str) -> Path | None:
    """Return a file of the run to be continued; None where there is none, or a run begins."""
    path = Path(options.out, name)
    return path if options.resume and path.is_file() else None


def begun_with(options: argparse.Namespace) -> Mapping[str, str]:
    """Return what the run to be continued was made from, name to path; nothing where a run begins.

    Args:
        options: With `resume` and `out`.
    """
    inputs = recorded_inputs(options.out) if options.resume else {}
    return {name: value for name, value in inputs.items() if value != str(None)}
