"""What prediction with an ONNX package needs to be installed: everything but torch and what needs torch."""

from collections.abc import Sequence
from typing import Final

from voco2d.version import VERSION, installed_version

PACKAGES: Final[Sequence[str]] = (
    "einops",
    "jaxtyping",
    "jsonargparse",
    "nibabel",
    "numpy",
    "onnxruntime",
    "pandas",
    "pillow",
    "pyarrow",
    "pydicom",
    "pyjpegls",
    "pylibjpeg",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "PyYAML",
    "rich",
    "safetensors",
    "scipy",
    "typeshed_client",
)
"""Distributions that reading, preparing and grading a scan imports; a test compares them with what is imported.

typeshed_client is what `jsonargparse[signatures]` adds.
"""


def requirements_text() -> str:
    """Return a requirements file with the versions installed here, with which the parity of a package is measured."""
    lines = [
        f"# What voco2d {VERSION} needs to predict with this package; torch is not among it.",
        "#     pip install -r requirements.txt",
        "#     pip install --no-deps PATH    (a checkout or a wheel of voco2d)",
        "# These are the versions that parity.json was measured with.",
    ]
    for name in PACKAGES:
        version = installed_version(name)
        lines.append(f"{name}=={version.partition('+')[0]}" if version else name)
    return "\n".join(lines) + "\n"
