"""What the quality page needs of a volume: its measures and its picture, made while it is in memory."""

import logging
from typing import Any

from voco2d.io.volume import Volume
from voco2d.logs import wordless
from voco2d.preprocessing.preprocess import Prepared
from voco2d.quality.body_grid import prepared_spacing_mm
from voco2d.quality.measure import measure
from voco2d.quality.thumbnail import thumbnail
from voco2d.store.files import write_atomically
from voco2d.store.layout import thumbnail_path
from voco2d.store.location import Location

_log = logging.getLogger(__name__)


def survey(root: Location, key: str, volume: Volume, prepared: Prepared) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Measure a volume and write its picture. What fails is noted: it must not cost the volume.

    Args:
        root: The store.
        key: Name of the volume.
        volume: As read.
        prepared: As prepared.

    Returns:
        Its row of the quality table, empty where measuring failed, and notes on what failed.

    Raises:
        OSError: The picture can't be written.
    """
    row: dict[str, Any] = {}
    picture: bytes | None = None
    flaws: list[str] = []
    try:
        row = measure(volume, prepared)
    except Exception as error:  # whatever a strange volume brings about; the words may hold identifiers
        _log.debug("measuring failed\n%s", wordless(error))
        flaws.append("quality: not measured")
    try:
        bare = any(note.startswith("no geometry") for note in volume.notes)
        picture = thumbnail(prepared, None if bare else prepared_spacing_mm(volume, prepared))
    except Exception as error:
        _log.debug("drawing failed\n%s", wordless(error))
        flaws.append("quality: no picture")
    if picture is not None:
        content = picture
        write_atomically(thumbnail_path(root, key), lambda file: file.write(content))
    return row, tuple(flaws)
