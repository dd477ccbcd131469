import sys

import pytest

from voco2d.errors import UsageError
from voco2d.extras import require


def test_what_is_installed_is_imported() -> None:
    assert require("json.decoder", "ssl", "this").__name__ == "json.decoder"


def test_what_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightly", "lightly.loss"):  # the second may have been imported before
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"^method.name=dino needs lightly; pip install 'voco2d\[ssl\]'$"):
        require("lightly.loss", "ssl", "method.name=dino")
