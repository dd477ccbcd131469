"""Settings of the web service."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from voco2d.errors import ConfigError


@dataclass(frozen=True)
class UploadLimits:
    """What an upload may be, before and after it is unpacked.

    Args:
        upload_bytes: Of a request's body.
        unpacked_bytes: Of what an archive or a compressed file holds, together.
        file_bytes: Of a single file of an archive.
        files: Of an archive, whatever they are.
        ratio: Unpacked bytes to one packed byte, together; looked at from `ratio_from_bytes` on.
        ratio_from_bytes: A few black slices shrink a thousandfold and harm nobody.
        free_bytes: Of the disk, which are left free.
    """

    upload_bytes: int = 2 * 2**30
    unpacked_bytes: int = 4 * 2**30
    file_bytes: int = 1 * 2**30
    files: int = 10_000
    ratio: float = 100.0
    ratio_from_bytes: int = 64 * 2**20
    free_bytes: int = 2**30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= (0 if name.endswith("_bytes") else 1):
                raise ConfigError(f"{name}={value}: must not be so small")


@dataclass(frozen=True)
class ServeArgs:
    """How the web service listens, whom it answers and what it keeps.

    Args:
        state: Folder of uploads, results, the database and the audit log; for its owner alone.
        host: Address to listen on.
        port: 0 takes a free one.
        database: URL of a database as SQLAlchemy writes it; empty for a SQLite file in `state`.
        auth: Whether a token is asked for; without one, only this machine may be listened to.
        requests_per_minute: Of one caller, on average.
        burst: Requests that a caller may make at once.
        most_waiting: Jobs in the queue; further uploads are refused.
        keep_h: Hours that a finished job is kept; 0 keeps it until it is deleted.
        longest_job_s: Seconds that a job may be graded; 0 sets no end to it.
        limits: Of uploads.
        certificate: PEM file; with `key` the service speaks HTTPS only.
        key: PEM file of its key.
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = 8000
    database: str = ""
    auth: bool = True
    requests_per_minute: int = 600
    burst: int = 120
    most_waiting: int = 200
    keep_h: float = 168.0
    longest_job_s: float = 1800.0
    limits: UploadLimits = field(default_factory=UploadLimits)
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port={self.port}: must lie between 0 and 65535")
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("HTTPS needs both a certificate and its key")
        for name in ("requests_per_minute", "burst", "most_waiting"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.keep_h < 0:
            raise ConfigError(f"keep_h={self.keep_h}: must be at least 0")
        if self.longest_job_s < 0:
            raise ConfigError(f"longest_job_s={self.longest_job_s}: must be at least 0")
        if not self.auth and not is_loopback(self.host):
            raise ConfigError(f"host={self.host}: without a token only this machine may call; take 127.0.0.1")

    @property
    def database_url(self) -> str:
        """URL of the database that is used."""
        return self.database or f"sqlite:///{(self.state / 'jobs.sqlite').absolute()}"

    @property
    def jobs(self) -> Path:
        """Folder that holds one folder a job."""
        return self.state / "jobs"

    @property
    def incoming(self) -> Path:
        """Folder of uploads that are not yet jobs."""
        return self.state / "incoming"


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
