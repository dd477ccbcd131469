import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voco2d.errors import UsageError
from voco2d.evaluation.holm import holm


def test_published_example():
    """R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")."""
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])


def test_order_and_what_is_undefined_stay():
    assert holm([0.04, None, 0.01, float("nan"), 0.03]) == [
        pytest.approx(0.06),
        None,
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
    ]
    assert holm([]) == []
    assert holm([1.0, 0.8, 0.0]) == [1.0, 1.0, 0.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.01, 0.05, 0.2]))
def test_rejects_as_the_step_down_procedure_says(p_values: list[float], level: float):
    """Literal: from the smallest on, reject while p ≤ α / (number not rejected yet); stop at the first that is not."""
    rejected = set()
    for step, place in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[place] * (len(p_values) - step) > level:
            break
        rejected.add(int(place))
    assert {place for place, value in enumerate(holm(p_values)) if value <= level} == rejected


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_what_is_no_probability_is_an_error(value: float):
    with pytest.raises(UsageError, match="between 0 and 1"):
        holm([0.1, value])
