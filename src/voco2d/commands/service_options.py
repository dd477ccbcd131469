"""What the commands that serve other programs take; imports nothing heavy."""

import argparse
from pathlib import Path
from typing import Any

from voco2d.commands.option_types import count, positive


def listen(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d listen`."""
    parser.add_argument(
        "--model", action="append", type=Path, required=True, metavar="RUN", help="as of `predict`; may be given again"
    )
    parser.add_argument("--spool", type=Path, required=True, metavar="DIR", help="images, answers and their states")
    parser.add_argument("--ae-title", default="VOCO2D", metavar="TITLE", help="ours (default %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=count, default=11112, help="0 takes a free one (default %(default)s)")
    parser.add_argument("--allow", action="append", default=[], metavar="TITLE", help="AE title that may call (any)")
    parser.add_argument(
        "--send-to",
        action="append",
        default=[],
        metavar="TARGET",
        help="where answers go: TITLE@HOST:PORT, or the address of a DICOMweb service",
    )
    parser.add_argument(
        "--quiet-seconds", type=float, default=10.0, metavar="N", help="a study is whole then (default %(default)s)"
    )
    parser.add_argument(
        "--keep-hours", type=float, default=24.0, metavar="N", help="images of answered studies (default %(default)s)"
    )
    parser.add_argument(
        "--keep-results-hours",
        type=float,
        metavar="N",
        help="their results, once sent (default: as images; for ever without --send-to)",
    )
    parser.add_argument(
        "--study-minutes",
        type=float,
        default=30.0,
        metavar="N",
        help="a study that is graded longer has failed, 0 for no end (default %(default)s)",
    )
    parser.add_argument("--most-associations", type=count, default=16, metavar="N", help="default %(default)s")
    parser.add_argument("--most-gb", type=float, default=50.0, metavar="N", help="of the spool (default %(default)s)")
    parser.add_argument("--most-image-mb", type=positive, default=2048, metavar="N", help="default %(default)s")
    parser.add_argument("--tls-certificate", type=Path, metavar="PEM", help="speak TLS only, with this certificate")
    parser.add_argument("--tls-key", type=Path, metavar="PEM", help="its key")
    parser.add_argument("--tls-authorities", type=Path, metavar="PEM", help="callers must show a certificate of theirs")
    parser.add_argument("--pdf", action="store_true", help="send a page as encapsulated PDF too")
    parser.add_argument(
        "--explain",
        action=argparse.BooleanOptionalAction,
        help="key slices in reports and key images (default: for a run of torch, where Captum is installed)",
    )
    _grading(parser)
    parser.add_argument("--once", action="store_true", help="end when nothing is left to answer and to send")
    parser.add_argument("--fetch-from", metavar="URL", help="fetch from a DICOMweb service in place of listening")
    parser.add_argument(
        "--query", action="append", default=[], metavar="KEYWORD=VALUE", help="with --fetch-from: which studies; needed"
    )


def serve(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d serve`."""
    parser.add_argument(
        "--model", action="append", type=Path, required=True, metavar="RUN", help="as of `predict`; may be given again"
    )
    parser.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="uploads, results, database and audit log"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=count, default=8000, help="0 takes a free one (default %(default)s)")
    parser.add_argument(
        "--database", default="", metavar="URL", help="of PostgreSQL; or VOCO2D_DATABASE (default: a file in DIR)"
    )
    parser.add_argument("--no-auth", action="store_true", help="ask for no token; for this machine only")
    parser.add_argument("--tls-certificate", type=Path, metavar="PEM", help="speak HTTPS only, with this certificate")
    parser.add_argument("--tls-key", type=Path, metavar="PEM", help="its key")
    _serve_limits(parser)
    _grading(parser)
    parser.add_argument("--identity-axes", metavar="CODE", help="as of `predict`")
    parser.add_argument("--no-explain", action="store_true", help="show scans without overlays and key slices")


def _grading(parser: argparse.ArgumentParser) -> None:
    """Add how scans are graded."""
    parser.add_argument("--gates", choices=("refuse", "flag", "off"), default="refuse", help="as of `predict`")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default %(default)s)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default %(default)s")
    parser.add_argument("--runtime", choices=("torch", "onnx"), help="as of `predict`")
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="as of `predict`")
    parser.add_argument(
        "--test-flips", nargs="*", choices=("depth", "height", "width"), metavar="AXIS", help="as of `predict`"
    )


def grading_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was said of grading as keywords of `Predictor.load`."""
    given = options.calibration
    return {
        "device": options.device,
        "flips": options.test_flips,
        "precision": options.precision,
        "gates": options.gates,
        "calibration": "stored" if given is None else None if given == Path("none") else given,
        "runtime": options.runtime,
    }


def _serve_limits(parser: argparse.ArgumentParser) -> None:
    """Add how much is taken and kept."""
    parser.add_argument(
        "--keep-hours", type=float, default=168.0, metavar="N", help="finished jobs, 0 for ever (%(default)s)"
    )
    parser.add_argument(
        "--job-minutes",
        type=float,
        default=30.0,
        metavar="N",
        help="a job that is graded longer has failed, 0 for no end (%(default)s)",
    )
    parser.add_argument("--max-upload-mb", type=positive, default=2048, metavar="N", help="default %(default)s")
    parser.add_argument("--max-unpacked-mb", type=positive, default=4096, metavar="N", help="default %(default)s")
    parser.add_argument(
        "--max-files", type=positive, default=10_000, metavar="N", help="in a zip (default %(default)s)"
    )
    parser.add_argument("--max-waiting", type=positive, default=200, metavar="N", help="jobs (default %(default)s)")
    parser.add_argument(
        "--requests-per-minute", type=positive, default=600, metavar="N", help="of one caller (default %(default)s)"
    )
