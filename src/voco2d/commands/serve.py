"""`voco2d serve`: grade uploads over HTTP, with a page to look at scans."""

import argparse
import os
from functools import partial
from importlib import import_module
from typing import Any

from voco2d.commands.service_options import grading_options
from voco2d.extras import require
from voco2d.inference.predictor import Predictor
from voco2d.inference.results import NOTICE
from voco2d.io.readers import ReadArgs
from voco2d.logs import quiet_libraries
from voco2d.service.web.args import ServeArgs, UploadLimits
from voco2d.service.web.attribution import load_explain
from voco2d.service.web.evidence import Explain

DATABASE_VARIABLE = "VOCO2D_DATABASE"


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted.

    Raises:
        UsageError: The extra is missing, an option is wrong, the address is taken, or another service uses the folder.
        Voco2dError: The networks can't be loaded, or the database can't be used.
    """
    for module in ("fastapi", "uvicorn", "sqlalchemy", "python_multipart"):
        require(module, "serve", "voco2d serve")
    args = _args(options)
    print(NOTICE, flush=True)
    server: Any = import_module("voco2d.service.web.server")
    server.serve(args, partial(load, _predictor_options(options), not options.no_explain), partial(print, flush=True))
    return 0


def load(options: dict[str, Any], explain: bool) -> tuple[Predictor, Explain | None]:
    """Load the networks; runs in the worker's process.

    Args:
        options: Keywords of `Predictor.load`.
        explain: Whether answers are explained, where that can be done.
    """
    quiet_libraries()
    predictor = Predictor.load(**options)
    return predictor, load_explain(predictor) if explain else None


def _args(options: argparse.Namespace) -> ServeArgs:
    return ServeArgs(
        options.state,
        options.host,
        options.port,
        options.database or os.environ.get(DATABASE_VARIABLE, ""),
        auth=not options.no_auth,
        requests_per_minute=options.requests_per_minute,
        most_waiting=options.max_waiting,
        keep_h=options.keep_hours,
        longest_job_s=options.job_minutes * 60,
        limits=UploadLimits(
            upload_bytes=options.max_upload_mb * 2**20,
            unpacked_bytes=options.max_unpacked_mb * 2**20,
            files=options.max_files,
        ),
        certificate=options.tls_certificate,
        key=options.tls_key,
    )


def _predictor_options(options: argparse.Namespace) -> dict[str, Any]:
    return {
        **grading_options(options),
        "paths": options.model,
        "read": None if options.identity_axes is None else ReadArgs(identity_axes=options.identity_axes),
        "masks": None,
    }
