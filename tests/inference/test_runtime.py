import subprocess
import sys
from pathlib import Path

import pytest

from voco2d.errors import ConfigError
from voco2d.inference.runtime import load_models

_WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "timm", "torchvision"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import voco2d.inference.predictor
assert not {"torch", "timm"} & set(sys.modules)
"""


def test_all_of_prediction_but_its_engine_is_imported_without_torch() -> None:
    subprocess.run([sys.executable, "-c", _WITHOUT_TORCH], check=True)


@pytest.mark.parametrize(("precision", "runtime"), [("fp8", "torch"), ("fp32", "abacus")])
def test_unknown_options_are_refused_with_the_known_ones(precision: str, runtime: str) -> None:
    with pytest.raises(ConfigError, match="choose"):
        load_models([Path("run")], "cpu", precision, runtime)


def test_a_model_that_is_not_there_is_told_before_an_engine_is_imported(tmp_path: Path) -> None:
    script = f"""{_WITHOUT_TORCH}
from pathlib import Path
from voco2d.errors import MissingCheckpointError
from voco2d.inference.runtime import load_models
try:
    load_models([Path({str(tmp_path)!r}), Path({str(tmp_path / "nowhere")!r})], "cpu", "fp32")
except MissingCheckpointError as error:
    assert "nowhere: missing" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", script], check=True)
