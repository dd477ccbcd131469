"""Results reach receivers that are away, refuse, or break off, and a file that can't be read costs itself alone."""

import json
import time
import weakref
from contextlib import contextmanager

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from voco2d.service import send
from voco2d.service.answer import to_bytes
from voco2d.service.audit import Audit, digest_of
from voco2d.service.delivery import AwayError, BrokenOffError
from voco2d.service.node_args import DimseTarget, NodeArgs
from voco2d.service.send import send_due, spell
from voco2d.service.structured_report import structured_report
from voco2d.service.study_files import read_headers

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""pynetdicom leaves sockets to the garbage collector where a connection can't be made."""

TARGET = DimseTarget("PACS", "h", 1)


def _send_due(spool, args):
    return send_due(spool.ledger, spool.folder, args, Audit(spool.folder / "audit.jsonl"))


def _finish(spool, clock, reports, target):
    """Answer a study a report; return the reports' paths."""
    paths = []
    for number, report in enumerate(reports, start=1):
        spool.add(str(number), "1.1", "1", lambda path: path.write_bytes(b"x"))
        clock.now += 5
        digest, version = spool.take(5.0)
        (path,) = spool.write_results(digest, version, {"report.dcm": report})
        spool.ledger.finish(digest, version, "", [path], [target])
        paths.append(spool.folder / path)
    return paths


def _report(uid):
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = Comprehensive3DSRStorage, uid
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "1.2"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return to_bytes(dataset)


@pytest.fixture
def receive(monkeypatch):
    """Stand in for a receiver: what `take` raises or returns becomes of each UID; returns what arrived."""

    def patch(take=lambda _uid: ""):
        arrived = []

        @contextmanager
        def connect(_target, _kinds, _args):
            def store(dataset):
                if not (reason := take(str(dataset.SOPInstanceUID))):
                    arrived.append(str(dataset.SOPInstanceUID))
                return reason

            yield store

        monkeypatch.setattr(send, "connect", connect)
        return arrived

    return patch


@pytest.fixture
def receiver(free_port):
    """A server that keeps what it is sent, and the status that it answers."""
    received, status = [], [0x0000]

    def store(event):
        if status[0] == 0:
            received.append(event.dataset.SOPInstanceUID)
        return status[0]

    entity = AE("PACS")
    entity.add_supported_context(Comprehensive3DSRStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    yield DimseTarget("PACS", "127.0.0.1", port), received, status
    server.shutdown()


@pytest.fixture
def waiting_report(spool, clock, hospital_study, make_result):
    """A report that waits for a target; returns its UID."""

    def prepare(target):
        files = read_headers(hospital_study, 1)
        report = to_bytes(structured_report(make_result(), files, [], []))
        _finish(spool, clock, [report], spell(target))
        return files.uid("structured report")

    return prepare


def test_a_report_arrives_and_is_not_sent_again(spool, receiver, waiting_report):
    target, received, _ = receiver
    uid = waiting_report(target)
    args = NodeArgs(targets=(target,))
    assert _send_due(spool, args) == 1
    assert _send_due(spool, args) == 0
    assert received == [uid]


def test_a_receiver_that_refuses_or_is_away_is_tried_again(spool, clock, receiver, waiting_report):
    target, received, status = receiver
    uid = waiting_report(target)
    away = NodeArgs(targets=(DimseTarget("PACS", "127.0.0.1", target.port),), timeout_s=2.0)
    status[0] = 0xA700
    assert _send_due(spool, away) == 0
    assert received == []
    status[0] = 0x0000
    assert _send_due(spool, away) == 0  # too early
    clock.now += 2
    assert _send_due(spool, away) == 1
    assert received == [uid]


def test_a_target_that_nobody_listens_at_holds_nothing_up(spool, free_port, waiting_report):
    target = DimseTarget("PACS", "127.0.0.1", free_port())
    waiting_report(target)
    begun = time.monotonic()
    assert _send_due(spool, NodeArgs(targets=(target,), timeout_s=2.0)) == 0
    assert time.monotonic() - begun < 30
    assert spool.ledger.counts()["waiting"] == 1


def test_a_receiver_that_takes_none_of_it_is_named_as_such(spool, waiting_report, caplog):
    entity = AE("PACS")
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", 0), block=False)
    target = DimseTarget("PACS", "127.0.0.1", int(server.server_address[1]))
    waiting_report(target)
    try:
        assert _send_due(spool, NodeArgs(targets=(target,), timeout_s=2.0)) == 0
    finally:
        server.shutdown()
    assert "1 results not sent yet (does not take this kind of object)" in caplog.text


def test_a_file_that_cannot_be_read_is_given_up_alone_and_told(spool, clock, receiver, caplog):
    target, received, _ = receiver
    gone, garbage, _ = _finish(spool, clock, [_report(f"1.{number}") for number in range(3)], spell(target))
    gone.unlink()
    garbage.write_bytes(b"MEIER^HANS" * 100)
    assert _send_due(spool, NodeArgs(targets=(target,))) == 1
    assert received == ["1.2"]
    assert spool.ledger.counts() == {"graded": 3, "sent": 1, "given_up": 2}
    audit = (spool.folder / "audit.jsonl").read_text()
    noted = [json.loads(line) for line in audit.splitlines()]
    assert [line["study"] for line in noted] == [digest_of(uid) for uid in "12"]
    assert noted[0]["event"] == "result given up: can't be read (FileNotFoundError)"
    assert f"study {digest_of('1')} is given up: can't be read (FileNotFoundError)" in caplog.text
    assert "MEIER" not in audit + caplog.text


def test_an_archive_that_aborts_at_one_result_gets_the_others(spool, clock):
    received = []

    def store(event):
        if event.dataset.SOPInstanceUID == "1.2":
            event.assoc.abort()
        else:
            received.append(event.dataset.SOPInstanceUID)
        return 0x0000

    entity = AE("PACS")
    entity.add_supported_context(Comprehensive3DSRStorage, ExplicitVRLittleEndian)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    target = DimseTarget("PACS", "127.0.0.1", int(server.server_address[1]))
    _finish(spool, clock, [_report(f"1.{number}") for number in range(1, 5)], spell(target))
    try:
        for _ in range(3):
            _send_due(spool, NodeArgs(targets=(target,), timeout_s=5.0))
            clock.now += 5
    finally:
        server.shutdown()
    assert sorted(received) == ["1.1", "1.3", "1.4"]
    assert spool.ledger.counts() == {"graded": 4, "sent": 3, "waiting": 1}


def test_a_disk_that_may_recover_has_its_files_tried_again(spool, clock, receive, monkeypatch):
    arrived = receive()
    _finish(spool, clock, [_report("1.1"), _report("1.2")], spell(TARGET))
    bad = []

    def read(path):
        bad.append(path)
        if len(bad) == 1:
            raise PermissionError(13, "MEIER")
        return dcmread(path)

    monkeypatch.setattr(send, "dcmread", read)
    assert _send_due(spool, NodeArgs(targets=(TARGET,))) == 1
    assert spool.ledger.counts()["waiting"] == 1
    clock.now += 2
    assert _send_due(spool, NodeArgs(targets=(TARGET,))) == 1
    assert sorted(arrived) == ["1.1", "1.2"]


def test_results_are_read_one_at_a_time_and_sent_in_batches(spool, clock, receive, monkeypatch):
    """300 studies that were due at once were all read before the first was sent."""
    arrived = receive()
    monkeypatch.setattr(send, "_MOST_AT_ONCE", 3)
    _finish(spool, clock, [_report(f"1.{number}") for number in range(5)], spell(TARGET))
    read_ones, most = [], []

    def read(path):
        dataset = dcmread(path)
        read_ones.append(weakref.ref(dataset))
        most.append(sum(one() is not None for one in read_ones))
        return dataset

    monkeypatch.setattr(send, "dcmread", read)
    assert [_send_due(spool, NodeArgs(targets=(TARGET,))) for _ in range(3)] == [3, 2, 0]
    assert max(most) == 1
    assert sorted(arrived) == [f"1.{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("error", "is_kept"), [(AwayError("HTTP status 503"), True), (BrokenOffError("the connection broke"), False)]
)
def test_only_what_an_archive_breaks_off_at_is_given_up_at_last(spool, clock, receive, error, is_kept):
    """An archive that was away for 7 h lost every result that waited for it."""

    def take(_uid):
        raise error

    receive(take)
    _finish(spool, clock, [_report("1.1")], spell(TARGET))
    for _ in range(60):
        _send_due(spool, NodeArgs(targets=(TARGET,)))
        clock.now += 600
    assert spool.ledger.counts() == {"graded": 1, "waiting" if is_kept else "given_up": 1}


@pytest.mark.parametrize("place", range(3))
def test_a_result_at_which_the_receiver_breaks_off_holds_up_no_other(spool, clock, receive, monkeypatch, place):
    def tick(self):
        self.now += 0.001
        return self.now

    def take(uid):
        if uid == "1.13":
            raise AwayError("the connection broke")
        return ""

    monkeypatch.setattr(type(clock), "__call__", tick)
    arrived = receive(take)
    uids = ["1.1", "1.2", "1.3"]
    uids[place] = "1.13"
    _finish(spool, clock, [_report(uid) for uid in uids], spell(TARGET))
    for _ in range(4):
        _send_due(spool, NodeArgs(targets=(TARGET,)))
        clock.now += 5
    assert sorted(arrived) == sorted(set(uids) - {"1.13"})
    assert spool.ledger.counts() == {"graded": 3, "sent": 2, "waiting": 1}
