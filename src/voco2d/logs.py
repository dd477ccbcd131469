"""What the commands log: their own words, and of the libraries' only warnings."""

import logging

_CHATTY = (
    *(
        "pydicom",
        "pylibjpeg",
        "matplotlib",
        "PIL",
        "fontTools",
        "lightning_fabric",
        "lightning.fabric",
        "asyncio",
        "distributed",
    ),
    # told to tell more, those of remote file systems would tell keys and signed addresses
    *("fsspec", "s3fs", "gcsfs", "adlfs", "botocore", "aiobotocore", "aiohttp", "azure", "google", "urllib3"),
)


def start_logging(verbose: bool) -> None:
    """Log to the terminal; `verbose` tells more of voco2d, never of the libraries."""
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, format="%(message)s")
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
