import pandas as pd
import pytest

from voco2d.data.cohort import patient_digests
from voco2d.data.pretrain_overlap import overlap_counts, refuse_overlap, seen_digests
from voco2d.errors import CheckpointError, LabelError

FOLDS = pd.Series([0, 0, 1, 1, 2], index=["771", "772", "773", "774", "775"], name="fold")


def test_patients_are_counted_fold_by_fold() -> None:
    assert overlap_counts(FOLDS, patient_digests(["771", "773", "774", "other"])) == {0: 1, 1: 2, 2: 0}


def test_overlap_is_refused_with_counts_folds_and_the_way_out() -> None:
    seen = patient_digests(["771", "773", "774"])
    with pytest.raises(LabelError, match=r"sees 3 patients .*1 of fold 0, 2 of fold 1.*validate on fold 2") as caught:
        refuse_overlap(FOLDS, seen, [0, 1, 2], "list.csv")
    assert caught.value.exit_code == 1
    assert "77" not in str(caught.value)


def test_only_folds_that_are_validated_count() -> None:
    refuse_overlap(FOLDS, patient_digests(["771"]), [1, 2], "list.csv")
    with pytest.raises(LabelError, match="1 of fold 0"):
        refuse_overlap(FOLDS, patient_digests(["771"]), [0], "list.csv")


def test_a_checkpoint_that_does_not_say_is_refused() -> None:
    assert seen_digests({"patients_seen": ["ab"]}, "run") == ["ab"]
    with pytest.raises(CheckpointError, match="doesn't say which patients"):
        seen_digests({}, "run")
