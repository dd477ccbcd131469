"""Self-supervised 2D-VoCo pretraining on CT slices and a CNN-LSTM that grades abdominal injuries.

The names below load on first use, so that importing the package stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from voco2d.version import VERSION

if TYPE_CHECKING:
    from voco2d.inference.predictor import Predictor
    from voco2d.io.readers import read_volume
    from voco2d.io.volume import Volume
    from voco2d.models.checkpoint import load_backbone
    from voco2d.preprocessing.preprocess import preprocess
    from voco2d.store.volume_store import VolumeStore

__all__ = ["Predictor", "Volume", "VolumeStore", "__version__", "load_backbone", "preprocess", "read_volume"]

__version__ = VERSION

_HOMES = {
    "Predictor": "voco2d.inference.predictor",
    "Volume": "voco2d.io.volume",
    "VolumeStore": "voco2d.store.volume_store",
    "load_backbone": "voco2d.models.checkpoint",
    "preprocess": "voco2d.preprocessing.preprocess",
    "read_volume": "voco2d.io.readers",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'voco2d' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
