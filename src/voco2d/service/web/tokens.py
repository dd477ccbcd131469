"""Who may ask: tokens that are kept as digests only."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from voco2d.errors import ConfigError, StoreError

VARIABLE: Final = "VOCO2D_TOKEN"
"""Environment variable of one or several tokens, with commas between; it comes before the stored one."""

FILE_NAME: Final = "token.sha256"
_LEAST_LETTERS: Final = 16
_DIGEST_DIGITS: Final = 64


class Tokens:
    """The tokens that are let in.

    Args:
        digests: SHA-256 of each, hexadecimal.
    """

    def __init__(self, digests: tuple[str, ...]) -> None:
        self._digests = digests

    def caller(self, token: str) -> str | None:
        """Return what stands for the holder of a token in the audit log; None for an unknown one."""
        digest = _digest(token)
        known = [hmac.compare_digest(digest, one) for one in self._digests]  # all: the time tells nothing
        return digest[:12] if any(known) else None


def load_tokens(state: Path, environment: Mapping[str, str] = os.environ) -> tuple[Tokens, str | None]:
    """Take the tokens of the environment, else the stored one, else make one.

    Args:
        state: Folder of the service; it exists.
        environment: Where `VARIABLE` is looked for.

    Returns:
        The tokens; and the new one, which is nowhere written in plain, or None.

    Raises:
        ConfigError: A token of the environment is short.
        StoreError: The stored digest is damaged.
    """
    given = [token.strip() for token in environment.get(VARIABLE, "").split(",") if token.strip()]
    if any(len(token) < _LEAST_LETTERS for token in given):
        raise ConfigError(
            f"{VARIABLE}: a token has less than {_LEAST_LETTERS} characters; take for example 32 random ones"
        )
    if given:
        return Tokens(tuple(map(_digest, given))), None
    path = state / FILE_NAME
    if path.is_file():
        stored = path.read_text(encoding="ascii", errors="replace").strip()
        if len(stored) != _DIGEST_DIGITS or not set(stored) <= set("0123456789abcdef"):
            raise StoreError(f"{path}: damaged; delete it, and a new token is made")
        return Tokens((stored,)), None
    token = secrets.token_urlsafe(32)
    part = path.with_suffix(".part")
    part.write_text(_digest(token) + "\n", encoding="ascii")
    part.chmod(0o600)
    part.replace(path)
    return Tokens((_digest(token),)), token


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
