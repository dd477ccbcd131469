"""Connections that say nothing, or little, keep nobody out who asks."""

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import uvicorn

from voco2d.service.web import server
from voco2d.service.web.app import make_app
from voco2d.service.web.args import ServeArgs
from voco2d.service.web.connections import Connections
from voco2d.service.web.routes import STATIC, Service
from voco2d.service.web.tokens import Tokens, load_tokens

from .conftest import TOKEN, Bench

KNOWN = f"Host: x\r\nAuthorization: Bearer {TOKEN}\r\n"
WAIT_S = 60.0


class Served:
    """A service that is listened to, in a thread, and those who call it."""

    def __init__(self, bench: Bench, connections: Connections, certificates: Path | None) -> None:
        args = replace(bench.args, port=0)
        if certificates is not None:
            args = replace(args, certificate=certificates / "own.pem", key=certificates / "own.key")
        self.is_tls = certificates is not None
        self.ending = ExitStack()
        listening = self.ending.enter_context(closing(server._listen(args, connections)))
        self.address = listening.getsockname()
        app = make_app(Service(args, bench.jobs, bench.intake), _tokens(args), bench.audit, connections)
        self.server = uvicorn.Server(server._config(args, app, connections))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]})
        self.thread.start()
        self.ending.callback(self.thread.join)
        self.ending.callback(setattr, self.server, "should_exit", True)

    def call(self) -> socket.socket:
        """Open a connection and say nothing, not even for TLS."""
        return self.ending.enter_context(closing(socket.create_connection(self.address, WAIT_S)))

    def speak(self, head: str = "") -> socket.socket:
        """Open a connection, with TLS where it is spoken, and say something."""
        called = self.call()
        if self.is_tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            called = self.ending.enter_context(closing(context.wrap_socket(called)))
        called.sendall(head.encode())
        return called


def _tokens(args: ServeArgs) -> Tokens:
    return load_tokens(args.state, {"VOCO2D_TOKEN": TOKEN})[0]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("certificates")
    words = "req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -keyout own.key -out own.pem"
    subprocess.run([openssl, *words.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(params=["http", "https"])
def serving(request: pytest.FixtureRequest, bench: Bench) -> Iterator[Callable[..., Served]]:
    """Serve within the limits that the keywords give."""
    started: list[Served] = []

    def start(**limits: float) -> Served:
        found = request.getfixturevalue("certificates") if request.param == "https" else None
        started.append(Served(bench, Connections(**limits), found))
        return started[-1]

    yield start
    for served in started:
        served.ending.close()


def status(called: socket.socket, reads_body: bool = True) -> int:
    """Status of the answer that comes next."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = called.recv(1)
        assert piece, f"closed after {head!r}"
        head += piece
    length = re.search(rb"(?i)content-length: (\d+)", head)
    left = int(length[1]) if length and reads_body else 0
    while left:
        left -= len(called.recv(left))
    return int(head.split()[1])


def is_closed_soon(called: socket.socket, say: bytes = b"") -> bool:
    """Whether the other end lets go, however often something more is said to it."""
    until = time.monotonic() + 20
    called.settimeout(0.1)
    while time.monotonic() < until:
        try:
            called.sendall(say)
            if not called.recv(65536):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.integration
def test_silent_connections_keep_out_nobody_who_asks(serving: Callable[..., Served]) -> None:
    served = serving(most=20, silent_s=1000.0)
    mine = served.speak(f"GET /api/jobs HTTP/1.1\r\n{KNOWN}\r\n")
    assert status(mine) == 200
    silent = [served.call() for _ in range(60)]
    assert status(served.speak(f"GET /api/jobs HTTP/1.1\r\n{KNOWN}\r\n")) == 200
    assert is_closed_soon(silent[0])
    assert not silent[0].close()
    mine.sendall(f"GET /api/health HTTP/1.1\r\n{KNOWN}\r\n".encode())
    assert status(mine) == 200, "who has shown a token goes after those who have not"


@pytest.mark.integration
def test_what_sends_no_whole_head_in_time_is_closed(serving: Callable[..., Served]) -> None:
    served = serving(silent_s=0.5)
    assert is_closed_soon(served.call())
    assert is_closed_soon(served.speak("GET / HTTP/1.1\r\nX-Slow: "), b"a")
    answered = served.speak("GET /api/jobs HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status(answered) == 401
    assert is_closed_soon(answered, b"G")  # the server's own time between requests ends with a byte


@pytest.mark.integration
def test_an_answer_that_nobody_reads_is_not_kept_for_ever(serving: Callable[..., Served]) -> None:
    largest = max((path for path in STATIC.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    asked = f"GET /static/{largest.relative_to(STATIC)} HTTP/1.1\r\nHost: x\r\n\r\n"
    served = serving(silent_s=1000.0, open_s=0.5)
    called = [served.speak(asked * 10) for _ in range(2)]  # more than the system takes over
    assert [status(one, reads_body=False) for one in called] == [200, 200]
    assert len(served.server.server_state.connections) == 2
    until = time.monotonic() + 20
    while served.server.server_state.connections and time.monotonic() < until:
        time.sleep(0.05)
    assert not served.server.server_state.connections


@pytest.mark.integration
def test_an_upload_of_one_who_has_the_token_takes_its_time(serving: Callable[..., Served]) -> None:
    served = serving(most=4, silent_s=0.2, open_s=0.2)
    field = b'--x\r\nContent-Disposition: form-data; name="scan"; filename="scan"\r\n\r\n'
    form = (field, *[b"no scan "] * 8, b"\r\n--x--\r\n")
    kind = f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {sum(map(len, form))}\r\n"
    called = served.speak(f"POST /api/jobs HTTP/1.1\r\n{KNOWN}{kind}\r\n")
    for piece in form:
        time.sleep(0.4)
        served.call()
        called.sendall(piece)
    assert status(called) == 415


def test_a_connection_gives_way_only_where_it_is_not_answered_to_one_who_is_known() -> None:
    now = 0.0
    connections = Connections(most=2, silent_s=30.0, open_s=300.0, clock=lambda: now)
    with ExitStack() as ending:
        ends = [tuple(map(ending.enter_context, map(closing, socket.socketpair()))) for _ in range(6)]
        add = [partial(connections.add, ours, ("x", port)) for port, (ours, _) in enumerate(ends)]
        add[0]()
        add[1]()
        with connections.asking(("x", 0), is_known=True):
            add[2]()
            assert gone(ends) == [1]
            with connections.asking(("x", 2), is_known=True), connections.asking(("x", 9), is_known=True):
                add[3]()
                assert gone(ends) == [1, 3], "all are answered: the new one goes"
            now = 31.0
            asyncio.run(connections.sweep())
            assert gone(ends) == [1, 2, 3]
        now = 62.0
        asyncio.run(connections.sweep())
        assert gone(ends) == [0, 1, 2, 3]
        add[4]()
        with connections.asking(("x", 4), is_known=False):
            now = 362.0
            asyncio.run(connections.sweep())
            assert 4 not in gone(ends)
            now = 363.0
            asyncio.run(connections.sweep())
            assert 4 in gone(ends)
        with connections.asking(None, is_known=True):
            pass


def gone(ends: list[tuple[socket.socket, socket.socket]]) -> list[int]:
    """Which connections were ended, as the other end sees it."""
    found = []
    for number, (_, theirs) in enumerate(ends):
        theirs.setblocking(False)
        try:
            theirs.recv(1)
        except BlockingIOError:
            continue
        found.append(number)
    return found
