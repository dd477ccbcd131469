"""What the commands log: their own words, and of the libraries' only warnings."""

import logging
import sys
import threading
import traceback
import warnings

_log = logging.getLogger(__name__)
_LONGEST_CHAIN = 20
_CHATTY = (
    *(
        "pydicom",
        "pynetdicom",
        "highdicom",
        "dicomweb_client",
        "retrying",
        "pylibjpeg",
        "matplotlib",
        "PIL",
        "fontTools",
        "lightning_fabric",
        "lightning.fabric",
        "asyncio",
        "distributed",
    ),
    # told to tell more, the reader of uploads would tell the names of files
    *("python_multipart", "uvicorn", "sqlalchemy"),
    # told to tell more, those of remote file systems would tell keys and signed addresses
    *("fsspec", "s3fs", "gcsfs", "adlfs", "botocore", "aiobotocore", "aiohttp", "azure", "google", "urllib3"),
)


def start_logging(verbose: bool) -> None:
    """Log to the terminal; `verbose` tells more of voco2d, never of the libraries."""
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, format="%(message)s")
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def quiet_libraries() -> None:
    """Keep libraries from quoting what they received: in warnings, and in what is told of threads and finalizers."""
    warnings.simplefilter("ignore")
    threading.excepthook = lambda args: _log.debug("%s", wordless(args.exc_value or RuntimeError()))
    sys.unraisablehook = lambda args: _log.debug("%s", wordless(args.exc_value or RuntimeError()))


def wordless(error: BaseException) -> str:
    """Traceback of an error and of what led to it, without their words: those may hold identifiers."""
    parts: list[str] = []
    one: BaseException | None = error
    while one is not None and len(parts) < _LONGEST_CHAIN:
        parts.append("".join((*traceback.format_tb(one.__traceback__), type(one).__name__)))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\nafter which came\n".join(reversed(parts))
