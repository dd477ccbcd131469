"""Reads any supported source into a `Volume`; a new format is a module of this folder and one line of `READERS`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from voco2d.errors import ReadError
from voco2d.io.dicom import read_dicom
from voco2d.io.discover import discover
from voco2d.io.itk_image import read_itk
from voco2d.io.nifti import read_nifti
from voco2d.io.numpy_array import read_numpy
from voco2d.io.source import ReadArgs, Rejection, Source
from voco2d.io.volume import Volume

__all__ = ["READERS", "ReadArgs", "read_source", "read_volume"]

_NAMED_IN_ERROR = 3
_DEFAULTS = ReadArgs()

READERS: Mapping[str, Callable[[Source, ReadArgs], tuple[Volume, tuple[Rejection, ...]]]] = MappingProxyType(
    {"dicom": read_dicom, "nifti": read_nifti, "itk": read_itk, "numpy": read_numpy}
)


def read_source(source: Source, args: ReadArgs = _DEFAULTS) -> tuple[Volume, tuple[Rejection, ...]]:
    """Read one source that `discover` found.

    Returns:
        The volume, and single bad files of an otherwise good series.

    Raises:
        ReadError: When it is not a CT volume, with the reason.
    """
    _refuse_undecodable(source)
    return READERS[source.kind](source, args)


def read_volume(path: Path | str, args: ReadArgs = _DEFAULTS) -> Volume:
    """Read the one volume at `path`: a NIfTI or NumPy file, or a folder that holds one series.

    Args:
        path: File or folder.
        args: How to read.

    Raises:
        UsageError: When there is nothing at `path`.
        ReadError: When there is no volume or more than one.
    """
    path = Path(path)
    sources, rejections = discover([path])
    if len(sources) > 1:
        names = ", ".join(str(source.path) for source in sources[:_NAMED_IN_ERROR])
        more = ", …" if len(sources) > _NAMED_IN_ERROR else ""
        raise ReadError(path, f"holds {len(sources)} series, name one of them: {names}{more}")
    if not sources:
        reason = f"no CT series in it ({rejections[0].reason})" if rejections else "no CT series in it"
        raise ReadError(path, rejections[0].reason if path.is_file() and rejections else reason)
    volume, _ = read_source(sources[0], args)
    return volume


def _refuse_undecodable(source: Source) -> None:
    """Refuse names in another encoding than UTF-8: neither tables nor JSON can hold them.

    Raises:
        ReadError: When the path has bytes that are no UTF-8.
    """
    try:
        "".join(map(str, (source.path, *source.files))).encode()
    except UnicodeEncodeError as error:
        raise ReadError(source.path, "its name or that of a folder above it is not UTF-8; rename it") from error
