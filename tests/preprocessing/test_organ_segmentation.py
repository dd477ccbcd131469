import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from voco2d.errors import ConfigError
from voco2d.io.volume import Volume
from voco2d.preprocessing.organ_crop import check_organ_crop
from voco2d.preprocessing.organ_segmentation import segment_organs
from voco2d.preprocessing.preprocess import PreprocessArgs, prepare_volume
from voco2d.types import HuVolume

MakeVolume = Callable[[HuVolume], Volume]
ARGS = PreprocessArgs(size=(4, 16, 16), organ_crop="totalsegmentator", organ_margin_mm=0.0)


@pytest.fixture
def volume(make_volume: MakeVolume, body: Callable[..., HuVolume]) -> Volume:
    hu = body((12, 64, 64), (32, 32), (24, 28))
    hu[3:9, 25:40, 12:30] = 110  # enhanced liver
    return make_volume(hu)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A module that calls what is enhanced the liver, and notes how it was called."""
    calls: list[dict[str, Any]] = []

    def totalsegmentator(input: Path, output: Path, **settings: Any) -> Any:  # noqa: A002
        image: Any = nib.load(input)
        calls.append({"shape": image.shape, "names": (input.name, output.name), **settings})
        labels = np.where(np.asarray(image.dataobj) == 110, 5, 0).astype(np.uint8)
        labels[0, 0, 0] = 90  # some class that is of no interest
        mask: Any = nib.Nifti1Image(labels, image.affine)  # type: ignore[no-untyped-call]
        nib.save(mask, output)
        return mask

    package, api = ModuleType("totalsegmentator"), ModuleType("totalsegmentator.python_api")
    api.totalsegmentator = totalsegmentator  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "totalsegmentator", package)
    monkeypatch.setitem(sys.modules, "totalsegmentator.python_api", api)
    return calls


def test_its_mask_is_laid_on_the_volume(volume: Volume, stand_in: list[dict[str, Any]]) -> None:
    prepared = prepare_volume(volume, ARGS)
    assert prepared.box == (3, 9, 25, 40, 12, 30)
    assert prepared.notes == ("organ box: 6 x 15 x 18 voxels with 0 mm margin",)
    (call,) = stand_in
    assert call == {
        "shape": (64, 64, 12),
        "names": ("ct.nii", "organs.nii.gz"),
        "ml": True,
        "fast": True,
        "quiet": True,
    }


@pytest.mark.usefixtures("stand_in")
def test_an_empty_mask_keeps_the_body(volume: Volume) -> None:
    volume.hu[volume.hu == 110] = 60
    prepared = prepare_volume(volume, ARGS)
    assert prepared.box == prepare_volume(volume, PreprocessArgs(size=(4, 16, 16))).box
    assert prepared.notes == (
        "organ box: none, none of the organs of interest is in the mask, crop to the body instead",
    )


def test_without_the_package_the_install_line_is_named(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "totalsegmentator.python_api", None)
    with pytest.raises(ConfigError, match="pip install TotalSegmentator"):
        segment_organs(volume)
    with pytest.raises(ConfigError, match="pip install TotalSegmentator"):
        check_organ_crop("totalsegmentator", None)
