import pytest

from voco2d.separator import separator


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (["patient_id", "fold"], ","),
        (["patient_id"], ","),
        (["patient_id;fold"], ";"),
        (["patient_id\tfold"], "\t"),
        (["patient_id;fold\tset"], ","),
        (["patient_id", "name; first"], ","),
        ([], ","),
    ],
)
def test_only_a_header_without_doubt_changes_the_separator(header: list[str], expected: str) -> None:
    assert separator(header) == expected
