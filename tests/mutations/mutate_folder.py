"""Ways to damage a folder: links, pipes, odd names, copies."""

from collections.abc import Callable
from pathlib import PurePosixPath

from corpus import OUTSIDE, Entry, Fifo, Files, Link
from draw import Draw, pick

_ODD_STEMS = (
    "a\nb",
    "a\x1b[31mred",
    "\x07\x08\x7f",
    "a\u202egnp",
    "a\udcff\udcfe",
    "  leading",
    "a,\"b'c",
    "=1+1",
    "%s%n{0}",
    "-rf",
    "con",
    "🙂",
    "a\\b",
    "x=1",
)
_LONGEST_NAME = 255


def link(files: Files, name: str, draw: Draw) -> Files:
    """A link in place of the file: to itself, nowhere, a device, its copy outside, or the folder it lies in."""
    targets = (
        PurePosixPath(name).name,
        "nowhere",
        "/dev/zero",
        "/dev/null",
        f"{OUTSIDE}/{name}",
        f"{OUTSIDE}/{name}",
        ".",
        "x" * 300,
    )
    return {**files, name: Link(pick(targets, draw))}


def link_beside(files: Files, name: str, draw: Draw) -> Files:
    """Links to folders beside sound files: loops, and a second way to the same files."""
    targets = (".", "..", OUTSIDE, "loop")
    return {**files, str(PurePosixPath(name).with_name("loop")): Link(pick(targets, draw))}


def fifo(files: Files, name: str, draw: Draw) -> Files:
    """A pipe in place of the file, or beside it."""
    if draw.integers(2):
        return {**files, name: Fifo()}
    return {**files, str(PurePosixPath(name).with_name(f"pipe{PurePosixPath(name).suffix}")): Fifo()}


def odd_name(files: Files, name: str, draw: Draw) -> Files:
    """Another name of the same file."""
    path = PurePosixPath(name)
    ends = "".join(path.suffixes)
    stem = "n" * (_LONGEST_NAME - len(ends)) if draw.integers(5) == 0 else pick(_ODD_STEMS, draw)
    return {str(path.with_name(stem + ends)) if key == name else key: data for key, data in files.items()}


def shuffled_names(files: Files, _: str, draw: Draw) -> Files:
    """The files of a folder under each other's names: the order of slices is that of their headers."""
    names = sorted(key for key in files if key.endswith(".dcm"))
    others = draw.permutation(names).tolist() if len(names) > 1 else names
    return {**files, **{new: files[old] for old, new in zip(names, others, strict=True)}}


def copy(files: Files, name: str, draw: Draw) -> Files:
    """A copy beside the file, or in a folder of its own."""
    path = PurePosixPath(name)
    beside = path.with_name(f"copy{''.join(path.suffixes)}")
    data: Entry = files[name]
    return {**files, str(beside if draw.integers(2) else path.parent / "more" / path.name): data}


WAYS: tuple[Callable[[Files, str, Draw], Files], ...] = (link, link_beside, fifo, odd_name, shuffled_names, copy)
