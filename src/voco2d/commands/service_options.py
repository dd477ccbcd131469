"""What the commands that serve other programs take; imports nothing heavy."""

import argparse
from pathlib import Path

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
    parser.add_argument("--most-associations", type=count, default=16, metavar="N", help="default %(default)s")
    parser.add_argument("--most-gb", type=float, default=50.0, metavar="N", help="of images (default %(default)s)")
    parser.add_argument("--most-image-mb", type=positive, default=2048, metavar="N", help="default %(default)s")
    parser.add_argument("--tls-certificate", type=Path, metavar="PEM", help="speak TLS only, with this certificate")
    parser.add_argument("--tls-key", type=Path, metavar="PEM", help="its key")
    parser.add_argument("--tls-authorities", type=Path, metavar="PEM", help="callers must show a certificate of theirs")
    parser.add_argument("--pdf", action="store_true", help="send a page as encapsulated PDF too")
    parser.add_argument("--gates", choices=("refuse", "flag", "off"), default="refuse", help="as of `predict`")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default %(default)s)")
    parser.add_argument("--once", action="store_true", help="end when nothing is left to answer and to send")
    parser.add_argument("--fetch-from", metavar="URL", help="fetch from a DICOMweb service in place of listening")
    parser.add_argument(
        "--query", action="append", default=[], metavar="KEYWORD=VALUE", help="with --fetch-from: which studies"
    )
