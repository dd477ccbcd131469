"""Runs the service: locks its folder, starts the worker, listens."""

import resource
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Final

import uvicorn

from voco2d.errors import UsageError
from voco2d.service.audit import Audit
from voco2d.service.web.app import make_app
from voco2d.service.web.args import ServeArgs
from voco2d.service.web.connections import Connections, ListeningSocket
from voco2d.service.web.intake import Intake
from voco2d.service.web.jobs import Jobs
from voco2d.service.web.process import AUDIT_NAME, Load, WorkerProcess
from voco2d.service.web.routes import Service
from voco2d.service.web.tokens import load_tokens

_MOST_CONNECTIONS: Final = 512
_AT_A_TIME: Final = 100
"""Connections accepted before those that are there are heard again; fewer than can be open."""
_IDLE_S: Final = 15
"""Longest pause between requests; shorter than the time for a head, of which a late one so has the rest."""
_END_S: Final = 10


def serve(args: ServeArgs, load: Load, tell: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        args: Of the service.
        load: Loads the networks, in the worker's process.
        tell: Shows a line to whoever started it; the address, and once a new token.

    Raises:
        UsageError: The address is taken, or another service uses the folder.
        Voco2dError: The networks can't be loaded, or the database can't be used.
    """
    args.state.mkdir(parents=True, exist_ok=True)
    with ExitStack() as ending:
        connections = Connections(_most_connections())
        listening = ending.enter_context(closing(_listen(args, connections)))
        jobs = ending.enter_context(closing(Jobs(args.database_url)))
        intake = ending.enter_context(closing(Intake(args, jobs)))
        ending.callback(setattr, tempfile, "tempdir", tempfile.tempdir)
        tempfile.tempdir = str(args.incoming)  # uploads are large and private: not into the common folder
        worker = WorkerProcess(args, load)
        ending.callback(worker.stop)
        worker.start()
        tokens, new = load_tokens(args.state) if args.auth else (None, None)  # made last: it is shown only once
        audit = Audit(args.state / AUDIT_NAME, "job")
        audit.note("started", "")
        _tell(tell, args, listening.getsockname()[1], new)
        app = make_app(Service(args, jobs, intake, worker), tokens, audit, connections)
        _run(uvicorn.Server(_config(args, app, connections)), listening)


def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM, which uvicorn takes and sends again once it has ended in order."""
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(*_: object) -> None:
    """Do nothing: the server has ended already when this is called."""


def _most_connections() -> int:
    """Connections that leave half of the files that a process may have open to everything else."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(_MOST_CONNECTIONS, files // 2)


def _listen(args: ServeArgs, connections: Connections) -> socket.socket:
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    listening = ListeningSocket(family, connections)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((args.host.strip("[]"), args.port))
        listening.listen()  # before the address is told: who comes at once waits, and is not turned away
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise UsageError(f"{args.host}:{args.port}: can't listen there ({reason}); choose --host and --port") from error
    return listening


def _config(args: ServeArgs, app: object, connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="asyncio",  # uvloop, where it is installed, would not ask the socket to accept
        log_config=None,
        access_log=False,  # the audit log tells more, and no address
        server_header=False,
        proxy_headers=False,
        backlog=_AT_A_TIME,
        callback_notify=connections.sweep,
        timeout_notify=0,  # at each of its rounds, once a second
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_END_S,
        lifespan="off",
        ws="none",
        ssl_certfile=args.certificate,
        ssl_keyfile=args.key,
    )


def _tell(tell: Callable[[str], None], args: ServeArgs, port: int, new_token: str | None) -> None:
    scheme = "http" if args.certificate is None else "https"
    host = f"[{args.host}]" if ":" in args.host and not args.host.startswith("[") else args.host
    address = f"{scheme}://{host}:{port}/"
    if new_token is not None:
        tell(f"token, shown this once: {new_token}")
        tell(f"page with the token: {address}#token={new_token}")
    tell(f"serving on {address}, API: {address}docs")
