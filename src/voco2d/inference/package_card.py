"""The card of an ONNX package: what it is, what it may be used for, and how it is used."""

from collections.abc import Mapping, Sequence
from typing import Any

from voco2d.inference.onnx_package import INPUT_NAME, MEAN_NAME, MODEL_NAME
from voco2d.inference.parity import TOLERANCE, Parity
from voco2d.inference.settings import ModelSettings
from voco2d.version import VERSION


def package_card(
    metadata: Mapping[str, Any], folds: int, settings: ModelSettings, parity: Parity, files: Sequence[str], licence: str
) -> str:
    """Return the `README.md` of a package.

    Args:
        metadata: Of the weights, as `voco2d finetune` wrote it.
        folds: Number of classifiers in the model.
        settings: From raw files to the slices the model sees.
        parity: What was measured.
        files: Names of the files of the package.
        licence: SPDX id of the weights, or `unknown`.
    """
    sections = {
        "Intended use": _intended(),
        "Use": _use(),
        "Without torch": _without_torch(),
        "Input": _input(settings),
        "Output": _output(folds, len(settings.targets.columns)),
        "Parity": _parity(parity),
        "Training": _training(metadata, folds),
        "Limits": _limits(),
        "Files": _files(files),
        "Licence": _licence(licence),
    }
    what = "Grades injuries of the abdomen on CT" if settings.targets.is_rsna else "Grades CT"
    lead = (
        f"{what}: {', '.join(settings.targets)}. **Research use only.** Written by `voco2d export`, voco2d {VERSION}."
    )
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    title = "Abdominal injury classifier" if settings.targets.is_rsna else "CT classifier"
    return f"# {title}, ONNX\n\n{lead}\n\n{body}\n"


def _intended() -> str:
    return (
        "Research only. This is not a medical device. It has not been validated for any clinical purpose and must not "
        "be used for diagnosis, triage or any other decision about a patient."
    )


def _use() -> str:
    return "```\nvoco2d predict STUDY --model FOLDER --runtime onnx --out predictions.csv\n```"


def _without_torch() -> str:
    return (
        "```\npip install -r FOLDER/requirements.txt\npip install --no-deps PATH\n```\n\n"
        "PATH is a checkout or a wheel of voco2d. The same command then reads, prepares and grades scans with neither "
        "torch nor timm installed."
    )


def _input(settings: ModelSettings) -> str:
    readout = settings.readout
    windows = ", ".join(f"{low:g} … {high:g}" for low, high in readout.windows)
    return (
        f"`{INPUT_NAME}`: (batch, slices, {readout.channels}, {readout.crop}, {readout.crop}) float32, 0 … 1; batch "
        f"and slices are free, {readout.slices} slices were trained with. Slices go from superior to inferior, rows "
        "from anterior to posterior, columns from the patient's right to left. "
        f"HU windows: {windows}, mapped to 0 … 1 and clipped; channels are the {readout.stack} neighbouring "
        "slice(s) of each window in turn. `preprocessing.json` holds how a scan becomes that."
    )


def _output(folds: int, classes: int) -> str:
    return (
        f"`{MEAN_NAME}`: (batch, {classes}), the mean over the {folds} fold(s), not calibrated, in the "
        "order of `columns` in `labels.json`; the classes of a target sum to 1. `fold_<i>_<target>` are a fold's "
        "logits, `fold_<i>_features` the mean over the slices of its backbone's features."
    )


def _parity(parity: Parity) -> str:
    return (
        f"ONNX Runtime against torch on {len(parity.cases)} inputs of noise and phantoms with several numbers of "
        f"volumes and slices: largest difference {parity.worst:.2g}, allowed {TOLERANCE:g}. Between those inputs a "
        f"class's probability varies by up to {parity.spread:.2g}. Each input stands in `parity.json`."
    )


def _training(metadata: Mapping[str, Any], folds: int) -> str:
    classifier = metadata.get("classifier") or {}
    told = {**classifier, "started from": metadata.get("init"), "share of the labels used": metadata.get("fraction")}
    seen = metadata.get("patients_seen")
    lines = [f"- {name}: {value}" for name, value in told.items() if value is not None]
    lines += [f"- patients seen by the first of the {folds} fold(s): {len(seen)}"] if isinstance(seen, list) else []
    return "\n".join(lines)


def _limits() -> str:
    return (
        "Scanners, protocols, body regions and people unlike those of the training data may give other answers. Never "
        "score the model on patients it was trained on. The SHA-256 sums tell of damage, not of who wrote the package."
    )


def _files(files: Sequence[str]) -> str:
    listed = ", ".join(f"`{name}`" for name in files if name != MODEL_NAME)
    return f"`{MODEL_NAME}`, {listed}, and `SHA256SUMS` over all of them (`sha256sum -c SHA256SUMS`)."


def _licence(licence: str) -> str:
    if licence == "unknown":
        return "Not stated for these weights: ask whoever trained them, and mind the terms of the training data."
    return f"The weights: {licence}. The training data have their own terms."
