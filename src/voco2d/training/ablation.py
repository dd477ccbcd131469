"""The ablation of 2D-VoCo's corrections: the corrected method, and the same with one of them taken back at a time."""

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from voco2d.data.cohort import patient_digests
from voco2d.errors import ConfigError
from voco2d.methods.voco_args import PAPER_V2, VoCoArgs
from voco2d.store.location import Location
from voco2d.store.volume_store import VolumeStore
from voco2d.training.localisation import measure_localisation
from voco2d.training.pretrain import pretrain
from voco2d.training.pretrain_args import PretrainArgs
from voco2d.training.run_dir import write_text

_log = logging.getLogger(__name__)

_TOGETHER: tuple[tuple[str, ...], ...] = (("momentum", "momentum_schedule"), ("teacher_projector", "teacher_start"))
"""Switches that only make sense together."""


@dataclass(frozen=True)
class Arm:
    """One row of the ablation.

    Args:
        name: `voco2d`, `paper-v2`, or `voco2d without` and the switches that are taken back.
        method: Settings of the method.
    """

    name: str
    method: VoCoArgs


def ablation_arms(base: VoCoArgs) -> tuple[Arm, ...]:
    """Return the corrected method, one arm for each correction that is taken back, and the paper's method.

    Args:
        base: Settings that all arms share, such as the size of crops; its corrections are all on.
    """
    default = VoCoArgs()
    switches = [key for key in PAPER_V2 if PAPER_V2[key] != getattr(default, key)]
    grouped = {key: next((group for group in _TOGETHER if key in group), (key,)) for key in switches}
    groups = dict.fromkeys(tuple(key for key in group if key in switches) for group in grouped.values())
    undone = [
        Arm(f"voco2d without {' and '.join(group)}", replace(base, **{key: PAPER_V2[key] for key in group}))
        for group in groups
    ]
    return (Arm("voco2d", base), *undone, Arm("paper-v2", replace(base, **PAPER_V2)))


def run_ablation(
    store: Location | str, out: Path, args: PretrainArgs, seeds: Sequence[int], held_out: float = 0.2
) -> pd.DataFrame:
    """Pretrain every arm with every seed and measure localisation on patients that none of them saw.

    Runs that are there are kept, and one that was interrupted goes on.

    Args:
        store: Made by `voco2d prepare`.
        out: Folder for the runs, `ablation.csv`, and `held_out.json` (the held-out patients' digests and the arms).
        args: Settings that all arms share; its method is the corrected one.
        seeds: One run each an arm.
        held_out: Share of the patients that is measured on, 0…1.

    Returns:
        A row an arm and seed: arm, seed, changed, steps, localisation_accuracy, low, high (95 % over volumes), chance,
        effective_rank, feature_std, seconds_a_step.

    Raises:
        UsageError: `out` holds something else.
        ConfigError: The method is another.
        StoreError: The store can't be used.
    """
    base = args.method
    if not isinstance(base, VoCoArgs):
        raise ConfigError(f"method.name={base.name}: the ablation is of voco's corrections")
    volumes = VolumeStore(store)
    kept_back = held_out_patients(volumes.index["patient_id"].astype(str), held_out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "held_out.json", json.dumps({"digests": patient_digests(kept_back)}, indent=1) + "\n")
    rows = []
    for arm, seed in _jobs(base, seeds):
        run = out / f"{arm.name.replace(' ', '_')}-seed{seed}"
        _log.info("%s, seed %d", arm.name, seed)
        pretrain(store, run, replace(args, method=arm.method, seed=seed), resume=True, exclude_patients=kept_back)
        rows.append(_measure(arm, seed, run, volumes, kept_back, base, args))
        table = pd.DataFrame(rows)
        write_text(out / "ablation.csv", table.to_csv(index=False))
    return pd.DataFrame(rows)


def held_out_patients(patients: Collection[str], share: float) -> list[str]:
    """Choose a share of the patients by the digests of their ids, so that the choice hangs on nothing else."""
    known = sorted(set(patients), key=lambda patient: patient_digests([patient])[0])
    return sorted(known[: max(round(share * len(known)), 1)])


def _jobs(base: VoCoArgs, seeds: Sequence[int]) -> Iterator[tuple[Arm, int]]:
    """Yield arms seed by seed, so that an ablation that is stopped early still compares all arms."""
    for seed in seeds:
        for arm in ablation_arms(base):
            yield arm, seed


def _measure(
    arm: Arm, seed: int, run: Path, store: VolumeStore, patients: Sequence[str], base: VoCoArgs, args: PretrainArgs
) -> Mapping[str, Any]:
    found = measure_localisation(run, store, patients, chunk=args.chunk)
    low, high = found.interval()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "arm": arm.name,
        "seed": seed,
        "changed": _changed(base, arm.method),
        "steps": args.steps,
        "volumes": len(found.hits),
        "localisation_accuracy": found.accuracy,
        "low": low,
        "high": high,
        "chance": found.chance,
        "effective_rank": found.effective_rank,
        "feature_std": found.feature_std,
        "seconds_a_step": float(np.median([record["seconds"] for record in records])),
    }


def _changed(base: VoCoArgs, other: VoCoArgs) -> str:
    """Spell the keys in which two settings differ, and the values of the second."""
    names = [field.name for field in fields(base)]
    return " ".join(f"{key}={getattr(other, key)}" for key in names if getattr(base, key) != getattr(other, key))
