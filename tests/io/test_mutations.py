import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "mutations" / "run.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_damaged_inputs_are_read_right_or_turned_away(tmp_path):
    """In a process of its own, so that a crash of a decoder is told with the number of the input."""
    pytest.importorskip("SimpleITK")
    result = run(tmp_path / "result.json", "--count", "2000", "--seed", "1")
    assert result["count"] == 2000
    assert result["slowest_s"] < 10
    assert result["peak_resident_gb"] < 2
    # a mutator that damages nothing, or a reader that refuses everything, would prove nothing
    assert min(result["verdicts"][verdict] for verdict in ("read", "part", "refused")) > 200
    assert len(result["by_mutation"]) >= 40
    assert len(result["by_case"]) >= 23


@pytest.mark.slow
def test_preparing_damaged_inputs_tells_no_identifier(tmp_path):
    """`voco2d prepare` over two folders of 25: what it prints, what it counts, and quarantine.csv."""
    result = run(tmp_path / "result.json", "--count", "0", "--seed", "1", "--commands", "2")
    assert result["commands"] == 2


@pytest.mark.slow
@pytest.mark.realdata
def test_damaged_real_inputs_are_read_right_or_turned_away(tmp_path, real_data):
    result = run(tmp_path / "result.json", "--count", "40", "--seed", "1", "--real", str(real_data))
    assert result["count"] == 40


def run(out, *options):
    words = [sys.executable, str(RUN), *options, "--json", str(out)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert out.exists(), run.stderr[-500:]  # the last line names the input that ended the process
    result = json.loads(out.read_text())
    assert result["complaints"] == []
    assert run.returncode == 0
    return result
