import json
import sqlite3
from pathlib import Path

import pytest
from pydicom import dcmread

from voco2d.errors import ReadError
from voco2d.service import worker as worker_module
from voco2d.service.audit import Audit
from voco2d.service.grader import KilledError, NotReadyError
from voco2d.service.ledger import MOST_ATTEMPTS, Ledger
from voco2d.service.node_args import DimseTarget, NodeArgs
from voco2d.service.spool import Spool
from voco2d.service.structured_report import structured_report
from voco2d.service.study_files import read_headers
from voco2d.service.worker import Worker


def _worker(spool, answer, **args):
    return Worker(NodeArgs(quiet_s=5.0, **args), spool, Audit(spool.folder / "audit.jsonl"), answer)


def _receive(spool, *studies):
    return [spool.add(uid, f"{uid}.1", f"{uid}.1.1", lambda path: path.write_bytes(b"x")) for uid in studies]


def test_each_quiet_study_is_answered_once_and_its_dicom_objects_wait_for_each_target(spool, clock):
    asked = []

    def answer(digest, version):
        asked.append((digest, version))
        return {"result.json": b"{}", "report.dcm": b"sr"}

    digests = _receive(spool, "1", "2")
    worker = _worker(spool, answer, targets=(DimseTarget("A", "h", 1), DimseTarget("B", "h", 2)))
    assert not worker.step()  # not quiet yet
    clock.now += 5
    assert worker.step()
    assert worker.step()
    assert not worker.step()
    assert sorted(asked) == sorted((digest, 1) for digest in digests)
    assert spool.ledger.counts() == {"graded": 2, "waiting": 4}
    assert all(entry.file.endswith("report.dcm") for entry in spool.ledger.due())


def test_a_study_that_cannot_be_answered_costs_itself_and_tells_no_identifier(spool, clock, caplog):
    def answer(digest, _version):
        if digest == bad:
            raise ReadError("/home/MEIER^HANS/x.dcm", "shows no body")
        return {"report.dcm": b"sr"}

    bad, _ = _receive(spool, "1", "2")
    clock.now += 5
    worker = _worker(spool, answer)
    while worker.step():
        pass
    assert spool.ledger.counts() == {"graded": 1, "failed": 1}
    assert spool.ledger.failures() == [(bad, "shows no body")]
    assert "MEIER" not in caplog.text + (spool.folder / "audit.jsonl").read_text()


def test_a_study_that_grows_while_it_is_graded_is_answered_as_it_is_at_last(spool, clock):
    versions = []

    def answer(_digest, version):
        if not versions:
            spool.add("1", "1.1", "another", lambda path: path.write_bytes(b"x"))
        versions.append(version)
        return {"report.dcm": b"sr"}

    _receive(spool, "1")
    clock.now += 5
    worker = _worker(spool, answer, targets=(DimseTarget("A", "h", 1),))
    worker.step()
    assert spool.ledger.due() == []
    clock.now += 5
    worker.step()
    assert versions == [1, 2]
    assert ["/2/" in entry.file for entry in spool.ledger.due()] == [True]


def test_nothing_is_lost_when_the_program_ends_while_it_grades(tmp_path, clock):
    class Killed(BaseException):
        pass

    def die(_digest, _version):
        raise Killed

    spool = Spool(tmp_path, 10**9, clock)
    _receive(spool, "1", "2", "3")
    clock.now += 5
    with pytest.raises(Killed):
        _worker(spool, die).step()
    spool.close()
    spool = Spool(tmp_path, 10**9, clock)
    assert spool.ledger.recover() == 1
    worker = _worker(spool, lambda _digest, _version: {"report.dcm": b"sr"})
    while worker.step():
        pass
    assert spool.ledger.counts() == {"graded": 3}
    spool.close()


def test_a_study_whose_process_is_killed_from_outside_is_tried_again_and_given_up_at_last(spool, clock):
    tries = []

    def answer(digest, _version):
        tries.append(digest)
        if digest == bad or len(tries) == 1:
            raise KilledError("killed")
        return {"report.dcm": b"sr"}

    bad, sound = _receive(spool, "1", "2")
    clock.now += 5
    worker = _worker(spool, answer)
    while worker.step():
        pass
    assert spool.ledger.failures() == [(bad, "ended the program while it was graded")]
    assert (tries.count(bad), tries.count(sound)) == (MOST_ATTEMPTS, 1)
    assert spool.ledger.counts() == {"graded": 1, "failed": 1}
    noted = [json.loads(line) for line in (spool.folder / "audit.jsonl").read_text().splitlines()]
    assert [line["event"] for line in noted if line["study"] == bad] == [*["to be graded again"] * 3, "failed"]


@pytest.mark.parametrize(
    ("args", "is_kept"),
    [
        ({"targets": (DimseTarget("A", "h", 1),)}, False),
        ({}, True),
        ({"keep_results_h": 1.0}, False),
        ({"targets": (DimseTarget("A", "h", 1),), "keep_results_h": 100.0}, True),
    ],
)
def test_results_go_with_the_images_where_an_archive_has_them(spool, clock, args, is_kept):
    _receive(spool, "1")
    clock.now += 5
    worker = _worker(spool, lambda _digest, _version: {"report.dcm": b"sr"}, **args)
    worker.step()
    for entry in spool.ledger.due():
        spool.ledger.sent(entry)
    clock.now += 25 * 3600
    _worker(spool, lambda _digest, _version: {}, **args).step()
    assert list((spool.folder / "images").iterdir()) == []
    assert bool(list((spool.folder / "results").iterdir())) == is_kept


def test_studies_wait_until_networks_can_be_loaded_again(spool, clock, monkeypatch):
    monkeypatch.setattr(worker_module, "_LOAD_AGAIN_S", 0.0)
    tries = []

    def answer(digest, _version):
        tries.append(digest)
        if len(tries) <= 2 * MOST_ATTEMPTS:
            raise NotReadyError("no memory")
        if len(tries) == 2 * MOST_ATTEMPTS + 2:
            worker.stop()
        return {"report.dcm": b"sr"}

    _receive(spool, "1", "2")
    clock.now += 5
    with pytest.raises(NotReadyError):
        _worker(spool, answer).run(once=True)
    assert spool.ledger.counts() == {"receiving": 2}
    worker = _worker(spool, answer)
    worker.run()
    assert spool.ledger.counts() == {"graded": 2}


@pytest.mark.parametrize("error", [OSError(28, "MEIER^HANS"), sqlite3.OperationalError("MEIER^HANS")])
@pytest.mark.parametrize("step", ["Spool.forget", "Ledger.give_up", "Spool.take", "Path.write_bytes", "Ledger.finish"])
def test_a_disk_that_is_full_for_a_while_ends_nothing_and_costs_no_attempt(
    spool, clock, monkeypatch, caplog, step, error
):
    owner_name, name = step.split(".")
    owner = {"Spool": Spool, "Ledger": Ledger, "Path": Path}[owner_name]
    whole, put_back = getattr(owner, name), Ledger.put_back
    tries, lost = [], []

    def fail_at_first(*args):
        tries.append(args)
        if len(tries) <= 2 * MOST_ATTEMPTS:
            raise error
        return whole(*args)

    def lose_one(*args, **more):
        lost.append(args)
        if len(lost) == 1:
            raise error
        put_back(*args, **more)

    _receive(spool, "1")
    clock.now += 5
    monkeypatch.setattr(worker_module, "_LOAD_AGAIN_S", 0.0)
    monkeypatch.setattr(worker_module, "_FORGET_EVERY_S", 0.0)
    monkeypatch.setattr(owner, name, fail_at_first)
    with pytest.raises(type(error)):
        _worker(spool, lambda _digest, _version: {"report.dcm": b"sr"}).run(once=True)
    assert spool.ledger.counts() == {"receiving": 1}
    monkeypatch.setattr(Ledger, "put_back", lose_one)
    worker = _worker(spool, lambda _digest, _version: {"report.dcm": b"sr"})
    monkeypatch.setattr(Audit, "note", lambda *_args, **_more: worker.stop())
    worker.run()
    assert spool.ledger.counts() == {"graded": 1}
    assert len(tries) > 2 * MOST_ATTEMPTS
    assert list(spool.incoming.iterdir()) == []
    assert f"the disk ({type(error).__name__})" in caplog.text
    assert "MEIER" not in caplog.text


def test_headers_without_names_can_be_answered(hospital_study, make_result, tmp_path):
    for path in hospital_study.iterdir():
        dataset = dcmread(path)
        del dataset.PatientName, dataset.StudyDate, dataset.AccessionNumber
        dataset.save_as(tmp_path / path.name)
    report = structured_report(make_result(), read_headers(tmp_path, 1), [], [])
    assert report.PatientName == ""
