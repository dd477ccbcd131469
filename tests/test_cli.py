"""The command line answers quickly, and wrong use ends with one sentence and the right code."""

import subprocess
import sys
from pathlib import Path

import pytest

from voco2d.cli import main


@pytest.mark.parametrize("words", [["--help"], ["info"], ["info", "--json"]])
def test_light_commands_do_not_import_torch(words: list[str]) -> None:
    script = f"""
import sys
from voco2d.cli import main
try:
    main({words!r})
except SystemExit:
    pass
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_evaluate_does_not_import_torch() -> None:
    script = "import sys; import voco2d.commands.evaluate\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("words", [[], ["fly"], ["prepare"], ["prepare", "x"], ["pretrain", "x", "--outt", "y"]])
def test_wrong_use_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "usage: voco2d" in capsys.readouterr().err


def test_a_missing_folder_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["prepare", str(tmp_path / "nowhere"), "--out", str(tmp_path / "store")])
    assert code == 2
    error = capsys.readouterr().err
    assert "nowhere" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_an_unknown_key_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["pretrain", str(tmp_path), "--out", str(tmp_path / "run"), "stepz=20"])
    assert code == 2
    assert "steps" in capsys.readouterr().err
