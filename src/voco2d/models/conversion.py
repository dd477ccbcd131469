"""Checkpoints of any kind, written as what plain timm loads: one safetensors file or a Hugging Face folder."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from voco2d.errors import CheckpointError, UsageError
from voco2d.models.checkpoint import build_loaded, match_backbone, save_weights
from voco2d.models.hub_config import describe_for_hub, image_size
from voco2d.models.model_card import model_card
from voco2d.models.state_names import Match, complete

Form = Literal["timm", "hf"]
_PAPER = "2D-VoCo, the paper's code"
_PAPER_WINDOW_HU = (-175.0, 250.0)
"""What the paper maps to 0…1; its files don't say so."""
_TOLERANCE = 1e-6
"""Largest allowed difference between features before and after, as a share of the largest feature."""


@dataclass(frozen=True)
class Conversion:
    """What `convert` found, and wrote where everything matched.

    Args:
        source: The checkpoint's name.
        kind: What it is: a voco2d run, the paper's code, lightly, timm.
        backbone: timm name.
        channels: Of the images, in the checkpoint and in what was written.
        matched: Number of tensors of the backbone that were found as they should be.
        prefix: What the backbone's tensors are called by in the checkpoint before timm's own names.
        missing: As `Match`.
        unexpected: As `Match`.
        reshaped: As `Match`, with tensors that hold infinite or undefined numbers.
        left_out: As `Match`.
        written: Files, none where something didn't match.
        difference: Largest difference of features between the checkpoint and plain timm with what was written.
    """

    source: str
    kind: str
    backbone: str
    channels: tuple[int, int]
    matched: int
    prefix: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    left_out: tuple[str, ...]
    written: tuple[str, ...] = ()
    difference: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of the backbone matched."""
        return not (self.missing or self.unexpected or self.reshaped)

    def tree(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {"complete": self.is_complete, **asdict(self)}


@dataclass(frozen=True)
class ConvertArgs:
    """Settings of `convert`.

    Args:
        form: `timm`, one safetensors file; or `hf`, a folder with config.json, model.safetensors and README.md.
        backbone: timm name; None takes what the checkpoint says, or the paper's backbone that fits.
        in_chans: C of the result; None keeps the checkpoint's.
        licence: SPDX id of the weights, for the model card.
        keep_patients: Whether a folder keeps the digests of the patients that the weights have seen.
    """

    form: Form = "timm"
    backbone: str | None = None
    in_chans: int | None = 1
    licence: str = "unknown"
    keep_patients: bool = False


def convert(source: Path, dest: Path, args: ConvertArgs) -> Conversion:
    """Write the backbone of a checkpoint for plain timm; nothing is written unless every tensor matches.

    Args:
        source: Run folder or file, as for `backbone_state`.
        dest: What to write; must not exist.
        args: Settings.

    Raises:
        UsageError: `dest` exists or is wrongly named, or timm knows no such backbone.
        CheckpointError: The source can't be read, or what was written doesn't give the same features.
    """
    if os.path.lexists(dest):
        raise UsageError(f"{dest}: exists; remove it or choose another --out")
    if args.form == "timm" and dest.suffix != ".safetensors":
        raise UsageError(f"{dest}: timm tells formats by their ending; name it {dest.name}.safetensors")
    matched, metadata = match_backbone(source, args.backbone)
    found = _found(source, matched, metadata, args)
    if not found.is_complete:
        return found
    model = build_loaded(complete(matched), found.backbone, found.channels[1], str(source))
    description = {
        **({"window_hu": list(_PAPER_WINDOW_HU)} if found.kind == _PAPER else {}),
        **metadata,
        "in_chans": found.channels[1],
        "converted_from": found.kind,
        "converted_file": source.resolve().name,
    }
    dest.parent.mkdir(parents=True, exist_ok=True)
    temporary = dest.with_name(f".{os.getpid()}.{dest.name}")
    try:
        if args.form == "timm":
            save_weights(temporary, model.state_dict(), description)
        else:
            _write_folder(temporary, model, found, description, args)
        difference = _compare(model, temporary, found, args.form)
        temporary.rename(dest)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)
    files = sorted(dest.iterdir()) if dest.is_dir() else [dest]
    return replace(found, written=tuple(map(str, files)), difference=difference)


def _found(source: Path, matched: Match, metadata: Mapping[str, Any], args: ConvertArgs) -> Conversion:
    undefined = tuple(
        f"{key} holds infinite or undefined numbers"
        for key, tensor in matched.state.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    )
    channels = int(metadata["in_chans"])
    wrong = {text.split(" ")[0] for text in (*matched.reshaped, *undefined)}
    return Conversion(
        source.resolve().name,
        _kind(matched, metadata),
        matched.name,
        (channels, args.in_chans or channels),
        len(matched.state.keys() - wrong),
        matched.prefix or "",
        matched.missing,
        matched.unexpected,
        (*matched.reshaped, *undefined),
        matched.left_out,
    )


def _kind(matched: Match, metadata: Mapping[str, Any]) -> str:
    """Name what a checkpoint is, from its description or its tensors' names."""
    if metadata.get("kind"):
        return str(metadata.get("converted_from") or f"voco2d {metadata['kind']} run")
    prefix = matched.prefix or ""
    if prefix.endswith("student.") and any("student_proj_head." in key for key in matched.left_out):
        return _PAPER
    if "backbone." in prefix:
        return "lightly"
    return str(metadata.get("converted_from") or ("state dict" if prefix else "timm"))


def _write_folder(
    path: Path, model: nn.Module, found: Conversion, description: Mapping[str, Any], args: ConvertArgs
) -> None:
    shared = dict(description)
    if "init" in shared:
        shared["init"] = str(shared["init"]).replace("\\", "/").rpartition("/")[2]
    seen = shared.get("patients_seen")
    if isinstance(seen, list):
        shared["patients_seen_count"] = len(seen)
        if not args.keep_patients:
            del shared["patients_seen"]
    path.mkdir()
    save_weights(path / "model.safetensors", model.state_dict(), shared)
    config = describe_for_hub(model, found.backbone, found.channels[1], shared)
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    # mobilenetv3 and its like end in a layer after timm's num_features
    features = int(getattr(model, "head_hidden_size", None) or config["num_features"])
    card = model_card(found.backbone, found.kind, features, config, args.licence)
    (path / "README.md").write_text(card, encoding="utf-8")


@torch.no_grad()
def _compare(model: nn.Module, written: Path, found: Conversion, form: Form) -> float:
    """Return the largest difference of features between `model` and plain timm with what was written.

    Raises:
        CheckpointError: They differ.
    """
    settings: dict[str, Any] = {"in_chans": found.channels[1], "num_classes": 0}
    plain: nn.Module = (
        timm.create_model(found.backbone.split(".")[0], checkpoint_path=str(written), **settings)
        if form == "timm"
        else timm.create_model(f"local-dir:{written}", pretrained=True)
    )
    size = image_size(found.backbone)
    image = torch.rand(2, found.channels[1], size, size, generator=torch.Generator().manual_seed(0))
    expected: Tensor = model(image)
    difference = float((plain.eval()(image) - expected).abs().max())
    if not difference <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        raise CheckpointError(f"{found.source}: plain timm gives features that differ by {difference:.2g}; report this")
    return difference
