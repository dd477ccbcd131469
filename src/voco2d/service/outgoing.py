"""A result on its way."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outgoing:
    """A result that waits to be sent.

    Args:
        file: Path below the spool.
        target: Where it goes, as the ledger spells it.
        attempts: How often it was tried.
    """

    file: str
    target: str
    attempts: int

    @property
    def study(self) -> str:
        """Digest of the study that it is of."""
        return Path(self.file).parts[1]
