from pathlib import Path

import pytest

from voco2d.service.ledger import MOST_ATTEMPTS, Ledger

QUIET_S = 5.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    return Ledger(tmp_path / "node.sqlite", clock)


def test_a_study_is_taken_once_it_was_quiet_and_only_once(ledger, clock):
    ledger.image("a")
    clock.now += QUIET_S - 1
    ledger.image("a")
    clock.now += QUIET_S - 1
    assert ledger.take(QUIET_S) is None  # each image begins the waiting anew
    clock.now += 1
    assert ledger.take(QUIET_S) == ("a", 1)
    assert ledger.take(QUIET_S) is None


def test_studies_are_taken_in_the_order_in_which_they_became_quiet(ledger, clock):
    for name in "bac":
        ledger.image(name)
        clock.now += 1
    clock.now += QUIET_S
    assert [ledger.take(QUIET_S)[0] for _ in range(3)] == ["b", "a", "c"]


def test_late_images_make_an_answered_study_a_newer_version_to_be_answered_again(ledger, clock):
    ledger.image("a")
    clock.now += QUIET_S
    ledger.take(QUIET_S)
    assert ledger.finish("a", 1, "", ["results/a/1/report.dcm"], ["X@h:1"])
    ledger.image("a")
    ledger.image("a")
    clock.now += QUIET_S
    assert ledger.take(QUIET_S) == ("a", 2)


def test_a_study_that_is_sent_again_with_more_is_a_newer_version(ledger, clock):
    """An archive that begins again sends first what was there: that took the rest of the images for no news."""
    ledger.image("a")
    clock.now += QUIET_S
    ledger.take(QUIET_S)
    ledger.finish("a", 1, "", [], [])
    for is_new in (False, True, False, True):
        ledger.image("a", is_new)
    clock.now += QUIET_S
    assert ledger.take(QUIET_S) == ("a", 2)


def test_an_answer_does_not_count_where_the_study_grew_while_it_was_graded(ledger, clock):
    ledger.image("a")
    clock.now += QUIET_S
    _, version = ledger.take(QUIET_S)
    ledger.image("a")
    assert not ledger.finish("a", version, "", ["old.dcm"], ["X@h:1"])
    assert ledger.due() == []
    clock.now += QUIET_S
    assert ledger.take(QUIET_S) == ("a", 2)


def test_what_a_crash_left_running_is_begun_again_but_not_for_ever(ledger, clock, tmp_path):
    ledger.image("a")
    clock.now += QUIET_S
    for _ in range(MOST_ATTEMPTS):
        assert ledger.take(QUIET_S) is not None
        ledger = Ledger(tmp_path / "node.sqlite", clock)  # the program ended and began anew
        assert ledger.recover() == 1
    assert ledger.take(QUIET_S) is None
    assert ledger.give_up() == ["a"]
    assert ledger.give_up() == []
    assert ledger.failures() == [("a", "ended the program while it was graded")]


def test_what_is_not_sent_is_tried_again_later_each_time_and_given_up_at_last(ledger, clock):
    ledger.image("a")
    clock.now += QUIET_S
    ledger.take(QUIET_S)
    ledger.finish("a", 1, "", ["r.dcm"], ["X@h:1", "Y@h:2"])
    waits = []
    begun = clock.now
    for _ in range(200):
        due = [entry for entry in ledger.due() if entry.target == "X@h:1"]
        if due:
            waits.append(clock.now - begun)
            ledger.not_sent(due[0], "status 0xC000")
        clock.now += 300
    assert len(waits) == 50
    for entry in ledger.due():
        ledger.sent(entry)
    assert ledger.counts() == {"graded": 1, "sent": 1, "given_up": 1}


def test_an_archive_that_is_away_is_waited_for_without_end(ledger, clock):
    ledger.image("a")
    clock.now += QUIET_S
    ledger.take(QUIET_S)
    ledger.finish("a", 1, "", ["r.dcm"], ["X@h:1"])
    for turn in range(200):
        (entry,) = ledger.due()
        assert not ledger.not_sent(entry, "no connection", is_away=True)
        clock.now += min(2.0**turn, 600.0)
    refused = 0
    while ledger.due():
        refused += 1
        ledger.not_sent(ledger.due()[0], "status 0xC000")
        clock.now += 600
    assert refused == 40


def test_images_may_go_only_when_their_study_is_answered_and_old(ledger, clock):
    for name in "ab":
        ledger.image(name)
    clock.now += QUIET_S
    digest, version = ledger.take(QUIET_S)
    ledger.finish(digest, version, "", [], [])
    assert ledger.forgettable(10.0) == []
    clock.now += 10
    assert ledger.forgettable(10.0) == [digest]
