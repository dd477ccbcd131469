"""TLS, and what one caller may cost: places, seconds, bytes."""

import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage

from voco2d.service.dicom_node import SUCCESS

pytestmark = pytest.mark.filterwarnings("ignore")
"""pynetdicom leaves sockets and threads of broken associations to the interpreter."""

VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """Keys and certificates of a node and a caller that one authority vouches for, and a stranger of another's."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("tls")

    def call(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for authority, owners in (("authority", ("node", "caller")), ("other", ("stranger",))):
        call(*new, "-x509", "-subj", f"/CN={authority}", "-keyout", f"{authority}.key", "-out", f"{authority}.pem")
        for owner in owners:
            call(*new, "-subj", f"/CN={owner}", "-keyout", f"{owner}.key", "-out", f"{owner}.csr")
            signed = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-extfile", "names")
            call("x509", "-req", "-in", f"{owner}.csr", "-CAcreateserial", *signed, "-out", f"{owner}.pem")
    return folder


@pytest.fixture
def tls_node(start, certificates):
    names = {"certificate": "node.pem", "key": "node.key", "authorities": "authority.pem"}
    return start(**{key: certificates / name for key, name in names.items()})


def _tls(folder: Path, owner: str = "", highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context(cafile=str(folder / "authority.pem"))
    if highest < ssl.TLSVersion.TLSv1_2:
        context.minimum_version = highest
    context.maximum_version = highest
    if owner:
        context.load_cert_chain(folder / f"{owner}.pem", folder / f"{owner}.key")
    return context, "127.0.0.1"


def _answers(associate, node, **more) -> bool:
    association = associate(node, VERIFICATION, **more)
    if not association.is_established:
        return False
    status = association.send_c_echo().get("Status")
    if association.is_established:
        association.release()
    return status == SUCCESS


def _wait(condition, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_images_come_over_tls_from_who_shows_the_right_certificate(tls_node, associate, certificates, hospital_study):
    node, spool = tls_node
    association = associate(node, tls_args=_tls(certificates, "caller"))
    assert association.send_c_store(dcmread(next(hospital_study.iterdir()))).Status == SUCCESS
    association.release()
    assert spool.ledger.counts() == {"receiving": 1}


def test_who_shows_no_certificate_another_or_speaks_no_tls_is_refused_and_counted(tls_node, associate, certificates):
    node, spool = tls_node
    wrong = [
        {"tls_args": _tls(certificates)},
        {"tls_args": _tls(certificates, "stranger")},
        {"tls_args": _tls(certificates, "caller", ssl.TLSVersion.TLSv1_1)},
        {},
    ]
    for more in wrong:
        assert not _answers(associate, node, **more)
        assert _answers(associate, node, tls_args=_tls(certificates, "caller"))
    _wait(lambda: sum(spool.ledger.refusals().values()) == len(wrong))
    assert set(spool.ledger.refusals()) == {"no TLS handshake"}


def test_a_caller_that_never_shakes_hands_holds_up_nobody(tls_node, associate, certificates):
    node, _ = tls_node
    with socket.create_connection(("127.0.0.1", node.port)):
        assert _answers(associate, node, tls_args=_tls(certificates, "caller"))


@pytest.mark.parametrize("kind", [1, 4])
def test_a_data_unit_that_promises_gigabytes_is_not_waited_for(start, associate, kind):
    node, spool = start(timeout_s=60.0)
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as caller:
        caller.sendall(bytes((kind, 0)) + b"\xff\xff\xff\xff" + bytes(100))
        assert _rest(caller) == b""
    _wait(lambda: spool.ledger.refusals() == {"a protocol data unit larger than allowed": 1})
    assert _answers(associate, node)


def test_a_data_unit_that_trickles_is_given_up(start, associate):
    node, spool = start(timeout_s=1.0)
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as caller:
        caller.sendall(b"\1\0\0\0\1\0")
        begun = time.monotonic()
        try:
            while time.monotonic() < begun + 10:
                caller.sendall(b"x")
                time.sleep(0.2)
        except OSError:
            pass
        assert time.monotonic() < begun + 9
    _wait(lambda: spool.ledger.refusals() == {"a protocol data unit that did not come in time": 1})
    assert _answers(associate, node)


def test_associations_above_the_limit_are_rejected_until_one_ends(start, associate):
    node, spool = start(most_associations=2)
    held = [associate(node, VERIFICATION) for _ in range(2)]
    assert associate(node, VERIFICATION).is_rejected
    held[0].release()
    _wait(lambda: _answers(associate, node))
    held[1].release()
    (reason,) = spool.ledger.refusals()
    assert "beyond the number that is allowed" in reason


def test_connections_above_twice_the_limit_are_closed_at_once(start, associate):
    node, _ = start(most_associations=2, timeout_s=60.0)
    held = [socket.create_connection(("127.0.0.1", node.port), timeout=10) for _ in range(4)]
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as caller:
        assert _rest(caller) == b""
    for caller in held:
        caller.close()
    _wait(lambda: _answers(associate, node))


def test_an_image_larger_than_allowed_ends_its_association_and_leaves_nothing(start, associate, hospital_study):
    node, spool = start(most_image_bytes=4000)
    association = associate(node)
    assert "Status" not in association.send_c_store(dcmread(next(hospital_study.iterdir())))
    _wait(lambda: spool.ledger.refusals() == {"an image larger than allowed": 1})
    assert list(spool.incoming.iterdir()) == []
    assert _answers(associate, node)


def test_an_image_whose_sender_goes_away_leaves_nothing(start, associate, hospital_study):
    node, spool = start(max_pdu=4096)
    image = dcmread(next(hospital_study.iterdir()))
    image.decompress()  # to 8 KiB: a command and three pieces
    association = associate(node, CTImageStorage)
    association.dimse_timeout = 2
    whole, sent = association.dul.socket.send, []

    def send_two(data: bytes) -> None:
        sent.append(data)
        if len(sent) > 2:
            association.dul.socket.close()
        else:
            whole(data)

    association.dul.socket.send = send_two
    association.send_c_store(image)
    _wait(lambda: spool.ledger.refusals() == {"an image that was not sent to its end": 1})
    assert list(spool.incoming.iterdir()) == []
    assert spool.ledger.counts() == {}
    assert _answers(associate, node)


def _rest(caller: socket.socket) -> bytes:
    try:
        return caller.recv(1)
    except ConnectionResetError:
        return b""
