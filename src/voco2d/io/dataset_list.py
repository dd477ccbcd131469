"""Reads dataset lists in the style of the Medical Segmentation Decathlon: JSON that names images, split by split.

{"training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}, …], "test": ["imagesTs/b.nii.gz", …]}
"""

import json
from pathlib import Path
from typing import Any

from voco2d.errors import UsageError
from voco2d.io.source import Rejection


def read_dataset_list(path: Path) -> tuple[list[Path], list[Rejection]]:
    """Return the images a list names, whatever the split; labels are not images.

    Names are relative to the list's own folder or, where nothing is there, to the nearest of the folders above it
    that has the first image: lists are often kept in a `jsons/` folder beside the data.

    Returns:
        Existing images in the order of the list, and a rejection for each one that is not there.

    Raises:
        UsageError: When the file is no such list.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: can't be read as a JSON dataset list ({type(error).__name__})") from error
    splits = [part for part in content.values() if isinstance(part, list)] if isinstance(content, dict) else [content]
    entries = [entry for split in splits if isinstance(split, list) for entry in split]
    names = [entry.get("image") if isinstance(entry, dict) else entry for entry in entries]
    named = [name for name in names if isinstance(name, str) and _looks_like_a_path(name)]
    base = next(
        (folder for folder in path.absolute().parents if named and not _why_not(folder / named[0])), path.parent
    )
    images = [(path.parent if base == path.absolute().parent else base) / name for name in named]
    if not images:
        raise UsageError(f'{path}: no dataset list; it needs {{"training": [{{"image": PATH}}, …]}}')
    images = list(dict.fromkeys(images))
    reasons = {image: _why_not(image) for image in images}
    missing = [Rejection(str(image), f"named in {path.name} but {why}") for image, why in reasons.items() if why]
    return [image for image, why in reasons.items() if not why], missing


def _why_not(image: Path) -> str:
    """Say why there is nothing to read at a path; empty where there is something."""
    try:
        if image.exists():
            return ""
        return "a link that leads nowhere" if image.is_symlink() else "missing"
    except OSError as error:  # such as a name that is too long for the file system
        return f"can't be opened ({error.strerror})"


def _looks_like_a_path(name: str) -> bool:
    """Lists of the Decathlon also hold lists of words, such as the modalities."""
    return "." in name or "/" in name
