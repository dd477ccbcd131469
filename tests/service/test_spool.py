import json
from pathlib import Path

import pytest

from voco2d.errors import UsageError
from voco2d.service.audit import Audit, digest_of
from voco2d.service.spool import Spool, SpoolFullError


def test_an_image_is_kept_as_a_whole_under_names_that_tell_nothing(spool):
    digest = spool.add("1.2.3", "1.2.3.4", "1.2.3.4.5", lambda path: path.write_bytes(b"image"))
    (kept,) = (path for path in (spool.folder / "images").rglob("*") if path.is_file())
    assert kept.read_bytes() == b"image"
    assert kept.parent.name == digest == digest_of("1.2.3")
    assert "1.2.3" not in str(kept.relative_to(spool.folder))
    assert spool.folder.stat().st_mode & 0o777 == 0o700


def test_the_same_image_replaces_itself_and_another_series_of_the_same_instance_uid_does_not(spool):
    for series in ("1.1", "1.1", "1.2"):
        spool.add("1", series, "9", lambda path: path.write_bytes(b"x"))
    assert len(list(spool.images(digest_of("1")).iterdir())) == 2


def test_an_image_that_comes_again_as_it_was_makes_no_new_version(spool, clock):
    def taken(content: bytes):
        spool.add("1", "1.1", "9", lambda path: path.write_bytes(content))
        clock.now += 10
        digest, version = spool.ledger.take(5.0)
        spool.ledger.finish(digest, version, "", [], [])
        return version

    assert [taken(content) for content in (b"x", b"x", b"y", b"y")] == [1, 1, 2, 2]


def test_a_write_that_fails_leaves_nothing_behind(spool):
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        spool.add("1", "1.1", "9", fail)
    assert [path for path in spool.folder.rglob("*") if path.is_file() and path.suffix == ".dcm"] == []
    assert list((spool.folder / "incoming").iterdir()) == []
    assert spool.ledger.counts() == {}


def test_a_full_spool_takes_nothing_more(tmp_path):
    small = Spool(tmp_path, 10)
    small.add("1", "1.1", "1", lambda path: path.write_bytes(b"x" * 10))
    with pytest.raises(SpoolFullError, match="the most allowed"):
        small.add("1", "1.1", "2", lambda path: path.write_bytes(b"x"))
    small.close()


def test_room_is_made_by_forgetting(tmp_path, clock):
    small = Spool(tmp_path, 10, clock)
    small.add("1", "1.1", "1", lambda path: path.write_bytes(b"x" * 10))
    clock.now += 100
    digest, version = small.ledger.take(1.0)
    small.ledger.finish(digest, version, "", [], [])
    assert small.forget(50.0) == 1
    small.add("2", "2.1", "1", lambda path: path.write_bytes(b"x"))
    small.close()


def test_results_appear_all_at_once_and_an_attempt_that_a_crash_ended_is_replaced(spool):
    spool.write_results("d", 1, {"a.dcm": b"old"})
    paths = spool.write_results("d", 1, {"a.dcm": b"1", "b.json": b"2"})
    assert [(spool.folder / path).read_bytes() for path in paths] == [b"1", b"2"]


def test_two_nodes_do_not_share_a_spool(spool):
    with pytest.raises(UsageError, match="another node uses it"):
        Spool(spool.folder, 10**9)


def test_a_new_start_removes_what_was_cut_short(tmp_path):
    Spool(tmp_path, 10**9).close()
    (tmp_path / "incoming" / "half").write_bytes(b"x")
    (tmp_path / "incoming" / "half.results").mkdir()
    Spool(tmp_path, 10**9).close()
    assert list((tmp_path / "incoming").iterdir()) == []


def test_the_audit_tells_who_and_what_without_identifiers(tmp_path):
    audit = Audit(tmp_path / "audit.jsonl")
    audit.note("stored", "SCANNER\n1", "1.2.840.99")
    line = json.loads((tmp_path / "audit.jsonl").read_text())
    assert line["caller"] == "SCANNER1"
    assert line["study"] == digest_of("1.2.840.99")
    assert "1.2.840" not in (tmp_path / "audit.jsonl").read_text()
