"""`voco2d serve`: what it refuses, in one sentence."""

import socket
from pathlib import Path

import pytest

from voco2d.cli import build_parser, main
from voco2d.commands.serve import _args


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return ["serve", "--model", str(tmp_path / "run"), "--state", str(tmp_path / "state")]


def test_without_a_token_only_this_machine_is_served(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--no-auth", "--host", "0.0.0.0"]) == 2
    assert "without a token only this machine may call" in capsys.readouterr().err


def test_an_address_that_is_taken_is_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert main([*words, "--port", str(other.getsockname()[1])]) == 2
    assert "can't listen there" in capsys.readouterr().err


def test_a_model_that_is_missing_ends_the_start(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--port", "0"]) == 2  # the worker's process found it, and this one tells
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert str(Path(words[2])) in said.err
    assert "token" not in said.out
    assert not (Path(words[4]) / "token.sha256").exists()  # one that nobody was shown would be of no use


def test_options_become_limits(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCO2D_DATABASE", "postgresql+psycopg://host/name")
    given = ["--max-upload-mb", "3", "--max-unpacked-mb", "5", "--max-files", "7", "--keep-hours", "0.5", "--port", "0"]
    args = _args(build_parser().parse_args([*words, *given]))
    assert (args.limits.upload_bytes, args.limits.unpacked_bytes, args.limits.files) == (3 * 2**20, 5 * 2**20, 7)
    assert (args.keep_h, args.port, args.auth, args.host) == (0.5, 0, True, "127.0.0.1")
    assert args.database_url == "postgresql+psycopg://host/name"
