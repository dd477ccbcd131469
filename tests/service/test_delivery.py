"""What receivers answer, told apart: of the object that was sent, or of the receiver."""

import pytest
from pydicom.dataset import Dataset
from requests import ConnectionError as NoConnectionError
from requests import HTTPError, Response

from voco2d.service import delivery
from voco2d.service.delivery import AwayError, connect
from voco2d.service.node_args import NodeArgs, WebTarget


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
