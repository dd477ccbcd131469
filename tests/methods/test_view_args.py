from typing import Any

import pytest

from voco2d.errors import ConfigError
from voco2d.methods.view_args import BYOLArgs, DINOArgs, SimCLRArgs, SimMIMArgs, ViewArgs
from voco2d.methods.voco_args import VoCoArgs


@pytest.mark.parametrize(
    ("args", "settings", "message"),
    [
        (SimCLRArgs, {"slices": 0}, "method.slices=0: must be at least 1"),
        (SimCLRArgs, {"area": (0.5, 0.2)}, "two shares above 0 and up to 1"),
        (SimCLRArgs, {"area": (0.0, 0.2)}, "two shares above 0 and up to 1"),
        (SimCLRArgs, {"intensity": 2.0}, "method.intensity=2.0"),
        (SimCLRArgs, {"blur": -1.0}, "method.blur=-1.0"),
        (SimCLRArgs, {"temperature": 0.0}, "method.temperature=0.0: must be above 0"),
        (BYOLArgs, {"momentum": 1.5}, "method.momentum=1.5"),
        (DINOArgs, {"prototypes": 0}, "method.prototypes=0"),
        (DINOArgs, {"teacher_temperature": -1.0}, "method.teacher_temperature=-1.0"),
        (SimMIMArgs, {"patch": 24}, "method.patch=24: must divide method.crop=64"),
        (SimMIMArgs, {"patch": 64}, "into at least 2 × 2"),
        (SimMIMArgs, {"hidden_share": 1.1}, "method.hidden_share=1.1"),
    ],
)
def test_values_that_make_no_sense_are_named(args: type[ViewArgs], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        args(**settings)


def test_images_a_volume_are_counted() -> None:
    assert VoCoArgs().images_per_volume == 11 * 32
    assert SimCLRArgs(slices=5).images_per_volume == 10
    assert SimMIMArgs(slices=5).images_per_volume == 5


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.6, 10), (1.0, 15)])
def test_some_squares_are_hidden_and_not_all(share: float, count: int) -> None:
    assert SimMIMArgs(hidden_share=share).hidden_squares == count
