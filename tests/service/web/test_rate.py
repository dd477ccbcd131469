from voco2d.service.web.rate import RateLimit


def test_a_bucket_empties_and_refills() -> None:
    now = [0.0]
    rate = RateLimit(per_minute=60, burst=2, clock=lambda: now[0])
    for _ in range(2):
        assert rate.wait_s("a") == 0
        rate.spend("a")
    assert rate.wait_s("a") == 1
    assert rate.wait_s("b") == 0
    now[0] = 1.0
    assert rate.wait_s("a") == 0
    now[0] = 100.0
    rate.spend("a")
    rate.spend("a")
    assert rate.wait_s("a") == 1


def test_memory_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr("voco2d.service.web.rate._MOST_CALLERS", 3)
    rate = RateLimit(per_minute=1, burst=1, clock=lambda: 0.0)
    for caller in "abcd":
        rate.spend(caller)
    assert [rate.wait_s(caller) > 0 for caller in "abcd"] == [False, True, True, True]
