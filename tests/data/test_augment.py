import pytest
import torch
from torch import Generator

from voco2d.data.augment import AugmentArgs, augment
from voco2d.errors import ConfigError

OFF = AugmentArgs(flip_depth=False, crop=0.0, contrast=0.0, brightness=0.0, noise=0.0)
VOLUME = torch.rand(5, 1, 12, 16, generator=Generator().manual_seed(0))


def test_nothing_happens_when_all_is_off() -> None:
    torch.testing.assert_close(augment(VOLUME, OFF, Generator().manual_seed(1)), VOLUME)


def test_result_depends_on_the_generator_alone_and_stays_in_range() -> None:
    args = AugmentArgs(contrast=0.9, brightness=0.5, noise=0.5)
    before = VOLUME.clone()
    first = augment(VOLUME, args, Generator().manual_seed(1))
    torch.manual_seed(99)
    torch.testing.assert_close(augment(VOLUME, args, Generator().manual_seed(1)), first)
    assert not torch.allclose(augment(VOLUME, args, Generator().manual_seed(2)), first)
    assert first.shape == VOLUME.shape
    assert first.min() >= 0
    assert first.max() <= 1
    torch.testing.assert_close(VOLUME, before)


def test_default_never_exchanges_right_and_left() -> None:
    bright_right = torch.zeros(4, 1, 16, 16)
    bright_right[..., :6] = 1
    for seed in range(30):
        changed = augment(bright_right, AugmentArgs(), Generator().manual_seed(seed))
        assert changed[..., :8].mean() > changed[..., 8:].mean()


@pytest.mark.parametrize(("name", "axis"), [("flip_depth", 0), ("flip_height", 2), ("flip_width", 3)])
def test_a_flip_happens_in_about_half_of_the_draws(name: str, axis: int) -> None:
    args = AugmentArgs(**{**vars(OFF), name: True})
    flipped = 0
    for seed in range(40):
        changed = augment(VOLUME, args, Generator().manual_seed(seed))
        is_flipped = bool(torch.allclose(changed, VOLUME.flip(axis)))
        assert is_flipped or torch.allclose(changed, VOLUME)
        flipped += is_flipped
    assert 10 <= flipped <= 30


@pytest.mark.parametrize("values", [{"crop": 0.95}, {"noise": -0.1}, {"contrast": 2.0}])
def test_impossible_shares_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"augment.{next(iter(values))}"):
        AugmentArgs(**values)  # type: ignore[arg-type]
