"""Reads the files of a study that its tables and page are made of."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.study_analysis import KEYS, check_study
from voco2d.targets import RSNA_2023, TargetSet

_FOUND: Final = "predictions*.csv.gz"
_TOLD: Final = ("configuration", "patients", "command", "compute", "class_shares")


def read_study_predictions(out: Path, targets: TargetSet = RSNA_2023) -> pd.DataFrame:
    """Read every `predictions*.csv.gz` of a study's folder as one table.

    Raises:
        UsageError: There is none.
        LabelError: One can't be used, or two hold the same patient of the same model.
    """
    files = sorted(out.glob(_FOUND))
    if not files:
        raise UsageError(f"{out}: holds no {_FOUND}; run the study before its tables")
    tables = []
    for file in files:
        try:
            found = pd.read_csv(file, dtype={"patient_id": str, "seed": str, "arm": str, "fraction": float})
            tables.append(check_study(found, str(file), targets))
        except (ValueError, OSError, EOFError) as error:
            raise LabelError(f"{file}: not a compressed CSV table; run the study's command again") from error
    _refuse_repeats(files, tables)
    return pd.concat(tables, ignore_index=True)


def _refuse_repeats(files: Sequence[Path], tables: Sequence[pd.DataFrame]) -> None:
    """Refuse rows that two files share: two versions of a prediction would be taken as two series of a patient."""
    keys = pd.concat([table[[*KEYS, "patient_id"]] for table in tables], keys=range(len(files)))
    twice = keys.duplicated().to_numpy()
    if twice.any():
        place = keys.index[twice][0][0]
        row = keys[twice].iloc[0]
        raise LabelError(
            f"{files[place]}: repeats patients that another {_FOUND} has of arm {row['arm']}, fraction "
            f"{row['fraction']:g}, seed {row['seed']}; take the file that isn't of this study out of the folder"
        )


def read_account(out: Path) -> dict[str, Any]:
    """Read what a study tells of itself, `study.json`.

    Raises:
        UsageError: It is missing, damaged or of another kind.
    """
    file = out / "study.json"
    if not file.is_file():
        raise UsageError(f"{file}: no such file; name the folder of a study that is done")
    way_out = "run the study's command again, which writes it anew"
    try:
        about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{file}: not JSON ({error}); {way_out}") from error
    found = about if isinstance(about, dict) else {}
    lacking = [key for key in _TOLD if key not in found]
    configuration = found.get("configuration")
    known = configuration if isinstance(configuration, dict) else {}
    lacking += [
        f"configuration.{key}" for key in ("analysis", "split", "cohort") if not isinstance(known.get(key), dict)
    ]
    if lacking:
        raise UsageError(f"{file}: lacks {', '.join(lacking)}; {way_out}")
    return about
