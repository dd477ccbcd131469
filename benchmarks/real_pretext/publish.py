"""Scores `predictions.csv.gz` into `results.json`, `results.md` and the figure.

python benchmarks/real_pretext/publish.py    # again, from the predictions alone
"""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from draw import draw
from scores import DRAWS, HERE, summarise
from table import write_table


def publish(facts: Mapping[str, Any]) -> None:
    """Write everything anew; `facts` about the runs go first."""
    results = {**facts, "draws": DRAWS, "readings": summarise(pd.read_csv(HERE / "predictions.csv.gz"))}
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    write_table(results, HERE / "results.md")
    draw(results, HERE.parents[1] / "docs" / "images" / "real_pretext.png")


if __name__ == "__main__":
    known = json.loads((HERE / "results.json").read_text())
    publish({key: value for key, value in known.items() if key not in ("draws", "readings")})
