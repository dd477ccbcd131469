import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "mutations" / "run.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_thousand_damaged_inputs_are_read_right_or_turned_away(tmp_path):
    """In a process of its own, so that a crash of a decoder is told with the number of the input."""
    out = tmp_path / "result.json"
    words = [sys.executable, str(RUN), "--count", "2000", "--seed", "1", "--json", str(out)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert out.exists(), run.stderr[-500:]  # the last line names the input that ended the process
    result = json.loads(out.read_text())
    assert result["complaints"] == []
    assert run.returncode == 0
    assert result["count"] == 2000
    assert result["slowest_s"] < 10
    assert result["peak_resident_gb"] < 2
    # a mutator that damages nothing, or a reader that refuses everything, would prove nothing
    assert min(result["verdicts"][verdict] for verdict in ("read", "part", "refused")) > 200
    assert len(result["by_mutation"]) >= 20
