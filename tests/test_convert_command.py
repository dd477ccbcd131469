import json
from pathlib import Path

import pytest
import timm
import torch

from voco2d.cli import main

NAME = "test_resnet"


def save(path: Path, **changes: torch.Tensor) -> Path:
    torch.save(timm.create_model(NAME, in_chans=3, num_classes=10).state_dict() | changes, path)
    return path


def test_a_file_is_converted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, dest = save(tmp_path / "c.pth"), tmp_path / "out.safetensors"
    assert main(["convert", str(source), "--out", str(dest), "--backbone", NAME]) == 0
    told = capsys.readouterr().out
    assert "first convolution: 3 channels summed to 1" in told
    assert "left out, no part of the backbone: 2 tensors" in told
    assert f'checkpoint_path="{dest}"' in told
    assert dest.is_file()


def test_what_did_not_match_is_listed_with_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "c.pth", **{"layer9.weight": torch.ones(1), "bn1.weight": torch.ones(1)})
    command = ["convert", str(source), "--out", str(tmp_path / "hub"), "--to", "hf", "--backbone", NAME]
    assert main(command) == 1
    told = capsys.readouterr().out
    assert "  unexpected: layer9.weight" in told
    assert "nothing written" in told
    assert main([*command, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["complete"]
    assert "layer9.weight" in found["unexpected"]
    assert not (tmp_path / "hub").exists()


def test_json_is_all_that_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "c.pth")
    command = ["convert", str(source), "--out", str(tmp_path / "hub"), "--to", "hf", "--backbone", NAME, "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["complete"]
    assert found["channels"] == [3, 1]
    assert [Path(name).name for name in found["written"]] == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--license", "mine: yes"], 2, "give an SPDX id"),
        (["--in-chans", "0"], 2, "at least one channel"),
        (["--backbone", "resnet0"], 2, "timm has no backbone 'resnet0'"),
        ([], 1, "doesn't say which architecture it holds"),
    ],
)
def test_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    source = save(tmp_path / "c.pth")
    assert main(["convert", str(source), "--out", str(tmp_path / "o.safetensors"), *words]) == code
    assert message in capsys.readouterr().err


def test_a_foreign_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scan.pth").write_text("no weights")
    assert main(["convert", str(tmp_path / "scan.pth"), "--out", str(tmp_path / "o.safetensors")]) == 1
    error = capsys.readouterr().err
    assert "scan.pth" in error
    assert error.count("\n") == 1
