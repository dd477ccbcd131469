"""Puts the service together: addresses, pages, and the guard before them."""

from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from voco2d.inference.results import NOTICE
from voco2d.service.audit import Audit
from voco2d.service.web.connections import Connections
from voco2d.service.web.guard import Guard
from voco2d.service.web.rate import RateLimit
from voco2d.service.web.routes import STATIC, Service, api, health, pages
from voco2d.service.web.tokens import Tokens
from voco2d.version import VERSION

_DESCRIPTION: Final = f"Grades CT by the classifier that it was started with. {NOTICE}"


def make_app(service: Service, tokens: Tokens | None, audit: Audit, connections: Connections | None = None) -> Guard:
    """Make the ASGI application.

    Args:
        service: What it works with.
        tokens: Who is let in; None lets in every program of this machine.
        audit: Where requests are noted.
        connections: Told which ask; None where nobody bounds them.
    """
    args = service.args
    app = FastAPI(title="voco2d", version=VERSION, description=_DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_exception_handler(RequestValidationError, _invalid)
    for router in (pages, health, api):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    rate = RateLimit(args.requests_per_minute, args.burst)
    return Guard(app, tokens, rate, args.limits, args.state, audit, connections or Connections())


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with a request without repeating what it holds."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    places = {".".join(map(str, entry["loc"][:2])) + ": " + entry["msg"] for entry in found}
    return JSONResponse({"detail": "; ".join(sorted(places))}, 422)
