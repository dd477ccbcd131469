import base64
import json
from pathlib import Path
from typing import Any

import pytest

from voco2d.inference.report_page import Bullets, Figure, Gallery, Paragraph
from voco2d.inference.report_pretrain import pretrain_curves_section


def record(step: int, **other: Any) -> dict[str, Any]:
    return {
        "step": step,
        "loss": 1.0,
        "intra": 0.5,
        "inter": 0.5,
        "grad_norm": 2.0,
        "nonfinite_grads": 0.0,
        "effective_rank": 30.0,
        "feature_std": 0.9,
        "localisation_accuracy": 0.3,
        "localisation_chance": 0.25,
        "similarity_mean": 0.2,
        "similarity_std": 0.1,
        "similarity_histogram": [0.0, 0.25, 0.75, 0.0],
        "lr": 1e-4,
        "teacher_distance": 0.01,
        "seconds": 0.1,
        "wait_share": 0.05,
        "prepare_share": 0.1,
        **other,
    }


def section_of(folder: Path, records: list[dict[str, Any]]) -> tuple[dict[str, Figure], list[str]]:
    """The figures by title, and what is said."""
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in records))
    blocks = pretrain_curves_section(folder).blocks
    figures = [figure for block in blocks if isinstance(block, Gallery) for figure in block.figures]
    told = [block.text for block in blocks if isinstance(block, Paragraph)]
    told += [item for block in blocks if isinstance(block, Bullets) for item in block.items]
    return {figure.alt.split(":")[0]: figure for figure in figures}, told


def svg_of(figure: Figure) -> str:
    return base64.b64decode(figure.source.split(",")[1]).decode()


@pytest.mark.parametrize("count", [1, 5, 900])
def test_everything_that_is_watched_is_drawn(tmp_path: Path, count: int) -> None:
    figures, told = section_of(tmp_path / "run", [record(step) for step in range(1, count + 1)])
    assert set(figures) == {
        "Loss",
        "Localisation accuracy",
        "Effective rank",
        "Feature deviation",
        "Similarity",
        "Gradient norm",
        "Teacher distance",
        "Learning rate",
        "Time a step",
        "Waiting for data",
        "Histogram of similarities",
    }
    assert figures["Loss"].alt.endswith("; loss, intra, inter")
    assert figures["Localisation accuracy"].alt.endswith("; localisation_accuracy, localisation_chance")
    assert figures["Histogram of similarities"].source.startswith("data:image/png")
    assert told == [f"{count} lines were logged, the last at step {count}.", "The alarm has named no symptom."]


def test_the_alarms_are_marked_and_told(tmp_path: Path) -> None:
    records = [record(step) for step in range(10, 400, 10)]
    records[20] |= {"alarm": "collapse, chance"}
    records[30] |= {"alarm": "a-new-one"}
    figures, told = section_of(tmp_path / "run", records)
    assert told[1:] == [
        "Alarm at step 210, collapse: the features or similarities became alike, or used hardly a direction.",
        "Alarm at step 210, chance: random crops were not found better than by naming the most frequent base crop.",
        "Alarm at step 310, a-new-one: see the log.",
    ]
    assert all("collapse at 210" in figure.alt for figure in figures.values())
    assert "#b00020" in svg_of(figures["Effective rank"])
    healthy, _ = section_of(tmp_path / "healthy", [record(step) for step in range(10, 400, 10)])
    assert "#b00020" not in svg_of(healthy["Effective rank"])


def test_a_probe_now_and_then_is_one_line(tmp_path: Path) -> None:
    records = [record(step, **({"probe_auroc": step / 100} if step % 20 == 0 else {})) for step in range(10, 100, 5)]
    figures, _ = section_of(tmp_path / "run", records)
    path = svg_of(figures["Probe"]).split('id="line2d_')[-1]
    assert path.count("L ") >= 3
    assert "probe" not in figures["Loss"].alt


def test_skipped_steps_are_drawn_where_there_are_any(tmp_path: Path) -> None:
    figures, _ = section_of(tmp_path / "run", [record(1), record(2, nonfinite_grads=0.5)])
    assert "Steps without finite gradients" in figures


def test_a_method_without_base_crops(tmp_path: Path) -> None:
    kept = [
        {key: value for key, value in record(step).items() if not key.startswith(("local", "simil"))} for step in (1, 2)
    ]
    figures, told = section_of(tmp_path / "run", kept)
    assert "Localisation accuracy" not in figures
    assert told[-1] == (
        "Not recorded in this run, so not drawn: localisation_accuracy, localisation_chance, similarity_mean, "
        "similarity_std, similarity_histogram."
    )


@pytest.mark.parametrize("histogram", [None, [], "x", [0.5, None], [[1.0], 2.0], [0.5, "x"], {"a": 1}])
def test_a_damaged_histogram_is_left_out(tmp_path: Path, histogram: Any) -> None:
    logged = {"step": 1, "loss": 1.0, "similarity_histogram": histogram}  # no more: each figure takes its time
    figures, told = section_of(tmp_path / "run", [logged])
    assert "Histogram of similarities" not in figures
    assert "similarity_histogram" in told[-1]


def test_histograms_of_another_length_are_left_out(tmp_path: Path) -> None:
    records = [record(1, similarity_histogram=[1.0]), record(2), record(3)]
    assert "Histogram of similarities" in section_of(tmp_path / "run", records)[0]
