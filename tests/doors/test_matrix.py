"""Every door keeps the same promise: a retry, 32 at once, another payload, an exception, a stored 4xx."""

from __future__ import annotations

from collections import Counter

import pytest

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Parallel
from tests.doors.conftest import Door, replayed
from tests.views import effects

pytestmark = pytest.mark.django_db(transaction=True)

#: Doors below a callback that they cannot mark: Django itself refuses async views under ATOMIC_REQUESTS.
UNMARKED_ASYNC = {"async-handler", "async-ninja"}
STORES_WHAT_IS_RAISED = {
    "mixin", "drf-handler", "drf-as-view", "above-api-view", "below-api-view", "action-below", "action-above",
    "mixin-and-action", "mixin-and-decorator", "site-drf", "site-viewset", "site-api-view", "site-mixin",
    "ninja", "async-ninja",
}  # fmt: skip
CROWD = 32


@pytest.fixture(autouse=True)
def only_what_django_serves(request: pytest.FixtureRequest, door: Door) -> None:
    """Turn ATOMIC_REQUESTS off again for the one combination that Django answers with an error of its own."""
    concerned = "atomic_requests" in request.fixturenames and door.name in UNMARKED_ASYNC
    if concerned and request.getfixturevalue("atomic_requests"):
        assert door.send(key=None).status_code == 500
        request.getfixturevalue("monkeypatch").undo()


def test_retry_gets_the_first_answer_and_has_no_effect(door: Door, atomic_requests: bool) -> None:
    first, retry = door.send(), door.send()
    assert (first.status_code, replayed(first)) == (201, False)
    assert (retry.status_code, replayed(retry)) == (201, True)
    assert retry.content == first.content
    assert effects() == IdempotencyRecord.objects.completed().count() == 1


def test_without_a_key_it_runs_each_time(door: Door) -> None:
    assert {door.send(key=None).status_code for _ in range(2)} == {201}
    assert effects() == 2
    assert IdempotencyRecord.objects.count() == 0


def test_other_payload_is_refused_and_the_record_is_untouched(door: Door, atomic_requests: bool) -> None:
    first, other, retry = door.send(), door.send(payload={"amount": 2}), door.send()
    assert other.status_code == 422
    assert other.json()["code"] == "fingerprint-mismatch"
    assert other.headers["Content-Type"] == "application/problem+json"
    assert (replayed(retry), retry.content) == (True, first.content)
    assert effects() == 1


def test_exception_leaves_no_effect_and_the_key_usable(door: Door, atomic_requests: bool) -> None:
    assert door.send("crash").status_code == 500
    assert effects() == 0
    assert door.send("crash").status_code == 500
    assert IdempotencyRecord.objects.completed().count() == effects() == 0


def test_returned_4xx_is_stored_with_its_writes(door: Door, atomic_requests: bool) -> None:
    first, retry = door.send("409"), door.send("409")
    assert (first.status_code, replayed(first)) == (409, False)
    assert (retry.status_code, replayed(retry), retry.content) == (409, True, first.content)
    assert effects() == 1


def test_raised_4xx_is_stored_without_its_writes_by_frameworks_and_not_at_all_elsewhere(
    door: Door, atomic_requests: bool
) -> None:
    first, retry = door.send("missing"), door.send("missing")
    assert (first.status_code, retry.status_code, effects()) == (404, 404, 0)
    assert replayed(retry) is (door.name in STORES_WHAT_IS_RAISED)
    assert IdempotencyRecord.objects.completed().count() == (door.name in STORES_WHAT_IS_RAISED)


def test_not_stored_answer_leaves_no_effect(door: Door, atomic_requests: bool) -> None:
    assert [door.send("503").status_code, door.send("429").status_code] == [503, 429]
    assert effects() == 0


def test_key_is_refused_before_anything_is_looked_up(door: Door) -> None:
    answer = door.send(key="two words")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-key")
    assert effects() == 0


@pytest.mark.vendors("postgresql", "sqlite")  # MariaDB has its crowd in tests/test_server.py
def test_simultaneous_requests_have_one_effect(door: Door, parallel: Parallel) -> None:
    answers = parallel.at_once(CROWD, lambda number: door.send())
    counted = Counter(answer.status_code for answer in answers)
    assert set(counted) <= {201, 409}
    assert sum(not replayed(answer) for answer in answers if answer.status_code == 201) == 1
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert effects() == IdempotencyRecord.objects.completed().count() == 1
