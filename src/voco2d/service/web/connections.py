"""The connections that are open: one that says nothing takes no place from one that asks."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

Client = tuple[str, int]
"""Address and port of the other end, which tell one connection from all others that are open."""


@dataclass
class _Line:
    """A connection, and what it is at since when."""

    socket: socket.socket
    since: float
    asked: int = 0  # two for a moment, where the next request comes before the last one's task has ended
    is_known: bool = False

    @property
    def may_go(self) -> bool:
        return not (self.asked and self.is_known)


class Connections:
    """Bounds how many connections are open, and how long one may be without a request.

    No addresses are counted: behind a proxy all callers have the same one. Instead, where all places are taken, the
    connection goes that has been silent longest; those of callers who have shown a token before go after all others,
    and none while it is answered. It is for one thread, that of the event loop.

    Args:
        most: Open at once.
        silent_s: Seconds until the head of a request must have come whole, from the connection (so that a TLS
            handshake counts) or the last answer on; bytes that trickle don't prolong it.
        open_s: Seconds that the answer to a caller without a token may take to be read.
        clock: Seconds that never go backwards.
    """

    def __init__(
        self,
        most: int = 512,
        silent_s: float = 30.0,
        open_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._silent_s, self._open_s, self._clock = most, silent_s, open_s, clock
        self._lines: dict[Client, _Line] = {}

    def add(self, connection: socket.socket, client: Client) -> None:
        """Take in a connection; where all places are taken, another one gives way, or it is ended itself."""
        if len(self._lines) >= self._most:
            self._forget_closed()
        if len(self._lines) >= self._most:
            idle = [name for name, line in self._lines.items() if line.may_go]
            if not idle:
                _end(connection)
                return
            self._drop(min(idle, key=self._rank))
        self._lines[client] = _Line(connection, self._clock())

    @contextmanager
    def asking(self, client: Client | None, is_known: bool) -> Iterator[None]:
        """Note that a request of a connection is under way in the block.

        Args:
            client: The connection's; one that was not taken in here is passed over.
            is_known: Whether the caller may be told what a token is needed for.
        """
        line = self._lines.get(client) if client is not None else None
        if line is None:
            yield
            return
        line.since, line.is_known = self._clock(), line.is_known or is_known
        line.asked += 1
        try:
            yield
        finally:
            line.asked -= 1
            line.since = self._clock()

    async def sweep(self) -> None:
        """End the connections that have been silent, or have kept an open answer waiting, for too long."""
        self._forget_closed()
        now = self._clock()
        for client, line in list(self._lines.items()):
            if line.may_go and now - line.since > (self._open_s if line.asked else self._silent_s):
                self._drop(client)

    def _rank(self, client: Client) -> tuple[bool, bool, float]:
        line = self._lines[client]
        return line.is_known, line.asked > 0, line.since

    def _drop(self, client: Client) -> None:
        _end(self._lines.pop(client).socket)

    def _forget_closed(self) -> None:
        self._lines = {client: line for client, line in self._lines.items() if line.socket.fileno() >= 0}


class ListeningSocket(socket.socket):
    """Tells of each connection that it accepts, before TLS is spoken and so before a server could count it.

    Args:
        family: Of its address.
        connections: Told.
    """

    def __init__(self, family: socket.AddressFamily, connections: Connections) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._connections = connections

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept as any socket does."""
        connection, address = super().accept()
        self._connections.add(connection, address[:2])
        return connection, address


def _end(connection: socket.socket) -> None:
    """Have the event loop find the connection at its end; it closes it, and what is left to send is not sent."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
