"""The model card of a shared backbone: what it is, what it is for, and what was done to make it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from voco2d.models.hub_config import training_size, window_hu
from voco2d.version import VERSION

_NOT_TOLD = (
    "patients_seen",
    "patients_seen_count",
    "backbone",
    "in_chans",
    "kind",
    "converted_from",
    "converted_file",
    "targets",
    "preprocess",
    "read",
)
"""Parts of a description that have a place of their own on the card, or none."""


def model_card(name: str, kind: str, features: int, config: Mapping[str, Any], licence: str) -> str:
    """Return the `README.md` of a Hugging Face folder.

    Args:
        name: timm name.
        kind: What the weights were converted from.
        features: Length of an image's feature vector.
        config: The folder's `config.json`, with the checkpoint's description under `voco2d`.
        licence: SPDX id of the weights, or `unknown`.
    """
    metadata: Mapping[str, Any] = config["voco2d"]
    sections = {
        "Use": _use(config, features),
        "Intended use": _intended(),
        "Images": _images(config, metadata),
        "Training": _training(metadata),
        "Limits": _limits(metadata),
        "Licence": _licence(licence),
        "Citation": _citation(),
    }
    lead = (
        f"The timm backbone `{name}` for {config['model_args']['in_chans']}-channel CT slices, without a classifier: "
        f"{features} features an image. Converted by voco2d {VERSION} from: {kind}."
    )
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"{_front_matter(licence)}\n# {name}, CT slices\n\n{lead}\n\n{body}\n"


def _front_matter(licence: str) -> str:
    return "\n".join(
        [
            "---",
            f"license: {licence}",
            "library_name: timm",
            "pipeline_tag: image-feature-extraction",
            "tags:",
            *(f"- {tag}" for tag in ("timm", "image-feature-extraction", "voco2d", "medical", "computed-tomography")),
            "---",
            "",
        ]
    )


def _use(config: Mapping[str, Any], features: int) -> str:
    channels, *size = config["pretrained_cfg"]["input_size"]
    return "\n".join(
        [
            "```python",
            "import timm",
            "import torch",
            "",
            'model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # or "hf-hub:OWNER/NAME"',
            f"slices = torch.rand(1, {channels}, {size[0]}, {size[1]})",
            f"features = model(slices)  # (1, {features})",
            "```",
            "",
            'With voco2d: `voco2d.load_backbone("FOLDER")`, or `voco2d finetune STORE --init FOLDER --out RUN`.',
        ]
    )


def _intended() -> str:
    return (
        "Research only: features of CT slices for further training and for experiments. This is not a medical device. "
        "It has not been validated for any clinical purpose and must not be used for diagnosis, triage or any other "
        "decision about a patient."
    )


def _images(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    cfg = config["pretrained_cfg"]
    window = window_hu(metadata)
    told = (
        f"- `window_hu`: {window[0]:g} … {window[1]:g} HU, mapped to 0 … 1 and clipped; no further normalisation"
        if window
        else "- the source doesn't tell how its images were prepared: mean and standard deviation in `config.json` are "
        "timm's for this architecture; check them before use"
    )
    lines = [
        "- axial slices, rows from anterior to posterior, columns from the patient's right to left",
        told,
        f"- mean {_numbers(cfg['mean'])}, standard deviation {_numbers(cfg['std'])}",
        f"- {cfg['input_size'][1]} × {cfg['input_size'][2]} pixels"
        + (" only" if cfg["fixed_input_size"] else (" in training" if training_size(metadata) else "")),
    ]
    if metadata.get("preprocess"):
        lines += ["", f"Preparation of the volumes (`preprocess`):\n\n{_json(metadata['preprocess'])}"]
    return "\n".join(lines)


def _training(metadata: Mapping[str, Any]) -> str:
    settings = {key: value for key, value in metadata.items() if key not in _NOT_TOLD}
    if not settings:
        return "The source tells nothing about it."
    seen = metadata.get("patients_seen_count")
    patients = f"Patients seen: {seen}.\n\n" if seen is not None else ""
    return f"{patients}Settings as recorded by the run:\n\n{_json(settings)}"


def _limits(metadata: Mapping[str, Any]) -> str:
    seen = (
        "voco2d can tell by the recorded digests whether a patient was among them."
        if isinstance(metadata.get("patients_seen"), list)
        else "The folder doesn't tell which they were."
    )
    return (
        "Scanners, protocols, body regions and people unlike those of the training data may give other features. "
        f"Never score the model on patients it was trained on. {seen}"
    )


def _licence(licence: str) -> str:
    if licence == "unknown":
        return "Not stated for these weights: ask whoever trained them, and mind the terms of the training data."
    return f"The weights: {licence}. The training data have their own terms."


def _citation() -> str:
    return "2D-VoCo: arXiv 2601.14593. VoCo: arXiv 2402.17300."


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _json(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2, sort_keys=True)}\n```"
