"""3D VoCo's encoder, against the closed form of a Swin transformer (arXiv 2103.14030)."""

import sys

import pytest
import torch

from voco2d.errors import UsageError
from voco2d.models.swin3d import DIVISOR, FEATURES, Swin3D

WIDTH, HEADS, WINDOW, PATCH, BLOCKS = 48, (3, 6, 12, 24), 7, 2, 2


@pytest.mark.filterwarnings("ignore")
def test_parameters_are_those_of_the_closed_form() -> None:
    pytest.importorskip("monai")
    expected = PATCH**3 * WIDTH + WIDTH
    for stage, heads in enumerate(HEADS):
        width = WIDTH * 2**stage
        norms, attention = 4 * width, 4 * width**2 + 4 * width + (2 * WINDOW - 1) ** 3 * heads
        mlp = 8 * width**2 + 5 * width
        merging = 8 * width * 2 * width + 2 * 8 * width
        expected += BLOCKS * (norms + attention + mlp) + merging
    assert sum(parameter.numel() for parameter in Swin3D().parameters()) == expected


@pytest.mark.filterwarnings("ignore")
def test_a_crop_becomes_one_feature_vector() -> None:
    pytest.importorskip("monai")
    torch.manual_seed(0)
    crops = torch.rand(2, 1, DIVISOR, DIVISOR, DIVISOR)
    plain, checkpointing = Swin3D(), Swin3D(checkpointing=True)
    checkpointing.load_state_dict(plain.state_dict())
    features = plain(crops)
    assert features.shape == (2, FEATURES)
    torch.testing.assert_close(checkpointing(crops), features)


def test_a_missing_monai_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(UsageError, match=r"^3D VoCo needs monai; pip install 'voco2d\[volume\]'$"):
        Swin3D()
