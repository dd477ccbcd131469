import stat
from pathlib import Path

import pytest

from voco2d.errors import ConfigError, StoreError
from voco2d.service.web.tokens import FILE_NAME, VARIABLE, load_tokens


def test_a_token_is_made_once_and_kept_as_a_digest(tmp_path: Path) -> None:
    tokens, new = load_tokens(tmp_path, {})
    assert new is not None
    assert len(new) >= 40
    stored = tmp_path / FILE_NAME
    assert new not in stored.read_text()
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    again, none = load_tokens(tmp_path, {})
    assert none is None
    assert again.caller(new) == tokens.caller(new) is not None
    assert again.caller(new + "x") is None


def test_tokens_of_the_environment_come_first(tmp_path: Path) -> None:
    _, stored = load_tokens(tmp_path, {})
    tokens, new = load_tokens(tmp_path, {VARIABLE: "first-0123456789abc, second-0123456789abc"})
    assert new is None
    assert stored is not None
    assert tokens.caller(stored) is None
    callers = [tokens.caller("first-0123456789abc"), tokens.caller("second-0123456789abc")]
    assert None not in callers
    assert len(set(callers)) == 2


def test_short_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="less than 16 characters"):
        load_tokens(tmp_path, {VARIABLE: "secret"})
    (tmp_path / FILE_NAME).write_text("x")
    with pytest.raises(StoreError, match="delete it"):
        load_tokens(tmp_path, {})
