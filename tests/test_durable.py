import os
from pathlib import Path

import pytest

from voco2d.durable import write_durably


def test_content_and_name_reach_the_disk_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    sync, rename = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        happened.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().suffix or 'folder'}")
        sync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        happened.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_durably(tmp_path / "a.bin", lambda file: file.write_bytes(b"new"))
    assert happened == ["sync .tmp", "rename", "sync folder"]
    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_a_file_has_the_rights_of_the_umask_whoever_writes_it(tmp_path: Path) -> None:
    def for_nobody_else(file: Path) -> None:
        file.unlink()
        file.touch(0o600)

    usual = tmp_path / "usual"
    usual.touch()
    write_durably(tmp_path / "a.bin", for_nobody_else)
    assert (tmp_path / "a.bin").stat().st_mode == usual.stat().st_mode


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")

    def half(file: Path) -> None:
        file.write_bytes(b"ne")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_durably(tmp_path / "a.bin", half)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.bin": b"old"}


def test_a_folder_that_refuses_to_be_synced_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def synced(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path:
            raise OSError(22, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    write_durably(tmp_path / "a.bin", lambda file: file.write_bytes(b"new"))
    assert (tmp_path / "a.bin").read_bytes() == b"new"
