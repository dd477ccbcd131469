"""Malformed data units and data sets: the node lives on, and counts each as stored or refused with a reason."""

import random
import socket
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import _config, evt

from voco2d.inference.predictor import Predictor
from voco2d.service.answer import answer
from voco2d.service.audit import Audit
from voco2d.service.dicom_node import CANNOT_UNDERSTAND, NOT_THIS_CLASS, SUCCESS
from voco2d.service.node_args import NodeArgs
from voco2d.service.spool import Spool
from voco2d.service.worker import Worker

pytestmark = pytest.mark.filterwarnings("ignore")
"""The command ignores them too: pydicom's quote what it finds odd."""

VERIFICATION = "1.2.840.10008.1.1"
NAME = "MEIER^HANS"


@pytest.fixture
def image(hospital_study):
    """An image in plain encoding, with a name."""
    dataset = dcmread(sorted(hospital_study.iterdir())[5])
    dataset.decompress()
    dataset.PatientName = NAME
    return dataset


@pytest.fixture
def send(monkeypatch, associate, tmp_path):
    """Send bytes as the data set of an image, and see whether the node answers after that."""
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)

    def send_one(node, meta: bytes, body: bytes) -> int | None:
        path = tmp_path / "sent.dcm"
        path.write_bytes(meta + body)
        association = associate(node, CTImageStorage, VERIFICATION)
        status = association.send_c_store(path).get("Status")
        if association.is_established:
            assert association.send_c_echo().Status == SUCCESS
            association.release()
        else:
            again = associate(node, VERIFICATION)
            assert again.send_c_echo().Status == SUCCESS
            again.release()
        return status

    return send_one


def _parts(dataset, path: Path) -> tuple[bytes, bytes]:
    """Preamble with meta information, and the data set."""
    dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    (length,) = struct.unpack_from("<L", content, 140)
    return content[: 144 + length], content[144 + length :]


def _element(tag: tuple[int, int], vr: bytes, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    if vr in (b"OB", b"SQ", b"UN"):
        return struct.pack("<HH2sHL", *tag, vr, 0, size) + value
    return struct.pack("<HH2sH", *tag, vr, size) + value


def _nested(depth: int) -> bytes:
    begin = _element((0x0008, 0x0006), b"SQ", b"", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return begin * depth


def _uid_at(body: bytes, element: int) -> int:
    return body.index(struct.pack("<HH2s", 0x0020, element, b"UI"))


REFUSED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "three bytes": lambda body: body[:3],
    "cut before its UIDs": lambda body: body[: _uid_at(body, 0x000D) - 5],
    "cut before its pixels": lambda body: body[: body.index(b"\xe0\x7f\x10\x00")],
    "cut in a UID": lambda body: body[: _uid_at(body, 0x000E) + 12],
    "a length that swallows the rest": lambda body: body.replace(b"\x08\x00\x16\x00UI", b"\x08\x00\x16\x00UN", 1),
    "a length of four gigabytes": lambda body: _element((0x0008, 0x0001), b"OB", b"", 0xFFFFFFFE) + body,
    "sequences in sequences": lambda body: _nested(30_000) + body,
    "a name for a UID": lambda body: body[: _uid_at(body, 0x000D)] + _element((0x20, 0x0D), b"UI", b"MEIER^HANS"),
    "noise": lambda _: random.Random(0).randbytes(5000),
    "zeros": lambda _: bytes(5000),
    "its beginning twice, and nothing else": lambda body: body[:60] * 2,
}


def test_malformed_data_sets_are_refused_with_a_reason(start, send, image, tmp_path):
    node, spool = start()
    meta, body = _parts(image, tmp_path / "whole.dcm")
    for name, change in REFUSED.items():
        assert send(node, meta, change(body)) in (CANNOT_UNDERSTAND, NOT_THIS_CLASS), name
    assert sum(spool.ledger.refusals().values()) == len(REFUSED)
    assert spool.ledger.counts() == {}
    assert list(spool.incoming.iterdir()) == []
    assert send(node, meta, body) == SUCCESS


def test_another_picture_under_the_flag_of_ct_is_refused(start, send, image, tmp_path):
    node, spool = start()
    meta, body = _parts(image, tmp_path / "whole.dcm")
    old, new = (_element((0x0008, 0x0016), b"UI", f"{uid}\0".encode()[:26]) for uid in (CTImageStorage, MRImageStorage))
    assert old in body
    assert send(node, meta, body.replace(old, new)) == NOT_THIS_CLASS
    assert spool.ledger.refusals() == {"the data set is no CT image": 1}


@pytest.mark.usefixtures("send")
def test_a_deflated_image_cannot_fill_the_memory(start, image, tmp_path, associate):
    node, spool = start()
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    meta, _ = _parts(image, tmp_path / "whole.dcm")
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    (tmp_path / "sent.dcm").write_bytes(meta + bomb)
    association = associate(node, syntaxes=(DeflatedExplicitVRLittleEndian,))
    tracemalloc.start()
    try:
        assert association.send_c_store(tmp_path / "sent.dcm").Status == CANNOT_UNDERSTAND
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    association.release()
    assert sum(spool.ledger.refusals().values()) == 1


@pytest.mark.parametrize("seed", range(3))
def test_mutated_data_sets_are_stored_or_refused_and_none_is_lost(start, send, image, tmp_path, seed):
    node, spool = start()
    meta, body = _parts(image, tmp_path / "whole.dcm")
    header = body.index(b"\xe0\x7f\x10\x00")
    rng = random.Random(seed)
    statuses = []
    for _ in range(8):
        mutated = bytearray(body)
        for _ in range(rng.randrange(1, 40)):
            mutated[rng.randrange(header)] = rng.randrange(256)
        statuses.append(send(node, meta, bytes(mutated[: rng.randrange(len(mutated)) or None])))
    stored = sum(status == SUCCESS for status in statuses)
    assert stored + sum(spool.ledger.refusals().values()) == len(statuses)
    told = (tmp_path / "audit.jsonl").read_text() + str(spool.ledger.refusals())
    assert NAME not in told
    assert str(image.PatientID) not in told


@pytest.fixture
def conversation(start, associate, image) -> list[bytes]:
    """Every data unit that a caller sends who stores an image."""
    node, _ = start()
    sent: list[bytes] = []
    handlers = [(evt.EVT_DATA_SENT, lambda event: sent.append(bytes(event.data)))]
    association = associate(node, CTImageStorage, VERIFICATION, evt_handlers=handlers)
    assert association.send_c_store(image).Status == SUCCESS
    association.release()
    return sent


def test_mutated_data_units_end_their_association_alone(start, associate, conversation, tmp_path):
    node, spool = start(timeout_s=1.0, most_associations=40)
    rng = random.Random(1)
    for turn in range(30):
        units = [bytearray(unit) for unit in conversation]
        unit = units[turn % len(units)]
        for _ in range(rng.randrange(1, 8)):
            unit[rng.randrange(min(len(unit), 300))] = rng.randrange(256)
        with socket.create_connection(("127.0.0.1", node.port), timeout=2) as caller:
            try:
                for piece in units:
                    caller.sendall(piece)
                    caller.settimeout(0.05)
                    caller.recv(4096)
            except OSError:
                pass
        if turn % 10 == 9:
            association = associate(node, VERIFICATION)
            assert association.send_c_echo().Status == SUCCESS
            association.release()
    end = time.monotonic() + 20
    while list(spool.incoming.iterdir()) and time.monotonic() < end:
        time.sleep(0.1)
    assert list(spool.incoming.iterdir()) == []
    assert spool.ledger.refusals()
    assert NAME not in (tmp_path / "audit.jsonl").read_text() + str(spool.ledger.refusals())


def test_studies_whose_pixels_lie_fail_with_a_reason_and_the_others_are_graded(hospital_study, make_run, tmp_path):
    spool = Spool(tmp_path / "spool", 10**9)
    for number, change in enumerate((_as_it_is, _short_pixels, _no_rle)):
        for path in hospital_study.iterdir():
            dataset = dcmread(path)
            dataset.StudyInstanceUID = f"1.2.{number}"
            dataset.PatientName = NAME
            change(dataset)
            names = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
            spool.add(*names, lambda part, dataset=dataset: dataset.save_as(part, enforce_file_format=True))
    predictor = Predictor.load([make_run(tmp_path / "run")], device="cpu", gates="off")
    worker = Worker(
        NodeArgs(quiet_s=0.0),
        spool,
        Audit(tmp_path / "audit.jsonl"),
        lambda digest, version: answer(predictor, spool.images(digest), version, pdf=False),
    )
    while worker.step():
        pass
    assert spool.ledger.counts() == {"graded": 1, "failed": 2}
    reasons = [reason for _, reason in spool.ledger.failures()]
    assert all(reasons)
    assert NAME not in str(reasons) + (tmp_path / "audit.jsonl").read_text()
    spool.close()


def _as_it_is(dataset) -> None:
    pass


def _short_pixels(dataset) -> None:
    dataset.decompress(generate_instance_uid=False)
    dataset.PixelData = bytes(100)


def _no_rle(dataset) -> None:
    assert dataset.file_meta.TransferSyntaxUID == RLELossless
    dataset.PixelData = b"\xfe\xff\x00\xe0" + bytes(4) + b"\xfe\xff\x00\xe0" + struct.pack("<L", 64) + b"\xff" * 64
