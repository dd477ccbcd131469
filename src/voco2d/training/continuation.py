"""Makes sure that a run that is continued is still the same run."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from voco2d.config import Tree, to_tree
from voco2d.errors import ConfigError
from voco2d.training.run_dir import ENVIRONMENT_NAME, read_config

_WAY_OUT = "continue with what the run was started with, or choose another --out"
_MEANINGS: Mapping[str, str] = {
    "volumes": " (another store, or other patients are let in than with the --exclude, --hold-out, --cohort or "
    "--labels of before)"
}
"""What a difference in an input comes from, where its name doesn't say."""


def refuse_other_run(
    out: Path, config: Any, may_change: Collection[str], inputs: Mapping[str, str], files: Mapping[str, str]
) -> None:
    """Compare the run in `out`, if there is one, with what it is to be continued with; nothing is written.

    Args:
        out: The run folder.
        config: The resolved configuration, a dataclass.
        may_change: Top-level keys in which the two may differ.
        inputs: Entries of `inputs` in `environment.json` that must be the same.
        files: Files that must hold the same text, where they are there.

    Raises:
        ConfigError: Something differs; the message says what.
    """
    before = read_config(out)
    if before is None:
        return
    changed = [
        f"{key} was {old!r}, now {new!r}"
        for key, old, new in differences(before, to_tree(config))
        if key.split(".")[0] not in may_change
    ]
    recorded = recorded_inputs(out)
    changed += [
        f"{key} was {recorded[key]}, now {new}{_MEANINGS.get(key, '')}"
        for key, new in inputs.items()
        if recorded.get(key, new) != new
    ]
    if changed:
        raise ConfigError(f"{out}: {'; '.join(changed)}; {_WAY_OUT}")
    for name, text in files.items():
        file = out / name
        if file.is_file() and file.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{file}: the patients, labels or folds are others now; {_WAY_OUT}")


def recorded_inputs(out: Path) -> Mapping[str, str]:
    """Return what the run in `out` was made from, name to path or hash; nothing where there is no run."""
    file = out / ENVIRONMENT_NAME
    if not file.is_file():
        return {}
    try:
        environment = json.loads(file.read_text(encoding="utf-8"))
        inputs: Mapping[str, str] = dict(environment["inputs"])
    except (ValueError, KeyError, TypeError):  # damaged: there is nothing to compare with
        return {}
    return inputs


def differences(before: Tree, now: Tree, section: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each key in which two configurations differ, with both values; keys within sections have dots."""
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{section}{key}.")
        elif old != new:
            yield section + key, old, new
