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
