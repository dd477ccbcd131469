"""Writers to trackers of experiments, MLflow and Weights & Biases; both keep to this machine unless told otherwise."""

import json
import logging
import math
import os
import secrets
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from voco2d.config import Tree
from voco2d.training.run_dir import Record, write_text

_log = logging.getLogger(__name__)
_PROJECT = "voco2d"
_PARAM_LENGTH = 500
"""Characters of a parameter that every MLflow server takes."""
_QUIET: Mapping[str, str] = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
"""What the trackers would tell their makers is not sent, unless these variables say otherwise."""


def import_tracker(name: str) -> Any:
    """Import `mlflow` or `wandb`.

    Raises:
        ImportError: It is not installed.
    """
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    return import_module(name)


class _Sent:
    """Remembers in the run folder what a tracker knows of the run, since it can't take records back.

    A run that is continued after an abort goes through some steps again, with the same values; they aren't sent twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.id: str = known.get("id", "")
        self._step: int = known.get("step", -1)

    def is_new(self, record: Record) -> bool:
        """Tell whether the record is of a later step than all that were sent."""
        return _step(record) > self._step

    def keep(self, record: Record) -> None:
        """Remember that the record was sent."""
        self._step = _step(record)
        self.save()

    def save(self) -> None:
        """Write what is known; an abort leaves the old file or the new one."""
        write_text(self._path, json.dumps({"id": self.id, "step": self._step}) + "\n")


class MlflowWriter:
    """Records as metrics of an MLflow run: in `mlflow.db` of the run folder, or where MLFLOW_TRACKING_URI says.

    A server that doesn't answer ends the writing, never the run.

    Args:
        run: The run folder.
        config: Plain values of the configuration, which become parameters.
    """

    def __init__(self, run: Path, config: Tree) -> None:
        mlflow: Any = import_tracker("mlflow")
        self._mlflow = mlflow
        self._sent = _Sent(run / "mlflow.json")
        self._writes = True
        self._server = os.environ.get("MLFLOW_TRACKING_URI")
        self._client: Any = mlflow.MlflowClient(self._server or f"sqlite:///{(run / 'mlflow.db').resolve()}")
        try:
            if not self._sent.id:
                self._sent.id = self._begin(run, config)
                self._sent.save()
        except mlflow.exceptions.MlflowException as error:
            self._give_up(error)

    def log(self, record: Record) -> None:
        """Take in a record, unless MLflow has it."""
        if not self._writes or not self._sent.is_new(record):
            return
        now = int(time.time() * 1000)
        metric = self._mlflow.entities.Metric
        metrics = [metric(key, value, now, _step(record)) for key, value in _numbers(record).items()]
        tags = [self._mlflow.entities.RunTag(key, value) for key, value in _texts(record).items()]
        try:
            self._client.log_batch(self._sent.id, metrics=metrics, tags=tags)
        except self._mlflow.exceptions.MlflowException as error:
            self._give_up(error)
        else:
            self._sent.keep(record)

    def close(self) -> None:
        """Mark the run as finished."""
        if not self._writes:
            return
        try:
            self._client.set_terminated(self._sent.id)
        except self._mlflow.exceptions.MlflowException as error:
            self._give_up(error)

    def _begin(self, run: Path, config: Tree) -> str:
        experiment = self._client.get_experiment_by_name(_PROJECT)
        files = None if self._server else (run / "mlflow_artifacts").resolve().as_uri()
        number = experiment.experiment_id if experiment else self._client.create_experiment(_PROJECT, files)
        begun: str = self._client.create_run(number, run_name=run.resolve().name).info.run_id
        for key, value in _flat(config).items():
            self._client.log_param(begun, key, str(value)[:_PARAM_LENGTH])
        return begun

    def _give_up(self, error: Exception) -> None:
        self._writes = False
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        _log.warning("mlflow takes no more records of this run: %s; metrics.jsonl has all of them", first)


class WandbWriter:
    """Records as history of a Weights & Biases run below the run folder.

    Nothing leaves this machine, `wandb sync` sends it later, unless WANDB_MODE or WANDB_API_KEY is set. The machine's
    name, its load and the source code are not recorded.

    Args:
        run: The run folder.
        config: Plain values of the configuration.
    """

    def __init__(self, run: Path, config: Tree) -> None:
        wandb: Any = import_tracker("wandb")
        self._sent = _Sent(run / "wandb.json")
        if not self._sent.id:
            self._sent.id = secrets.token_hex(4)
            self._sent.save()
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=run.resolve().name,
            id=self._sent.id,
            resume="allow",
            dir=str(run),
            config=config,
            mode=mode,
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                silent=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_disable_stats=True,
            ),
        )
        if mode == "offline":
            _log.info("wandb keeps its records in %s; send them with wandb sync", run / "wandb")

    def log(self, record: Record) -> None:
        """Take in a record, unless W&B has it."""
        if self._sent.is_new(record):
            self._run.log({**_numbers(record), **_texts(record)}, step=_step(record))
            self._sent.keep(record)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


def _step(record: Record) -> int:
    step = record["step"]
    assert isinstance(step, int)
    return step


def _numbers(record: Record) -> dict[str, float]:
    """Return the finite numbers but `step`; a bin of a histogram is a number of its own."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, int | float):
            flat[key] = value
        elif value is not None and not isinstance(value, str):
            flat |= {f"{key}/{place:02d}": share for place, share in enumerate(value)}
    return {key: float(value) for key, value in flat.items() if key != "step" and math.isfinite(value)}


def _texts(record: Record) -> dict[str, str]:
    return {key: value for key, value in record.items() if isinstance(value, str)}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give the leaves of a tree dotted names, as `key=value` words have."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
