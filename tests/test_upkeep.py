"""A little is purged at the end of requests, if a project wants that: bounded, paced, and waiting for nobody."""

from __future__ import annotations

import time
import unittest
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client, SimpleTestCase

from django_idempotency import upkeep
from django_idempotency.claims.counts import Hour
from django_idempotency.counting import tally
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Parallel
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let the test move the clock that says when to purge."""
    now = [1000.0]
    monkeypatch.setattr(upkeep.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(upkeep, "purge_pace", upkeep.Pace(upkeep.PURGE_EVERY))
    return now


def left() -> int:
    return IdempotencyRecord.objects.count()


def test_nothing_is_purged_unless_told() -> None:
    IdempotencyRecordFactory(expired=True)
    Client().get("/probe/create/")
    assert left() == 1


def test_so_many_are_purged_once_in_ten_seconds(settings: Any, clock: list[float]) -> None:
    settings.IDEMPOTENCY = {"PURGE_AFTER_REQUESTS": 2}
    IdempotencyRecordFactory.create_batch(5, expired=True)
    IdempotencyRecordFactory()
    seen = []
    for seconds in (0, 5, 5, 0, 10, 10):
        clock[0] += seconds
        Client().get("/probe/create/")
        seen.append(left())
    assert seen == [4, 4, 2, 2, 1, 1]


def test_what_is_locked_is_not_waited_for(settings: Any, parallel: Parallel) -> None:
    settings.IDEMPOTENCY = {"PURGE_AFTER_REQUESTS": 10}
    IdempotencyRecordFactory.create_batch(2, expired=True)
    held = IdempotencyRecordFactory(expired=True)
    with transaction.atomic():
        list(IdempotencyRecord.objects.select_for_update().filter(pk=held.pk))
        if connection.vendor == "sqlite":
            IdempotencyRecordFactory()  # SQLite's one lock
        started = time.perf_counter()
        parallel.call(upkeep.after_request)
        assert time.perf_counter() - started < 10  # SQLite's timeout is 20
        assert left() == {"sqlite": 4}.get(connection.vendor, 1)


def test_failure_breaks_no_request(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.IDEMPOTENCY = {"PURGE_AFTER_REQUESTS": 10}
    with monkeypatch.context() as broken:
        broken.setattr(IdempotencyRecord._meta, "db_table", "not_migrated")
        assert Client().get("/probe/create/").status_code == 200


def test_counts_of_one_test_do_not_fail_another_that_may_not_use_the_database(clock: list[float]) -> None:
    class NoDatabase(SimpleTestCase):
        def test_request(self) -> None:
            self.client.get("/nowhere/")

    tally.add("default", Hour(conflicts=1))
    clock[0] += 60
    result = unittest.TestResult()
    unittest.TestSuite([NoDatabase("test_request")]).run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
    assert tally.take("default").hours, "forgotten"


def test_router_that_cannot_choose_and_an_alias_that_is_gone_break_no_request(
    settings: Any, clock: list[float]
) -> None:
    class Lost:
        def db_for_write(self, model: Any, **hints: Any) -> str:
            raise LookupError("no tenant")

    settings.IDEMPOTENCY = {"PURGE_AFTER_REQUESTS": 2}
    settings.DATABASE_ROUTERS = [Lost()]
    tally.add("gone", Hour(conflicts=1))
    clock[0] += 60
    assert Client().get("/nowhere/").status_code == 404
