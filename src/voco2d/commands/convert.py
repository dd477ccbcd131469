"""`voco2d convert`: checkpoints of any kind to what plain timm and the Hugging Face hub load."""

import argparse
import json
import logging
import re

from voco2d.errors import UsageError
from voco2d.models.conversion import Conversion, ConvertArgs, convert

_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


def run(options: argparse.Namespace) -> int:
    """Convert, and tell what matched and what did not."""
    if not _LICENCE.fullmatch(options.license):
        raise UsageError(f"--license {options.license}: give an SPDX id such as apache-2.0, or unknown")
    if options.in_chans == 0:
        raise UsageError("--in-chans 0: an image has at least one channel")
    if not options.verbose:
        logging.getLogger("timm").setLevel(logging.WARNING)  # it tells of files that are gone afterwards
    args = ConvertArgs(options.to, options.backbone, options.in_chans, options.license, options.keep_patients)
    result = convert(options.source, options.out, args)
    if options.json:
        print(json.dumps(result.tree(), indent=2))
    else:
        print(_told(result, options.to))
    return 0 if result.is_complete else 1


def _told(result: Conversion, form: str) -> str:
    before, after = result.channels
    lines = [f"{result.source}: {result.kind}; {result.matched} tensors of {result.backbone} matched"]
    kinds = {"missing": result.missing, "unexpected": result.unexpected, "does not fit": result.reshaped}
    lines += [f"  {kind}: {key}" for kind, keys in kinds.items() for key in keys]
    if result.left_out:
        parts = sorted({".".join(key.split(".")[:2]) for key in result.left_out})
        shown = ", ".join(parts[:6]) + (", …" if len(parts) > 6 else "")
        lines.append(f"left out, no part of the backbone: {len(result.left_out)} tensors ({shown})")
    if not result.is_complete:
        count = sum(map(len, kinds.values()))
        return "\n".join([*lines, f"nothing written: {count} tensors didn't match; is --backbone right?"])
    if before != after:
        lines.append(f"first convolution: {before} channels summed to {after}")
    lines.append(f"written: {', '.join(result.written)}")
    lines.append(
        f"plain timm gives the same features (largest difference {result.difference:.2g}): {_call(result, form)}"
    )
    return "\n".join(lines)


def _call(result: Conversion, form: str) -> str:
    if form == "hf":
        folder = result.written[0].rpartition("/")[0]
        return f'timm.create_model("local-dir:{folder}", pretrained=True)'
    name = result.backbone.split(".")[0]
    settings = f"in_chans={result.channels[1]}, num_classes=0"
    return f'timm.create_model("{name}", checkpoint_path="{result.written[0]}", {settings})'
