from collections.abc import Callable

import numpy as np
import pytest

from voco2d.io.volume import Volume
from voco2d.types import HuVolume


def draw_body(shape: tuple[int, int, int], centre: tuple[float, float], radii: tuple[float, float]) -> HuVolume:
    """Soft tissue in the form of an elliptic cylinder, in air."""
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    inside = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[:, inside] = 40
    return hu


@pytest.fixture
def make_volume() -> Callable[[HuVolume], Volume]:
    def make(hu: HuVolume) -> Volume:
        return Volume(
            hu=hu,
            spacing_mm=(2.0, 1.0, 1.0),
            direction=np.eye(3),
            origin_mm=(0.0, 0.0, 0.0),
            patient_id="p",
            study_id="t",
            series_id="s",
            source="somewhere/scan.nii",
        )

    return make


@pytest.fixture
def body() -> Callable[..., HuVolume]:
    return draw_body
