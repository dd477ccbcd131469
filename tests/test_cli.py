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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["prepare", "x", "--out", "y", "--bogus"], "unrecognized arguments: --bogus; see voco2d prepare --help"),
        (["cohort", "x", "--out", "y", "folds=3"], "unrecognized arguments: folds=3; see voco2d cohort --help"),
        (
            ["prepare", "x", "--out", "y", "--workers", "many"],
            "argument --workers: 'many' is not a whole number of at least 0",
        ),
        (
            ["prepare", "x", "--out", "y", "--workers", "-1"],
            "argument --workers: '-1' is not a whole number of at least 0",
        ),
    ],
)
def test_wrong_words_show_the_usage_of_their_command(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert f"usage: voco2d {words[0]} " in error
    assert error.splitlines()[-1] == f"voco2d {words[0]}: error: {told}"


def test_help_says_what_no_workers_mean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    assert "0 starts one a core" in " ".join(capsys.readouterr().out.split())


def test_who_reads_no_further_ends_a_command_without_a_word() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "voco2d", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error) == (141, "")
