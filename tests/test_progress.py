"""Progress writes lines where there is no terminal."""

import logging

import pytest

from voco2d.progress import Progress, track


def test_the_last_step_is_always_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert list(track([1, 2, 3], "counting")) == [1, 2, 3]
    assert [record.message.strip() for record in caplog.records] == ["counting 3/3, about 0:00 left"]


def test_unknown_total_counts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Progress("walking", None) as progress:
        progress.advance(5)
    assert not caplog.records
