"""Whatever the OpenAPI document allows, and much that it doesn't, gets one of the answers that it names."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from .conftest import TOKEN, Bench, dicom_zip, nifti, send

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis, of the extra dev")


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_no_request_breaks_the_service(
    make_bench: Callable[..., Bench], mode: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voco2d.service.web.guard._FAILURES_PER_MINUTE", 10**6)  # it asks without a token too
    bench = make_bench(requests_per_minute=10**6, burst=10**6)
    schema = schemathesis.openapi.from_asgi("/openapi.json", bench.app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 7
    checks = pytest.importorskip("schemathesis.specs.openapi.checks")
    # unknown words of a query are ignored, and the token that a request lacks is added here
    always = [checks.negative_data_rejection]
    # no schema can say what a scan is: made-up ones are refused
    unless_scan = [*always, checks.positive_data_acceptance]
    # not by the plugin of schemathesis, which the newest pytest breaks
    for operation in operations:

        @settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers_as_it_says(case) -> None:
            response = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
            assert response.status_code < 500, response.text
            case.validate_response(response, excluded_checks=unless_scan if case.method == "POST" else always)

        try:
            answers_as_it_says()
        except Unsatisfiable:  # an operation without anything to get wrong
            assert mode is schemathesis.GenerationMode.NEGATIVE


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    start=st.sampled_from([dicom_zip(), nifti()[:3000]]),
    changes=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=30),
    cut=st.floats(0, 1),
)
def test_no_upload_breaks_the_service(bench: Bench, start: bytes, changes: list, cut: float) -> None:
    content = bytearray(start)
    for place, value in changes:
        content[place % len(content)] = value
    answer = send(bench.client(), bytes(content[: int(len(content) * cut)]))
    assert answer.status_code in (202, 413, 415), answer.text
    if answer.status_code == 202:
        assert bench.worker.step()
        job = bench.jobs.get(answer.json()["id"])
        assert job is not None
        assert job.state in ("done", "failed")
    assert list(bench.args.incoming.iterdir()) == []
