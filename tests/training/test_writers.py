import json
import logging
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from voco2d.errors import UsageError
from voco2d.training.run_dir import Record
from voco2d.training.writers import TENSORBOARD_NAME, check_writers, open_writers

CONFIG = {"steps": 5, "optim": {"lr": 1e-3}}


def record(step: int, **other: Any) -> Record:
    return {"step": step, "loss": 1 / step, "grad_norm": None, "similarity_histogram": [0.25, 0.75], **other}


def write(names: Any, run: Path, start: int, stop: int, **other: Any) -> None:
    with open_writers(names, run, CONFIG, start) as log:
        for step in range(start + 1, stop + 1):
            log(record(step, **other))


def events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run / TENSORBOARD_NAME), size_guidance={"scalars": 0, "histograms": 0}).Reload()


def test_tensorboard_has_numbers_histograms_and_texts(tmp_path: Path) -> None:
    write(("tensorboard",), tmp_path, 0, 2, alarm="collapse", probe_auroc=float("nan"))
    read = events(tmp_path)
    assert read.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [(1, 1.0), (2, 0.5)]
    shares = read.Histograms("similarity_histogram")[0].histogram_value
    assert list(shares.bucket_limit) == [0.0, 1.0]
    assert list(shares.bucket) == [0.25, 0.75]
    assert read.Tensors("alarm/text_summary")[0].tensor_proto.string_val[0] == b"collapse"


def test_tensorboard_goes_on_without_duplicates(tmp_path: Path) -> None:
    write(("tensorboard",), tmp_path, 0, 5)
    write(("tensorboard",), tmp_path, 3, 7)
    assert [event.step for event in events(tmp_path).Scalars("loss")] == [1, 2, 3, 4, 5, 6, 7]


def test_a_record_is_on_disk_before_the_end(tmp_path: Path) -> None:
    with open_writers(("tensorboard",), tmp_path, CONFIG, 0) as log:
        log(record(1))
        assert len(events(tmp_path).Scalars("loss")) == 1


class Tracker(ModuleType):
    """Takes the place of a package and remembers what it is told; what it holds outlives a run, as a server does."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def told(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(words, keys) for called, words, keys in self.calls if called == name]

    def recorder(self, name: str, answer: Any = None) -> Any:
        def call(*words: Any, **keys: Any) -> Any:
            self.calls.append((name, words, keys))
            return answer

        return call


class TrackerError(Exception):
    pass


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    module = Tracker("mlflow")
    client = SimpleNamespace(
        get_experiment_by_name=module.recorder("get_experiment_by_name"),
        create_experiment=module.recorder("create_experiment", "1"),
        create_run=module.recorder("create_run", SimpleNamespace(info=SimpleNamespace(run_id="r1"))),
        log_param=module.recorder("log_param"),
        log_batch=module.recorder("log_batch"),
        set_terminated=module.recorder("set_terminated"),
    )
    parts: dict[str, Any] = {
        "client": client,
        "MlflowClient": module.recorder("MlflowClient", client),
        "entities": SimpleNamespace(Metric=lambda *parts: parts, RunTag=lambda *parts: parts),
        "exceptions": SimpleNamespace(MlflowException=TrackerError),
    }
    vars(module).update(parts)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    for variable in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    module = Tracker("wandb")
    run = SimpleNamespace(log=module.recorder("log"), finish=module.recorder("finish"))
    vars(module).update({"init": module.recorder("init", run), "Settings": dict})
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_mlflow_keeps_to_the_run_folder_and_goes_on_without_duplicates(tmp_path: Path, mlflow: Tracker) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write(("mlflow",), run, 0, 5, alarm="collapse")
    write(("mlflow",), run, 3, 4)  # broken off again before it reached what had been sent
    write(("mlflow",), run, 3, 7)
    assert mlflow.told("MlflowClient")[0][0] == (f"sqlite:///{run / 'mlflow.db'}",)
    assert len(mlflow.told("create_run")) == 1
    assert [words for words, _ in mlflow.told("log_param")] == [("r1", "steps", "5"), ("r1", "optim.lr", "0.001")]
    batches = mlflow.told("log_batch")
    metrics = {(key, step): value for _, keys in batches for key, value, _, step in keys["metrics"]}
    assert [step for key, step in metrics if key == "loss"] == [1, 2, 3, 4, 5, 6, 7]
    assert metrics["loss", 2] == 0.5
    assert metrics["similarity_histogram/01", 7] == 0.75
    assert {key for key, _ in metrics} == {"loss", "similarity_histogram/00", "similarity_histogram/01"}
    assert batches[0][1]["tags"] == [("alarm", "collapse")]
    assert len(mlflow.told("set_terminated")) == 3
    assert json.loads((run / "mlflow.json").read_text()) == {"id": "r1", "step": 7}


def test_mlflow_writes_to_a_server_that_is_named(
    tmp_path: Path, mlflow: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker.example")
    write(("mlflow",), tmp_path, 0, 1)
    assert mlflow.told("MlflowClient")[0][0] == ("http://tracker.example",)
    assert mlflow.told("create_experiment")[0][0] == ("voco2d", None)


@pytest.mark.parametrize("broken", ["create_run", "log_batch", "set_terminated"])
def test_a_server_that_fails_ends_the_writing_and_not_the_run(
    tmp_path: Path, mlflow: Tracker, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        mlflow.calls.append((broken, (), {}))
        raise TrackerError("no answer\nfrom the server")

    setattr(vars(mlflow)["client"], broken, fail)
    with caplog.at_level(logging.WARNING):
        write(("mlflow",), tmp_path, 0, 4)
    assert [entry.getMessage() for entry in caplog.records] == [
        "mlflow takes no more records of this run: no answer; metrics.jsonl has all of them"
    ]
    assert len(mlflow.told(broken)) == 1


def test_wandb_stays_offline_and_goes_on_without_duplicates(
    tmp_path: Path, wandb: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        write(("wandb",), tmp_path, 0, 5, alarm="collapse")
        write(("wandb",), tmp_path, 3, 7)
    first, second = (keys for _, keys in wandb.told("init"))
    assert first["mode"] == second["mode"] == "offline"
    assert first["id"] == second["id"] == json.loads((tmp_path / "wandb.json").read_text())["id"]
    assert first["config"] == CONFIG
    assert first["dir"] == str(tmp_path)
    assert first["settings"]["x_disable_meta"]
    logs = wandb.told("log")
    assert [keys["step"] for _, keys in logs] == [1, 2, 3, 4, 5, 6, 7]
    assert logs[1][0][0] == {
        "loss": 0.5,
        "similarity_histogram/00": 0.25,
        "similarity_histogram/01": 0.75,
        "alarm": "collapse",
    }
    assert len(wandb.told("finish")) == 2
    assert "send them with wandb sync" in caplog.text


@pytest.mark.parametrize(
    ("variables", "mode"),
    [
        ({"WANDB_API_KEY": "0"}, "online"),
        ({"WANDB_MODE": "disabled", "WANDB_API_KEY": "0"}, "disabled"),
        ({"WANDB_MODE": "online"}, "online"),
    ],
)
def test_wandb_sends_when_it_is_told_to(
    tmp_path: Path, wandb: Tracker, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], mode: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    write(("wandb",), tmp_path, 0, 1)
    assert wandb.told("init")[0][1]["mode"] == mode


def test_trackers_tell_their_makers_nothing(
    tmp_path: Path, wandb: Tracker, mlflow: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    del wandb, mlflow
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "true")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    write(("wandb", "mlflow"), tmp_path, 0, 1)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["WANDB_ERROR_REPORTING"] == "true"  # what the user set stays


def test_writers_are_closed_when_a_run_breaks(tmp_path: Path, wandb: Tracker) -> None:
    with pytest.raises(RuntimeError, match="broken"), open_writers(("wandb",), tmp_path, CONFIG, 0):
        raise RuntimeError("broken")
    assert wandb.told("finish")


@pytest.mark.parametrize(
    ("name", "module", "install"),
    [
        ("mlflow", "mlflow", r'pip install "voco2d\[tracking\]"'),
        ("wandb", "wandb", r'pip install "voco2d\[tracking\]"'),
        ("tensorboard", "torch.utils.tensorboard", "pip install tensorboard"),
    ],
)
def test_a_missing_package_names_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any, module: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=f"writers={name} needs .* {install}"):
        check_writers((name,))
    with pytest.raises(UsageError, match=install), open_writers((name,), tmp_path, CONFIG, 0):
        pass
    assert not list(tmp_path.iterdir())


def test_no_writers_are_fine(tmp_path: Path) -> None:
    write((), tmp_path, 0, 2)
    assert not list(tmp_path.iterdir())
