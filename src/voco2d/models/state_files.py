"""Tensors by name out of a weights file of anyone, without running anything the file holds."""

import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from voco2d.errors import CheckpointError, MissingCheckpointError

METADATA_KEY = "voco2d"
"""Under which our safetensors files keep their description, as JSON."""
DIGEST_KEY = "voco2d.digest"
"""Under which they keep what `digest` gave; files of before have none."""
_NESTS = ("state_dict", "model", "model_state_dict", "student", "net")
"""Keys under which other people's checkpoints keep their state dict."""
_OPTIMIZERS = ("torch.optim.adamw.AdamW", "torch.optim.adam.Adam", "torch.optim.sgd.SGD")
"""What the paper's code pickles whole beside its state dict; read as nothing."""

Metadata = dict[str, Any]
State = dict[str, Tensor]


class _Ignored:
    """Stands for an object in a checkpoint that nobody needs; takes its state and drops it."""

    def __setstate__(self, state: object) -> None:
        """Take nothing."""


def _plain_dict(factory: object) -> dict[object, object]:
    """Stand for a defaultdict, which a safe load can't fill."""
    del factory
    return {}


def read_state(path: Path) -> tuple[State, Metadata]:
    """Read a weights file: safetensors or what `torch.save` wrote, whatever its name ends in.

    Returns:
        The tensors; and the description that our own files have, else nothing.

    Raises:
        CheckpointError: Missing, damaged, not a state dict, or made to fill the memory.
    """
    if is_safetensors(path):
        tensors, header = read_safetensors(path)
        return tensors, parse_metadata(header, path) if METADATA_KEY in header else {}
    return _read_torch(path), {}


def is_safetensors(path: Path) -> bool:
    """Tell whether a file is, or claims to be, safetensors.

    Raises:
        CheckpointError: There is no such file, or it may not be read.
    """
    if not path.is_file():
        raise MissingCheckpointError(f"{path}: no such file; give a run folder, *.safetensors, *.pt or *.pth")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path}: this user may not read it; change its owner or rights")
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # 8 bytes of length, then a JSON object


def read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    """Return the tensors and the header's words of a safetensors file.

    Raises:
        CheckpointError: Missing or damaged, or its tensors are not those that `save_weights` wrote.
    """
    is_safetensors(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            header: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); use another checkpoint of the run") from error
    if DIGEST_KEY in header and header[DIGEST_KEY] != digest(tensors, header.get(METADATA_KEY, "")):
        raise CheckpointError(
            f"{path}: damaged (its content is not what was written); use another checkpoint of the run"
        )
    return tensors, header


def digest(tensors: Mapping[str, Tensor], described: str) -> str:
    """Return the BLAKE2b of a description and of contiguous tensors on the host, with their names, types and shapes."""
    total = hashlib.blake2b(described.encode(), digest_size=32)
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def parse_metadata(header: Mapping[str, str], path: Path) -> Metadata:
    """Return the description in the header of one of our files.

    Raises:
        CheckpointError: It can't be read.
    """
    try:
        metadata = json.loads(header[METADATA_KEY])
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its description is damaged; use another checkpoint of the run") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: its description is damaged; use another checkpoint of the run")
    return metadata


def _read_torch(path: Path) -> State:
    _refuse_packed(path)
    known: list[Any] = [dict, (_plain_dict, "collections.defaultdict"), *((_Ignored, name) for name in _OPTIMIZERS)]
    try:
        with torch.serialization.safe_globals(known):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: no state dict of plain tensors; save it as torch.save(model.state_dict(), FILE)"
        ) from error
    except Exception as error:  # what a damaged archive or pickle raises has no common class
        raise CheckpointError(f"{path}: not a checkpoint, or damaged ({type(error).__name__})") from error
    for nest in ("", *_NESTS):
        inner = content.get(nest) if nest and isinstance(content, Mapping) else content
        tensors = (
            {k: v for k, v in inner.items() if isinstance(k, str) and isinstance(v, Tensor)}
            if isinstance(inner, Mapping)
            else {}
        )
        if tensors:
            return _refuse_hollow(tensors, path)
    raise CheckpointError(f"{path}: holds no tensors; looked at its top and under {', '.join(_NESTS)}")


def _refuse_packed(path: Path) -> None:
    """Refuse archives that grow when they are read; `torch.save` compresses nothing."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: not a checkpoint, or damaged ({type(error).__name__})") from error
    size = path.stat().st_size
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size:
        raise CheckpointError(f"{path}: a packed archive, which torch never writes; give the checkpoint it was made of")


def _refuse_hollow(tensors: State, path: Path) -> State:
    """Refuse tensors without memory of their own behind them, which would fill it once they are used."""
    size = path.stat().st_size
    for key, tensor in tensors.items():
        plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.numel() * tensor.element_size() > size:
            raise CheckpointError(f"{path}: {key} is no plain tensor, or larger than the file; save a state dict anew")
    return tensors
