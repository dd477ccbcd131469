"""A tiny cohort of phantoms, prepared, for the examples and snippets of the documentation."""

from pathlib import Path

import pytest

from voco2d.cli import main


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with RSNA/, the competition's layout, and store/."""
    folder = tmp_path_factory.mktemp("docs")
    rsna, store = str(folder / "RSNA"), str(folder / "store")
    words = ["size=48", "mean_slices=12", "masks=false", "two_series_share=0.3", "incomplete_share=0", "workers=1"]
    assert main(["phantom", rsna, "--patients", "8", "--seed", "3", "--enriched", *words]) == 0
    assert main(["prepare", rsna, "--out", store, "--workers", "1", "preprocess.size=[8,40,40]", "isolate=false"]) == 0
    return folder
