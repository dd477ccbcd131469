import json
import shutil
import threading
from pathlib import Path

import pytest

from voco2d.errors import UsageError
from voco2d.service.audit import Audit, digest_of
from voco2d.service.spool import Spool, SpoolFullError


class Killed(BaseException):
    """Ends a program in the middle of a step."""


def _die(*_args, **_more):
    raise Killed


def _add(spool: Spool, instance: str, content: bytes = b"x") -> str:
    return spool.add("1", "1.1", instance, lambda path: path.write_bytes(content))


def _answered(spool: Spool, clock) -> int:
    """Answer the only study, and return the version that was graded."""
    clock.now += 10
    digest, version = spool.take(5.0)
    spool.ledger.finish(digest, version, "", [], [])
    return version


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
        _add(spool, "9", content)
        return _answered(spool, clock)

    assert [taken(content) for content in (b"x", b"x", b"y", b"y")] == [1, 1, 2, 2]


@pytest.mark.parametrize("step", ["voco2d.service.spool.Ledger.image", "pathlib.Path.replace"])
def test_a_kill_while_an_image_is_noted_leaves_no_answer_its_uids_with_other_images(spool, clock, monkeypatch, step):
    """The sender repeats the image that it was not told of, which was no news where it had been moved already."""
    _add(spool, "1")
    assert _answered(spool, clock) == 1
    with monkeypatch.context() as patched:
        patched.setattr(step, _die)
        with pytest.raises(Killed):
            _add(spool, "2")
    spool.close()
    again = Spool(spool.folder, 10**9, clock)
    assert again.ledger.counts() == {"graded": 1}
    _add(again, "2")
    assert _answered(again, clock) == 2
    assert len(list(again.images(digest_of("1")).iterdir())) == 2
    again.close()


def test_a_study_that_grows_while_it_is_graded_is_a_new_version_even_if_the_image_could_not_be_kept(
    spool, clock, monkeypatch
):
    _add(spool, "1")
    clock.now += 10
    digest, version = spool.take(5.0)
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.replace", _die)
        with pytest.raises(Killed):
            _add(spool, "2")
    assert not spool.ledger.finish(digest, version, "", [], [])
    assert spool.take(5.0) == (digest, 2)


def test_an_image_that_comes_while_its_study_is_forgotten_is_kept(spool, clock, monkeypatch):
    _add(spool, "1")
    _answered(spool, clock)
    clock.now += 100
    late = threading.Thread(target=_add, args=(spool, "2"))
    listed = spool.ledger.forgettable

    def meanwhile(keep_s):
        found = listed(keep_s)
        late.start()
        late.join(0.3)
        return found

    monkeypatch.setattr(spool.ledger, "forgettable", meanwhile)
    assert spool.forget(50.0) == 1
    late.join()
    assert len(list(spool.images(digest_of("1")).iterdir())) == 1
    assert spool.ledger.counts() == {"receiving": 1}


def test_a_kill_while_a_study_is_forgotten_leaves_all_of_it_or_nothing(spool, clock, monkeypatch):
    for instance in "12":
        _add(spool, instance)
    _answered(spool, clock)
    clock.now += 100
    monkeypatch.setattr(shutil, "rmtree", _die)
    with pytest.raises(Killed):
        spool.forget(50.0)
    monkeypatch.undo()
    _add(spool, "3")
    spool.close()
    again = Spool(spool.folder, 10**9, clock)
    assert len(list(again.images(digest_of("1")).iterdir())) == 1
    assert list(again.incoming.iterdir()) == []
    again.close()


def test_images_of_which_nothing_is_noted_are_graded_and_forgotten_like_others(spool, clock, monkeypatch):
    """A kill before the note left them, and names in them, for ever; a ledger that was deleted is replaced."""
    with monkeypatch.context() as patched:
        patched.setattr("voco2d.service.spool.Ledger.image", _die)
        with pytest.raises(Killed):
            _add(spool, "1")
    spool.close()
    for _ in range(2):  # a start changes nothing of what is noted
        again = Spool(spool.folder, 10**9, clock)
        again.close()
    again = Spool(spool.folder, 10**9, clock)
    assert _answered(again, clock) == 1
    clock.now += 100
    assert again.forget(50.0) == 1
    again.close()
    again = Spool(spool.folder, 10**9, clock)
    assert again.ledger.counts() == {"graded": 1}
    again.close()


def test_a_note_of_an_image_that_a_power_cut_took_is_struck_and_an_answered_study_stays(spool, clock):
    _add(spool, "1")
    _answered(spool, clock)
    shutil.rmtree(spool.images(digest_of("1")))
    spool.ledger.image("lost")
    spool.close()
    again = Spool(spool.folder, 10**9, clock)
    assert again.ledger.counts() == {"graded": 1}
    again.close()


def test_images_that_come_after_the_others_were_forgotten_are_known_to_be_alone(spool, clock):
    digest = _add(spool, "1")
    _answered(spool, clock)
    _add(spool, "2")
    _answered(spool, clock)
    assert not spool.ledger.is_forgotten(digest)
    clock.now += 100
    spool.forget(50.0)
    for instance in "34":
        _add(spool, instance)
    assert spool.ledger.is_forgotten(digest)
    assert _answered(spool, clock) == 3


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


def test_results_go_once_they_were_sent_or_given_up_and_are_old(spool, clock):
    """They hold names and identifiers of patients, and stayed for ever."""
    studies = {}
    for uid in ("sent", "given up", "waiting", "failed", "late"):
        spool.add(uid, "1.1", "1", lambda path: path.write_bytes(b"x"))
        clock.now += 10
        digest, version = spool.take(5.0)
        paths = spool.write_results(digest, version, {"result.json": b"{}", "report.dcm": b"MEIER^HANS"})
        spool.ledger.finish(digest, version, "no body" if uid == "failed" else "", paths[1:], ["X@h:1"])
        studies[digest] = uid
    for entry in spool.ledger.due():
        if studies[entry.study] == "given up":
            spool.ledger.not_sent(entry, "gone", is_final=True)
        elif studies[entry.study] != "waiting":
            spool.ledger.sent(entry)
    assert spool.forget_results(100.0) == 0
    clock.now += 100
    spool.add("late", "1.1", "2", lambda path: path.write_bytes(b"x"))
    assert spool.forget_results(100.0) == 3
    assert {studies[path.name] for path in (spool.folder / "results").iterdir()} == {"waiting", "late"}
    counts = spool.ledger.counts()
    assert (counts["sent"], counts["waiting"], counts["given_up"]) == (1, 1, 1)  # "late" keeps its results and its note
    (waiting,) = spool.ledger.due()
    spool.ledger.sent(waiting)
    assert spool.forget_results(100.0) == 1
    assert spool.forget_results(100.0) == 0


def test_results_count_for_what_the_spool_may_hold(tmp_path, clock):
    small = Spool(tmp_path, 100, clock)
    _add(small, "1")
    for _ in range(2):  # of an attempt that a crash ended; counted once
        small.write_results(digest_of("1"), 1, {"a.dcm": b"x" * 60})
    _answered(small, clock)
    assert small.lack() == ""
    small.close()
    small = Spool(tmp_path, 61, clock)
    assert "--keep-results-hours" in small.lack()
    clock.now += 100
    assert small.forget_results(50.0) == 1
    assert small.lack() == ""
    small.write_results(digest_of("2"), 1, {"a.dcm": b"x" * 60})
    assert "--keep-results-hours" in small.lack()
    small.close()


def test_results_are_blamed_for_a_full_spool_only_where_they_fill_it(tmp_path):
    small = Spool(tmp_path, 100)
    _add(small, "1", b"x" * 60)
    small.write_results(digest_of("1"), 1, {"a.dcm": b"x" * 40})
    assert small.lack() == "the spool holds the most allowed"
    small.close()


def test_images_that_replace_themselves_count_once(tmp_path):
    small = Spool(tmp_path, 10)
    for _ in range(3):
        _add(small, "1", b"x" * 9)
    assert small.lack() == ""
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
