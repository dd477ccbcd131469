"""Settings of the DICOM node."""

import re
from dataclasses import dataclass
from pathlib import Path

from voco2d.errors import ConfigError

_AE_TITLE = re.compile(r"[ !-\[\]-~]{1,16}")
_DIMSE = re.compile(r"(?P<title>[^@]+)@(?P<host>[^:@]+):(?P<port>\d+)")


@dataclass(frozen=True)
class DimseTarget:
    """An application entity that results are stored to (DICOM PS3.8).

    Args:
        title: Its AE title.
        host: Name or address.
        port: 1 to 65535.
    """

    title: str
    host: str
    port: int


@dataclass(frozen=True)
class WebTarget:
    """A DICOMweb server that results are stored to (PS3.18, 10.5).

    Args:
        url: Root of its service.
    """

    url: str


Target = DimseTarget | WebTarget


@dataclass(frozen=True)
class NodeArgs:
    """How the node listens, what it takes in, and where results go.

    Args:
        title: Our AE title.
        host: Address to listen on.
        port: 0 takes a free one.
        callers: AE titles that may call; without any, everyone may.
        targets: Where results are sent.
        quiet_s: Seconds without a new image after which a study counts as whole.
        keep_h: Hours after its last image that the images of an answered study are kept for late ones.
        keep_results_h: The same of its results, which stay until they are sent or given up in any case; None keeps them
            as long as images where there are targets, and for ever where there is none.
        most_associations: At a time.
        most_gb: What images and results may take, GB; further images are refused.
        most_image_bytes: Largest data set taken, bytes.
        max_pdu: Largest protocol data unit taken, bytes.
        timeout_s: Of a silent association, and of a protocol data unit from its first byte to its last, seconds.
        certificate: PEM file; with `key` the node speaks TLS only.
        key: PEM file of its key.
        authorities: PEM file; callers must then show a certificate that it vouches for.
        pdf: Whether a page as encapsulated PDF goes with the report.
        longest_study_s: Seconds that a study may be graded; 0 sets no end to it.
    """

    title: str = "VOCO2D"
    host: str = "127.0.0.1"
    port: int = 11112
    callers: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    quiet_s: float = 10.0
    keep_h: float = 24.0
    keep_results_h: float | None = None
    most_associations: int = 16
    most_gb: float = 50.0
    most_image_bytes: int = 1 << 31
    max_pdu: int = 131_072
    timeout_s: float = 30.0
    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None
    pdf: bool = False
    longest_study_s: float = 1800.0

    @property
    def results_h(self) -> float | None:
        """Hours after which results are deleted, None for never."""
        as_images = self.keep_h if self.targets else None
        return as_images if self.keep_results_h is None else self.keep_results_h

    def __post_init__(self) -> None:
        for title in (self.title, *self.callers):
            check_title(title)
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("TLS needs both a certificate and its key")
        if self.authorities is not None and self.certificate is None:
            raise ConfigError("a caller's certificate is asked for by TLS only; give a certificate and a key too")
        if self.longest_study_s < 0:
            raise ConfigError(f"longest_study_s={self.longest_study_s}: must be at least 0")
        if not 4096 <= self.max_pdu <= 1 << 20:
            raise ConfigError(f"max_pdu={self.max_pdu}: must lie between 4096 and {1 << 20}")


def check_title(title: str) -> None:
    """Refuse what no AE title can be (DICOM PS3.5, 6.2: up to 16 characters, no backslash).

    Raises:
        ConfigError: As the message says.
    """
    if not _AE_TITLE.fullmatch(title) or not title.strip():
        raise ConfigError(f"{title!r} is no AE title; 1 to 16 printable characters without a backslash are")


def check_address(url: str) -> None:
    """Refuse an address with a password in it, which would end in logs and the ledger.

    Raises:
        ConfigError: As the message says.
    """
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ConfigError("an address with a user or password in it would end in logs; put them into ~/.netrc")


def parse_target(text: str) -> Target:
    """Read `TITLE@HOST:PORT` or the root URL of a DICOMweb service.

    Raises:
        ConfigError: It is neither.
    """
    if text.startswith(("http://", "https://")):
        check_address(text)
        return WebTarget(text.rstrip("/"))
    found = _DIMSE.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise ConfigError(
            f"{text!r} is no target; give TITLE@HOST:PORT, or the http:// or https:// address of a DICOMweb service"
        )
    check_title(found["title"])
    return DimseTarget(found["title"], found["host"], int(found["port"]))
