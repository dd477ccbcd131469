import pytest

from voco2d.config import from_tree
from voco2d.errors import ConfigError
from voco2d.methods.voco_args import PAPER_V2, VoCoArgs


def test_the_paper_differs_in_every_switch() -> None:
    default, paper = VoCoArgs(), from_tree(VoCoArgs, dict(PAPER_V2))
    switched = {key for key in vars(default) if getattr(default, key) != getattr(paper, key)}
    assert switched == set(PAPER_V2) - {"momentum"}
    assert paper.extent == default.extent == 192


@pytest.mark.parametrize(
    ("key", "value"),
    [("grid", 1), ("crop", 0), ("slices", 0), ("momentum", 1.5), ("depth_share", -0.1), ("feature_dropout", 1.0)],
)
def test_senseless_values_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"method.{key}={value}"):
        VoCoArgs(**{key: value})  # type: ignore[arg-type]
