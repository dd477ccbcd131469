from pathlib import Path

import pytest

from voco2d.io.presence import why_absent


def test_what_is_there_has_no_reason(tmp_path: Path) -> None:
    assert why_absent(tmp_path) == ""


@pytest.mark.parametrize(
    ("name", "reason"), [("gone", "missing"), ("link", "a link that leads nowhere"), ("y" * 300, "can't be opened")]
)
def test_each_absence_has_its_reason(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert why_absent(tmp_path / name).startswith(reason)
