import json
import math
from pathlib import Path

import pytest

from voco2d.config import resolve
from voco2d.errors import ConfigError, UsageError
from voco2d.training.optim import OptimArgs
from voco2d.training.run_dir import RunDir, lines_backwards, read_config

INPUTS = {"store": "some/store"}


def create(path: Path, kind: str = "pretrain", resume: bool = False) -> RunDir:
    return RunDir.create(path, kind, OptimArgs(lr=0.5), INPUTS, resume)


def test_a_run_tells_its_configuration_and_environment(tmp_path: Path) -> None:
    run = create(tmp_path / "a" / "run")
    assert resolve(OptimArgs, run.path / "config.yaml") == OptimArgs(lr=0.5)
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["kind"] == "pretrain"
    assert environment["inputs"] == INPUTS
    assert environment["resumed"] == []
    assert {"torch", "timm"} <= environment["packages"].keys()


def test_a_folder_in_use_is_left_intact(tmp_path: Path) -> None:
    create(tmp_path / "run")
    with pytest.raises(UsageError, match="continue it with --resume or choose another --out"):
        create(tmp_path / "run")
    with pytest.raises(UsageError, match="holds a run of kind 'pretrain', not 'finetune'"):
        create(tmp_path / "run", kind="finetune", resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(UsageError, match="holds no run"):
            create(tmp_path / "other", resume=resume)
    with pytest.raises(UsageError, match="is a file"):
        create(tmp_path / "other" / "thesis.txt")
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["thesis.txt"]


def test_a_start_that_was_killed_at_once_is_no_run_of_others(tmp_path: Path) -> None:
    (tmp_path / ".environment.json.123.tmp").write_text("{")
    create(tmp_path, resume=True)
    (tmp_path / "config.yaml").unlink()  # the kill came between the two files
    create(tmp_path, resume=True)
    assert (tmp_path / "config.yaml").is_file()


def test_a_resumed_run_remembers_when_it_was_started(tmp_path: Path) -> None:
    started = json.loads((create(tmp_path).path / "environment.json").read_text())["started"]
    create(tmp_path, resume=True)
    create(tmp_path, resume=True)
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["resumed"][0] == started
    assert len(environment["resumed"]) == 2


def test_the_log_is_cut_after_a_step(tmp_path: Path) -> None:
    run = create(tmp_path)
    for step in range(1, 5):
        run.log({"step": step, "loss": math.nan if step == 2 else 0.5, "similarity_histogram": [0.25, 0.75]})
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5, "lo')  # the power went off here
    run.truncate_log(3)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3]
    assert records[1]["loss"] is None
    assert run.read_log() == records


def test_a_complete_line_without_its_end_is_kept(tmp_path: Path) -> None:
    run = create(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}')
    run.truncate_log(2)
    run.log({"step": 3})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_log_is_cut_whatever_lies_behind(tmp_path: Path, kept: int) -> None:
    run = create(tmp_path)
    run.truncate_log(kept)  # there is none yet
    for step in range(1, 5):
        run.log({"step": step})
    with (tmp_path / "metrics.jsonl").open("ab") as stream:
        stream.write(b"\xff\xfe\r[1]\n\n{}")
    run.truncate_log(kept)
    assert run.read_log() == [{"step": step} for step in range(1, kept + 1)]
    assert (tmp_path / "metrics.jsonl").read_bytes().count(b"\n") == kept


@pytest.mark.parametrize("since", [-3, 0, 1, 500, 998, 999, 5000])
def test_the_end_of_a_log_is_read_alone(tmp_path: Path, since: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With lines of all lengths, so that blocks end anywhere in them."""
    run = create(tmp_path)
    records = [{"step": step, "told": "é" * (step % 97)} for step in range(1, 1000)]
    for record in records:
        run.log(record)
    assert run.read_log() == records
    parsed: list[str] = []
    parse = json.loads
    monkeypatch.setattr(json, "loads", lambda text: parsed.append(text) or parse(text))
    wanted = [record for record in records if record["step"] >= since]
    assert run.read_log(since) == records[max(len(records) - len(wanted) - 1, 0) :]
    assert len(parsed) <= len(wanted) + 1
    parsed.clear()
    run.truncate_log(990)
    assert len(parsed) == 10


def test_lines_come_backwards_whatever_is_read_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes("eins\n\nzwölf\ndrei".encode())
    whole = list(lines_backwards(file))
    assert whole == [(17, "drei"), (13, "zwölf\n"), (6, "\n"), (5, "eins\n")]
    for block in range(1, 18):
        assert list(lines_backwards(file, block)) == whole


def test_a_missing_configuration_is_none_and_a_damaged_one_an_error(tmp_path: Path) -> None:
    assert read_config(tmp_path) is None
    (tmp_path / "config.yaml").write_text("- a\n- b\n")
    with pytest.raises(UsageError, match="damaged"):
        read_config(tmp_path)


def test_a_run_of_another_schema_is_refused_and_not_compared(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    assert (run.path / "config.yaml").read_text().startswith("schema: 1\n")
    assert "schema" not in (read_config(run.path) or {})
    (run.path / "config.yaml").write_text("schema: 2\nlr: 0.5\n")
    with pytest.raises(ConfigError, match="is of schema 2"):
        read_config(run.path)
