"""Stands before the service: caller, rate, size of the body, safe headers, audit log."""

import asyncio
import logging
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voco2d.logs import wordless
from voco2d.service.audit import Audit, digest_of
from voco2d.service.web.args import UploadLimits
from voco2d.service.web.connections import Connections
from voco2d.service.web.rate import RateLimit
from voco2d.service.web.tokens import Tokens

_log = logging.getLogger(__name__)

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self' data:; "
    "connect-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS_POLICY: Final = _POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
"""The page of the OpenAPI document sets styles on its elements."""

_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }
)
_OPEN: Final = re.compile(r"/|/docs|/openapi\.json|/static/[A-Za-z0-9._/-]+|/api/health")
"""Paths that hold nothing of anyone and need no token."""
_JOB: Final = re.compile(r"/api/jobs/([0-9a-f]{32})(?:/|$)")
_LOCAL_HOST: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")
_SAME_SITE: Final = frozenset({"same-origin", "none"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
_FAILURES_PER_MINUTE: Final = 10
_FORM_BYTES: Final = 2**16
"""What a form may weigh beside its file."""
_MOST_REQUESTS: Final = 128
"""Under way at once, of callers who are let in; others are refused at once, or bounded as connections."""
_MOST_UPLOADS: Final = 64
"""Under way at once, half of the requests: the others are for those who ask."""
_PIECE_S: Final = 60.0
"""Longest pause within a body."""


class Guard:
    """Lets a request through to `app` or answers it; wraps every answer in safe headers.

    Args:
        app: What is guarded.
        tokens: Who is let in; None lets everyone in who names this machine as the host.
        rate: Of each caller.
        limits: Of uploads.
        folder: Where bodies are kept while they come in.
        audit: Where requests are noted.
        connections: Told which ask, and whether the token is known.

    Attributes:
        requests: Of known callers, under way now.
        uploads: Under way now.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens | None,
        rate: RateLimit,
        limits: UploadLimits,
        folder: Path,
        audit: Audit,
        connections: Connections,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._rate = rate
        self._failures = RateLimit(_FAILURES_PER_MINUTE, _FAILURES_PER_MINUTE)
        self._repeated = RateLimit(1, 1)
        self._limits = limits
        self._folder = folder
        self._body_bytes = limits.upload_bytes + _FORM_BYTES
        self._audit = audit
        self._connections = connections
        self.requests = self.uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, send)
        refusal = self._refusal(visit)
        client = scope.get("client")  # a tuple or, as ASGI allows too, a list
        with self._connections.asking(tuple(client) if client else None, bool(visit.caller)):
            if refusal is None:
                self.requests += bool(visit.caller)
                self.uploads += visit.is_upload
                try:
                    refusal = await self._pass_on(scope, self._bounded(receive), visit)
                finally:
                    self.requests -= bool(visit.caller)
                    self.uploads -= visit.is_upload
            if refusal is not None:
                await refusal(scope, receive, visit.send)
        if visit.path.startswith("/api/") and visit.path != "/api/health" and self._is_news(visit):
            self._audit.note("request", visit.caller, visit.job, method=visit.method, status=visit.status)

    def _is_news(self, visit: "_Visit") -> bool:
        """Whether a request is noted: pages ask again and again, and a flood must not fill the disk."""
        if visit.status != 429 and (visit.method != "GET" or visit.status != 200):
            return True
        key = f"{visit.caller or visit.address} {visit.method} {visit.job} {visit.status}"
        is_news = self._repeated.wait_s(key) == 0
        if is_news:
            self._repeated.spend(key)
        return is_news

    async def _pass_on(self, scope: Scope, receive: Receive, visit: "_Visit") -> JSONResponse | None:
        try:
            await self._app(scope, receive, visit.send)
        except Exception as error:  # whatever it is: its words may hold identifiers, so nobody is told them
            _log.error("a request failed\n%s", wordless(error))
            return None if visit.status else _answer(500, "unexpected error; see the log of the service", {})
        return None

    def _refusal(self, visit: "_Visit") -> JSONResponse | None:
        if not self._knows(visit) and not _OPEN.fullmatch(visit.path):
            if wait_s := self._failures.wait_s(visit.address):  # those who know the token are not kept out
                return _too_many(wait_s)
            self._failures.spend(visit.address)
            return _answer(401, "a valid token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        caller = visit.caller or visit.address
        if wait_s := self._rate.wait_s(caller):
            return _too_many(wait_s)
        self._rate.spend(caller)
        length = visit.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._body_bytes:
            return _answer(413, self._too_large, {"Connection": "close"})
        if visit.caller and self.requests >= _MOST_REQUESTS:
            return _busy(f"{_MOST_REQUESTS} requests")
        if visit.is_upload and self.uploads >= _MOST_UPLOADS:
            return _busy(f"{_MOST_UPLOADS} uploads")
        return None

    def _knows(self, visit: "_Visit") -> bool:
        if self._tokens is None:
            visit.caller = "local" if visit.is_of_this_machine else ""
            return bool(visit.caller)
        kind, _, token = visit.headers.get("authorization", "").partition(" ")
        visit.caller = (self._tokens.caller(token.strip()) or "") if kind.lower() == "bearer" else ""
        return bool(visit.caller)

    def _bounded(self, receive: Receive) -> Receive:
        """Count the body as it comes; its length need not have been told, and its end may never come."""
        taken = 0
        comes = True

        async def bounded() -> Message:
            nonlocal taken, comes
            try:
                message = await asyncio.wait_for(receive(), _PIECE_S if comes else None)
            except TimeoutError:
                raise HTTPException(408, f"no more of the upload for {_PIECE_S:g} seconds") from None
            comes = message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > self._body_bytes:
                raise HTTPException(413, self._too_large)
            if comes and shutil.disk_usage(self._folder).free < self._limits.free_bytes:
                raise HTTPException(507, "the disk of the service is full")
            return message

        return bounded

    @property
    def _too_large(self) -> str:
        return f"larger than {self._limits.upload_bytes} bytes"


class _Visit:
    """One request, and what its answer was."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.path: str = scope["path"]
        self.method = scope["method"] if scope["method"] in _METHODS else "other"
        self.headers = Headers(scope=scope)
        self.caller = ""
        self.status = 0
        found = _JOB.match(self.path)
        self.job = found[1] if found else ""
        self.address = digest_of((scope.get("client") or ("unknown",))[0])
        self._scheme = scope["scheme"]
        self._send = send

    @property
    def is_upload(self) -> bool:
        """Whether it brings a scan."""
        return self.method == "POST"

    @property
    def is_of_this_machine(self) -> bool:
        """Whether it names this machine, and no page of another site had a browser send it."""
        host = self.headers.get("host", "")
        own = f"{self._scheme}://{host}"
        return (
            _LOCAL_HOST.fullmatch(host) is not None
            and self.headers.get("origin", own) == own
            and self.headers.get("sec-fetch-site", "none") in _SAME_SITE
        )

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers["Content-Security-Policy"] = _DOCS_POLICY if self.path == "/docs" else _POLICY
            headers["Cache-Control"] = "no-cache" if self.path.startswith("/static/") else "no-store"
        await self._send(message)


def _too_many(wait_s: float) -> JSONResponse:
    return _answer(429, "too many requests", {"Retry-After": str(math.ceil(wait_s))})


def _busy(what: str) -> JSONResponse:
    words = f"{what} are under way already; try again later"
    return _answer(503, words, {"Retry-After": "5", "Connection": "close"})


def _answer(status: int, detail: str, headers: Mapping[str, str]) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers=dict(headers))
