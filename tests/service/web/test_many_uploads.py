"""Uploads that wait for each other leave the rest of the service free."""

import asyncio
import threading
from collections.abc import Callable

import httpx2
import pytest

from voco2d.service.web import guard
from voco2d.service.web.unpack import UploadRefusedError

from .conftest import TOKEN, Bench

MANY = 45
"""More than the threads that Starlette answers from."""


def test_more_uploads_than_threads_hold_up_nobody(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    begun, go_on = threading.Semaphore(0), threading.Event()

    def accept(_: object) -> None:
        begun.release()
        assert go_on.wait(60)
        raise UploadRefusedError("no scan", 415)

    monkeypatch.setattr(bench.intake, "accept", accept)
    monkeypatch.setattr(guard, "_MOST_UPLOADS", MANY)

    async def crowd() -> tuple[int, httpx2.Response, set[int]]:
        transport = httpx2.ASGITransport(bench.app)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            uploads = [
                asyncio.create_task(client.post("/api/jobs", files={"scan": ("scan", b"x")})) for _ in range(MANY)
            ]
            try:
                await asyncio.to_thread(begun.acquire, timeout=60)
                while bench.app.uploads < MANY:
                    await asyncio.sleep(0)
                answer = await asyncio.wait_for(client.get("/api/jobs"), 30)
                refused = await asyncio.wait_for(client.post("/api/jobs", files={"scan": ("scan", b"x")}), 30)
            finally:
                go_on.set()
            statuses = {done.status_code for done in await asyncio.gather(*uploads)}
        return answer.status_code, refused, statuses

    status, refused, statuses = asyncio.run(crowd())
    assert status == 200
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert statuses == {415}
    assert bench.app.uploads == 0


def test_beyond_the_requests_that_may_be_under_way_the_answer_is_at_once_and_the_open_pages_stay(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_MOST_REQUESTS", 0)
    refused = bench.client().get("/api/jobs")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert bench.client(None).get("/api/jobs").status_code == 401
    assert bench.client(None).get("/api/health").status_code == 200
    monkeypatch.setattr(guard, "_MOST_REQUESTS", 1)
    assert [bench.client().get("/api/jobs").status_code for _ in range(3)] == [200] * 3
