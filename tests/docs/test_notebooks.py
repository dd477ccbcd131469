"""The notebooks run from top to bottom, as a reader would run them."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


RUN = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=240, startup_timeout=240, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""
"""In a process of its own: the client's event loop and sockets are no matter of the tests around it."""


@pytest.mark.slow  # the one test that drives the Python interface from phantoms to scores, in a kernel of its own
def test_the_tour_runs_and_tells_its_score(tmp_path: Path) -> None:
    done = tmp_path / "done.ipynb"
    words = [sys.executable, "-c", RUN, str(ROOT / "examples" / "voco2d_tour.ipynb"), str(done)]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    told = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-3000:]
    notebook = nbformat.read(done, as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "RSNA score" in said
    assert "assessed" in said
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
