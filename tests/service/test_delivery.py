"""What receivers answer, told apart: of the object that was sent, or of the receiver."""

import socket
import time
from contextlib import ExitStack

import pytest
from pydicom.dataset import Dataset
from requests import ConnectionError as NoConnectionError
from requests import HTTPError, Response

from voco2d.service import delivery
from voco2d.service.delivery import AwayError, connect
from voco2d.service.node_args import DimseTarget, NodeArgs, WebTarget


@pytest.fixture
def store(monkeypatch):
    """Send an object to a DICOMweb server that answers, or raises, what is given."""

    def send(answer):
        class Client:
            def store_instances(self, datasets):
                assert len(datasets) == 1
                if isinstance(answer, Exception):
                    raise answer
                return answer

        monkeypatch.setattr(delivery, "web_client", lambda _url, _args: Client())
        with connect(WebTarget("http://x"), {("1.2", "1.2")}, NodeArgs()) as store:
            return store(Dataset())

    return send


def _status(code):
    response = Response()
    response.status_code = code
    return HTTPError("MEIER^HANS", response=response)


def test_a_server_takes_an_object_or_refuses_it(store):
    refused = Dataset()
    refused.FailedSOPSequence = [Dataset()]
    assert store(Dataset()) == ""
    assert store(refused) == "refused by the server"
    assert store(_status(409)) == "HTTP status 409"
    assert store(ValueError("MEIER^HANS")) == "ValueError"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (_status(503), "HTTP status 503"),
        (_status(401), "HTTP status 401"),
        (NoConnectionError("MEIER^HANS"), "ConnectionError"),
    ],
)
def test_a_server_that_takes_nothing_for_now_is_told_apart(store, error, told):
    with pytest.raises(AwayError, match=f"^{told}$"):
        store(error)


def test_a_receiver_whose_queue_is_full_holds_up_others_no_longer_than_said():
    """The system waits 134 s for a connection that is not taken up."""
    with ExitStack() as stack:
        busy = stack.enter_context(socket.socket())
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for _ in range(8):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(busy.getsockname())
        target = DimseTarget("PACS", *busy.getsockname())
        begun = time.monotonic()
        with pytest.raises(AwayError), connect(target, {("1.2", "1.2.840.10008.1.2")}, NodeArgs(timeout_s=0.5)):
            pass
        assert time.monotonic() - begun < 20
