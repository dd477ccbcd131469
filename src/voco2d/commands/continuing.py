"""What `--resume` goes on with where nothing else is said."""

import argparse
from pathlib import Path
from typing import Any

from voco2d.training.run_dir import CONFIG_NAME


def base_config(options: argparse.Namespace, default: Any = None) -> Any:
    """Return the preset or file the settings start from: that of `--config`, of the run to be continued, or `default`.

    Args:
        options: With `config`, `resume` and `out`.
        default: Of a run that begins.
    """
    own = Path(options.out, CONFIG_NAME)
    if options.config is None and options.resume and own.is_file():
        return own
    return options.config or default
