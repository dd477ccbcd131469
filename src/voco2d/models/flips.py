"""Names of the mirror images that a volume may be graded as besides."""

from collections.abc import Mapping, Sequence

from voco2d.errors import ConfigError

FLIP_AXES: Mapping[str, int] = {"depth": 1, "height": 3, "width": 4}
"""What can be mirrored → its axis in (B, S, C, H, W)."""


def check_flips(flips: Sequence[str]) -> None:
    """Refuse unknown names.

    Raises:
        ConfigError: The message lists the known ones.
    """
    unknown = [name for name in flips if name not in FLIP_AXES]
    if unknown or len(set(flips)) < len(flips):
        raise ConfigError(f"test_flips={list(flips)}: choose each of {', '.join(FLIP_AXES)} at most once, or none: []")
