"""What stands before the service: token, rate, size, headers, audit."""

import asyncio
import json
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from voco2d.errors import ConfigError
from voco2d.service.web.args import ServeArgs, UploadLimits, is_loopback

from .conftest import NAME, TOKEN, Bench, nifti, send

ADDRESSES = [
    ("GET", "/api/jobs"),
    ("POST", "/api/jobs"),
    ("GET", f"/api/jobs/{'0' * 32}"),
    ("GET", f"/api/jobs/{'0' * 32}/result"),
    ("GET", f"/api/jobs/{'0' * 32}/files/volume-0.nii.gz"),
    ("DELETE", f"/api/jobs/{'0' * 32}"),
    ("GET", "/api/unknown"),
    ("GET", "/redoc"),
]


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
@pytest.mark.parametrize("token", [None, "", "wrong-token-0123456789", TOKEN[:-1], TOKEN + "x"])
def test_nothing_is_answered_without_a_valid_token(bench: Bench, method: str, path: str, token: str | None) -> None:
    answer = bench.client(token).request(method, path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Basic " + TOKEN, TOKEN, "Bearer", "bearer\t" + TOKEN])
def test_other_ways_to_hand_in_a_token_are_none(bench: Bench, header: str) -> None:
    assert bench.client(None).get("/api/jobs", headers={"Authorization": header}).status_code == 401
    assert bench.client(None).get(f"/api/jobs?token={TOKEN}").status_code == 401


def test_every_answer_has_safe_headers(bench: Bench) -> None:
    for client, path in ((bench.client(), "/"), (bench.client(), "/api/jobs/zz"), (bench.client(None), "/api/jobs")):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "http" not in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


def test_guessing_is_slowed_down_and_those_who_know_the_token_are_not(bench: Bench) -> None:
    guesser = bench.client("guess-0123456789abcdef")
    assert [guesser.get("/api/jobs").status_code for _ in range(12)] == [401] * 10 + [429] * 2
    assert bench.client().get("/api/jobs").status_code == 200


def test_a_caller_that_asks_too_often_must_wait(make_bench: Callable[..., Bench]) -> None:
    client = make_bench(requests_per_minute=1, burst=3).client()
    answers = [client.get("/api/jobs") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 50 <= int(answers[-1].headers["retry-after"]) <= 60


def test_a_body_is_limited_whatever_its_length_is_told_to_be(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(limits=UploadLimits(upload_bytes=100_000, free_bytes=0))
    client = bench.client()
    told = send(client, bytes(200_000))
    assert (told.status_code, told.json()["detail"]) == (413, "larger than 100000 bytes")
    form = (
        b'--b\r\nContent-Disposition: form-data; name="scan"; filename="x"\r\n\r\n' + bytes(300_000) + b"\r\n--b--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    untold = client.post("/api/jobs", content=(form[i : i + 4096] for i in range(0, len(form), 4096)), headers=kind)
    assert untold.status_code == 413
    assert client.get("/api/jobs", headers={"Content-Length": "-1"}).status_code == 413
    assert send(client, nifti()[:90_000]).status_code == 202
    assert list(bench.args.incoming.iterdir()) == []


async def begin_upload(bench: Bench, pieces: int) -> int:
    """Send the start of a form and then nothing; return the status of the answer."""
    kind = b"multipart/form-data; boundary=b"
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/jobs",
        "raw_path": b"/api/jobs",
        "query_string": b"",
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "server": ("x", 80),
        "client": ("y", 1),
        "headers": [(b"authorization", b"Bearer " + TOKEN.encode()), (b"content-type", kind)],
    }
    sent: list[dict] = []
    waiting = iter(range(pieces))

    async def receive() -> dict:
        if next(waiting, None) is None:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": b"--b\r\n", "more_body": True}

    async def send_answer(message: dict) -> None:
        sent.append(message)

    await bench.app(scope, receive, send_answer)
    return int(sent[0]["status"])


def test_an_upload_that_does_not_go_on_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voco2d.service.web.guard._PIECE_S", 0.05)
    assert asyncio.run(begin_upload(bench, 1)) == 408


def test_an_upload_ends_where_the_disk_is_full(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(limits=UploadLimits(free_bytes=2**62))
    assert asyncio.run(begin_upload(bench, 1)) == 507
    assert bench.client().get("/api/jobs").status_code == 200


def test_a_full_queue_refuses(make_bench: Callable[..., Bench]) -> None:
    client = make_bench(most_waiting=1).client()
    assert [send(client, nifti()).status_code for _ in range(2)] == [202, 503]
    assert client.get("/api/jobs").json()["counts"]["waiting"] == 1


@pytest.mark.parametrize(
    "name",
    [
        "../../jobs.sqlite",
        "..%2f..%2fjobs.sqlite",
        "%2e%2e%2fscan",
        "report.json",
        "volume-9.nii.gz",
        "a" * 90,
        "x%00.jpg",
    ],
)
def test_only_files_of_the_result_are_given(bench: Bench, client: TestClient, name: str) -> None:
    job_id = send(client, nifti()).json()["id"]
    bench.worker.step()
    (bench.args.jobs / job_id / "result" / "report.json").write_text("{}")
    answer = client.get(f"/api/jobs/{job_id}/files/{name}")
    assert answer.status_code in (404, 422)
    assert b"SQLite" not in answer.content


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"]
)
def test_only_files_of_the_page_are_given(bench: Bench, path: str) -> None:
    assert bench.client().get(path).status_code == 404


def test_an_unexpected_error_tells_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    name = NAME

    def fail(*_: object) -> None:
        raise RuntimeError(name)

    monkeypatch.setattr(bench.jobs, "counts", fail)
    answer = bench.client(raise_server_exceptions=False).get("/api/jobs")
    assert answer.status_code == 500
    assert "Doe" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text


def test_wrong_input_is_not_repeated(client: TestClient) -> None:
    answer = client.get("/api/jobs?limit=Doe^Jane")
    assert answer.status_code == 422
    assert "Doe" not in answer.text
    assert "query.limit" in answer.json()["detail"]


def test_without_tokens_only_this_machine_is_named(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(auth=False)
    local = bench.client(None, base_url="http://127.0.0.1:8000")
    assert local.get("/api/jobs").status_code == 200
    for headers in (
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ):  # a form on a page of another site
        assert local.post("/api/jobs", files={"scan": ("scan", nifti())}, headers=headers).status_code == 401
    own = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
    assert local.post("/api/jobs", files={"scan": ("scan", nifti())}, headers=own).status_code == 202
    rebound = bench.client(None, base_url="http://attacker.example")
    assert rebound.get("/api/jobs").status_code == 401
    with pytest.raises(ConfigError, match="without a token only this machine"):
        ServeArgs(bench.args.state, host="0.0.0.0", auth=False)


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("pacs", False)]
)
def test_what_is_this_machine(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_the_audit_log_tells_who_asked_what_by_digests(bench: Bench, client: TestClient) -> None:
    job_id = send(client, nifti()).json()["id"]
    client.get(f"/api/jobs/{job_id}/result")
    client.delete(f"/api/jobs/{job_id}")
    bench.client("wrong-token-0123456789").get("/api/jobs")
    text = (bench.args.state / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["method"], line["status"]) for line in lines] == [
        ("POST", 202),
        ("GET", 409),
        ("DELETE", 204),
        ("GET", 401),
    ]
    assert len({line["caller"] for line in lines[:3]}) == 1
    for _ in range(5):  # a page that asks again and again
        client.get("/api/jobs")
    assert len((bench.args.state / "audit.jsonl").read_text().splitlines()) == len(lines) + 1
    assert (lines[3]["caller"], lines[1]["job"]) == ("", lines[2]["job"])
    assert len(lines[1]["job"]) == 24
    assert job_id not in text
    assert TOKEN not in text
