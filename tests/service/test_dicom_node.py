"""The node over the network: what it takes, what it refuses, and that nothing ends it."""

import random
import socket
import sqlite3
import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from voco2d.errors import ConfigError, UsageError
from voco2d.service.audit import Audit
from voco2d.service.dicom_node import CANNOT_UNDERSTAND, NOT_THIS_CLASS, OUT_OF_RESOURCES, SUCCESS
from voco2d.service.ledger import Ledger
from voco2d.service.node_args import DimseTarget, NodeArgs, WebTarget, parse_target

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""pynetdicom leaves sockets to the garbage collector where a connection can't be made."""


VERIFICATION = "1.2.840.10008.1.1"


def _images(folder: Path):
    return [dcmread(path) for path in sorted(folder.iterdir())]


def test_what_is_acknowledged_is_on_disk_as_it_was_sent(start, associate, hospital_study):
    node, spool = start()
    images = _images(hospital_study)
    association = associate(node)
    assert [association.send_c_store(image).Status for image in images] == [SUCCESS] * len(images)
    association.release()
    kept = {dcmread(path).SOPInstanceUID: dcmread(path) for path in (spool.folder / "images").glob("*/*")}
    assert sorted(kept) == sorted(image.SOPInstanceUID for image in images)
    for image in images:
        assert kept[image.SOPInstanceUID].PixelData == image.PixelData
    assert spool.ledger.counts() == {"receiving": 1}


def test_echo_is_answered(start, associate):
    node, _ = start()
    association = associate(node, VERIFICATION, syntaxes=(ExplicitVRLittleEndian,))
    assert association.send_c_echo().Status == SUCCESS
    association.release()


@pytest.mark.parametrize(
    ("title", "called", "reason"),
    [
        ("STRANGER", "VOCO2D", "an association of a title that may not call"),
        ("SCANNER", "OTHER", "an association that calls another title than ours"),
    ],
)
def test_who_is_not_named_or_calls_another_is_rejected(start, associate, title, called, reason):
    node, spool = start(callers=("SCANNER",))
    assert associate(node, title=title, called=called).is_rejected
    assert associate(node, title="SCANNER").is_established
    deadline = time.monotonic() + 30  # the node notes it in a thread of its own
    while not spool.ledger.refusals() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert spool.ledger.refusals() == {reason: 1}


def test_other_pictures_are_refused_by_their_class_even_under_a_false_flag(start, associate, hospital_study):
    node, spool = start()
    assert not associate(node, MRImageStorage).is_established  # no context is accepted: the association is aborted
    image = _images(hospital_study)[0]
    association = associate(node)
    image.file_meta.MediaStorageSOPClassUID = CTImageStorage
    del image.StudyInstanceUID
    assert association.send_c_store(image).Status == CANNOT_UNDERSTAND
    image.StudyInstanceUID = "1.2.3"
    assert association.send_c_store(image).Status == SUCCESS
    image.Modality = "MR"
    assert association.send_c_store(image).Status == NOT_THIS_CLASS
    association.release()
    refused = spool.ledger.refusals()
    assert refused["a CT image by its class, of another modality"] == 1
    assert refused["an association that offers nothing this node takes, which is CT images only"] == 1
    assert len(list((spool.folder / "images").glob("*/*"))) == 1


def test_a_full_spool_says_so_to_the_sender(start, associate, hospital_study):
    node, _ = start(most_bytes=0)
    association = associate(node)
    assert association.send_c_store(_images(hospital_study)[0]).Status == OUT_OF_RESOURCES
    association.release()


@pytest.mark.parametrize(("owner", "step"), [(Audit, "note"), (Ledger, "refuse"), (Ledger, "image")])
def test_a_sender_is_told_of_a_full_disk_even_if_that_cannot_be_noted(
    start, associate, hospital_study, monkeypatch, caplog, owner, step
):
    def fail(*_args, **_more):
        raise OSError(28, "MEIER^HANS") if owner is Audit else sqlite3.OperationalError("MEIER^HANS")

    node, _ = start(most_bytes=10**9 if step == "image" else 0)
    monkeypatch.setattr(owner, step, fail)
    association = associate(node)
    assert association.send_c_store(_images(hospital_study)[0]).Status == OUT_OF_RESOURCES
    association.release()
    assert "refused" in caplog.text
    assert "MEIER" not in caplog.text


def test_random_and_cut_bytes_end_nothing(start, associate, hospital_study):
    node, _ = start()
    rng = random.Random(0)
    associate_rq = bytes.fromhex("0100000000cd00010000") + b"VOCO2D".ljust(16) + b"ANY".ljust(16) + bytes(32)
    for turn in range(60):
        with socket.create_connection(("127.0.0.1", node.port), timeout=5) as sender:
            body = rng.randbytes(rng.randrange(1, 400))
            sender.sendall(associate_rq[: rng.randrange(len(associate_rq))] + body if turn % 2 else body)
    for _ in range(60):  # those that said nothing whole hold their places until the node loses patience
        association = associate(node)
        if association.is_established:
            break
        time.sleep(0.5)
    assert association.send_c_store(_images(hospital_study)[0]).Status == SUCCESS
    association.release()


def test_no_identifier_stands_in_the_audit(start, associate, hospital_study, tmp_path):
    node, _ = start()
    image = _images(hospital_study)[0]
    association = associate(node, title="SCANNER")
    association.send_c_store(image)
    association.release()
    told = (tmp_path / "audit.jsonl").read_text()
    assert "SCANNER" in told
    for secret in (str(image.PatientID), str(image.PatientName), str(image.StudyInstanceUID)):
        assert secret not in told


def test_an_address_in_use_is_named(start):
    node, _ = start()
    with pytest.raises(UsageError, match="can't listen there"):
        start(port=node.port)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("PACS@10.0.0.1:104", DimseTarget("PACS", "10.0.0.1", 104)),
        ("https://pacs/dicom-web/", WebTarget("https://pacs/dicom-web")),
    ],
)
def test_targets_are_read(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "PACS@host:0", "PACS@host:70000", "A" * 17 + "@h:1"])
def test_what_is_no_target_is_refused(text):
    with pytest.raises(ConfigError):
        parse_target(text)


@pytest.mark.parametrize("wrong", [{"title": ""}, {"title": "a\\b"}, {"certificate": Path("c")}, {"max_pdu": 1}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError):
        NodeArgs(**wrong)
