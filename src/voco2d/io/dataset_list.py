"""Reads dataset lists in the style of the Medical Segmentation Decathlon: JSON that names images, split by split.

{"training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}, …], "test": ["imagesTs/b.nii.gz", …]}
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voco2d.errors import UsageError
from voco2d.io.presence import why_absent
from voco2d.io.small_text import read_small_text
from voco2d.io.source import Rejection


def read_dataset_list(path: Path) -> tuple[list[Path], list[Rejection]]:
    """Return the images a list names, whatever the split; labels are not images.

    Names are relative to the list's own folder or, where none of them is there, to the nearest of the folders above
    it that has any: lists are often kept in a `jsons/` folder beside the data. Of an entry with several images, the
    channels of a case, the first is taken.

    Returns:
        Existing images in the order of the list, and a rejection for each one that is not there, each further channel
        and each entry without an image.

    Raises:
        UsageError: When the file is no such list.
    """
    try:
        content: Any = json.loads(read_small_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: can't be read as a JSON dataset list ({type(error).__name__})") from error
    parts = content if isinstance(content, dict) else {"the list": content}
    splits = {name: [_channels(entry) for entry in part] for name, part in parts.items() if isinstance(part, list)}
    splits = {name: split for name, split in splits.items() if any(split)}  # others are lists of something else
    if not splits:
        raise UsageError(f'{path}: no dataset list; it needs {{"training": [{{"image": PATH}}, …]}}')
    named = list(dict.fromkeys(names[0] for split in splits.values() for names in split if names))
    base = _base(path, named)
    images = list(dict.fromkeys(base / name for name in named))
    reasons = {image: why_absent(image) for image in images}
    left_out = [Rejection(str(image), f"named in {path.name} but {why}") for image, why in reasons.items() if why]
    for split, entries in splits.items():
        for number, names in enumerate(entries, start=1):
            if not names:
                left_out.append(Rejection(str(path), f"entry {number} of {split} names no image"))
            left_out += [
                Rejection(str(base / name), f"channel {channel} of a case in {path.name}; only the first is read")
                for channel, name in enumerate(names[1:], start=2)
            ]
    return [image for image, why in reasons.items() if not why], left_out


def _channels(entry: Any) -> list[str]:
    """Names of the images of an entry, one for each channel; none where it is no entry of a list of images."""
    image: Any = entry.get("image") if isinstance(entry, dict) else entry
    several = isinstance(image, list) and isinstance(entry, dict)
    names: list[Any] = image if several else [image]
    return names if all(isinstance(name, str) and _looks_like_a_path(name) for name in names) else []


def _base(path: Path, names: Sequence[str]) -> Path:
    """The folder that names are relative to: the nearest one that has any of them."""
    folders = [path.parent, *path.absolute().parent.parents]
    return next((folder for folder in folders if any(not why_absent(folder / name) for name in names)), path.parent)


def _looks_like_a_path(name: str) -> bool:
    """Lists of the Decathlon also hold lists of words, such as the modalities."""
    return "." in name or "/" in name
