"""Replays are counted, and no replay pays for it: nothing is written in a request, and nobody's lock is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from datetime import timezone as zones
from typing import Any

import pytest
from django.core.management import call_command
from django.core.signals import request_finished
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency import counting
from django_idempotency.claims.counts import Hour, Replays, add_to_hours, add_to_records, open_hours
from django_idempotency.core.operations import Operation, Snapshot
from django_idempotency.counting import WRITE_EVERY, Counts, tally, write
from django_idempotency.exceptions import (
    FingerprintMismatch,
    IdempotencyError,
    InProgress,
    KeyInvalid,
    StoreUnavailable,
)
from django_idempotency.models import IdempotencyHour, IdempotencyRecord
from django_idempotency.signals import rejected, replayed
from django_idempotency.upkeep import after_request
from tests.conftest import Parallel
from tests.doors.live import wait_for
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Let the test move the clock that says when to write."""
    now = [1000.0]
    monkeypatch.setattr(counting, "WRITE_EVERY", WRITE_EVERY)
    monkeypatch.setattr(counting.time, "monotonic", lambda: now[0])
    return now


def post(key: str) -> Any:
    headers = {"Idempotency-Key": key}
    return Client(headers=headers).post("/probe/create/", b"{}", content_type="application/json")


def hours() -> list[tuple[int, int]]:
    return list(IdempotencyHour.objects.order_by("hour").values_list("replays", "conflicts"))


def replay(record: IdempotencyRecord, times: int = 1) -> None:
    operation = Operation(record.scope, record.key, record.fingerprint, HOUR)
    for _ in range(times):
        replayed.send(
            IdempotencyRecord, operation=operation, snapshot=Snapshot(200, (), b""), using="default"
        )


def reject(error: IdempotencyError) -> None:
    operation = Operation("s", "k", "1:f", HOUR)
    rejected.send(IdempotencyRecord, operation=operation, error=error, using="default")


def test_replays_are_written_at_the_end_of_a_later_request(clock: list[float]) -> None:
    for _ in range(4):
        post("k")
    assert IdempotencyRecord.objects.get().replays == 0
    clock[0] += WRITE_EVERY
    before = timezone.now()
    Client().get("/probe/create/")
    record = IdempotencyRecord.objects.get()
    assert record.replays == 3
    assert record.created_at < record.last_replayed_at < before
    assert hours() == [(3, 0)]


def test_process_writes_once_in_a_while_and_not_at_every_request(clock: list[float]) -> None:
    record = IdempotencyRecordFactory(completed=True)
    written = []
    for _ in range(30):
        replay(record)
        clock[0] += 1
        with CaptureQueriesContext(connection) as queries:
            request_finished.send(None)
        written.append(bool(len(queries)))
    assert written == [at % 5 == 4 for at in range(30)]
    clock[0] += 5
    request_finished.send(None)
    assert tally.due() == []
    record.refresh_from_db()
    assert record.replays == 30


def test_what_is_written_takes_a_few_statements(capsys: pytest.CaptureFixture[str]) -> None:
    record = IdempotencyRecordFactory(completed=True)
    replay(record)
    write("default")  # the first of the hour
    replay(record, 1000)
    with CaptureQueriesContext(connection) as queries:
        write("default")
    record.refresh_from_db()
    assert record.replays == 1001
    written = [each["sql"] for each in queries if not each["sql"].startswith(("BEGIN", "COMMIT", "PRAGMA"))]
    assert [sql.split()[0] for sql in written] == ["SELECT", "UPDATE", "SELECT", "UPDATE"]


@pytest.mark.parametrize(
    ("error", "counted"),
    [(InProgress(), 1), (FingerprintMismatch(), 1), (KeyInvalid(), 0), (StoreUnavailable(), 0)],
)
def test_conflicts_are_requests_that_met_another_one(error: IdempotencyError, counted: int) -> None:
    reject(error)
    write("default")
    assert hours() == [(0, 1)] * counted


def test_nothing_is_counted_when_it_is_switched_off(settings: Any) -> None:
    settings.IDEMPOTENCY = {"COUNT_REPLAYS": False}
    replay(IdempotencyRecordFactory(completed=True))
    reject(InProgress())
    write("default")
    assert (IdempotencyRecord.objects.get().last_replayed_at, hours()) == (None, [])


@pytest.mark.vendors("postgresql", "mysql")
def test_locked_rows_are_left_for_the_next_time_and_the_others_are_written(parallel: Parallel) -> None:
    held, free = IdempotencyRecordFactory.create_batch(2, completed=True)
    IdempotencyHour.objects.create(hour=counting._start_of(timezone.now()))
    replay(held, 2)
    replay(free, 3)
    with transaction.atomic():
        IdempotencyRecord.objects.select_for_update().get(pk=held.pk)
        list(IdempotencyHour.objects.select_for_update())
        parallel.call(write, "default")
    found = dict(IdempotencyRecord.objects.values_list("pk", "replays"))
    assert (found, hours()) == ({held.pk: 0, free.pk: 3}, [(0, 0)])
    write("default")
    found = dict(IdempotencyRecord.objects.values_list("pk", "replays"))
    assert (found, hours()) == ({held.pk: 2, free.pk: 3}, [(5, 0)])


@pytest.mark.vendors("postgresql")
def test_transaction_holds_locks_in_one_table_only(parallel: Parallel) -> None:
    """A TRUNCATE or a migration of both tables would deadlock with one that waits here for the second table."""
    record = IdempotencyRecordFactory(completed=True)
    replay(record)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {IdempotencyHour._meta.db_table}")
        writing = parallel.start(write, "default")
        wait_for(lambda: IdempotencyRecord.objects.get().replays)
        cursor.execute(f"LOCK TABLE {IdempotencyRecord._meta.db_table} NOWAIT")
    writing()
    assert hours() == [(1, 0)]


@pytest.mark.vendors("sqlite")
def test_taken_write_lock_of_sqlite_is_not_waited_for(parallel: Parallel) -> None:
    record = IdempotencyRecordFactory(completed=True)
    replay(record)
    with transaction.atomic():
        IdempotencyRecordFactory()
        with pytest.raises(OperationalError, match="locked"):
            parallel.call(add_to_records, "default", {record.pk: Replays(1, timezone.now())})
        parallel.call(write, "default")
    write("default")
    record.refresh_from_db()
    assert record.replays == 1


@pytest.mark.vendors("sqlite")
def test_patience_of_sqlite_is_as_it_was_afterwards() -> None:
    def timeout() -> int:
        with connection.cursor() as cursor:
            return int(cursor.execute("PRAGMA busy_timeout").fetchone()[0])

    before = timeout()
    replay(IdempotencyRecordFactory(completed=True))
    write("default")
    assert timeout() == before > 0


def test_many_processes_lose_no_count(parallel: Parallel) -> None:
    record = IdempotencyRecordFactory(completed=True)
    now = timezone.now()

    def add(number: int) -> None:
        records = {record.pk: Replays(1, now + timedelta(seconds=number))}
        sums = {now: Hour(1, 1)}
        while records or sums:
            try:
                records = add_to_records("default", records)
                sums = add_to_hours("default", sums)
                open_hours("default", sums)
            except OperationalError:
                assert connection.vendor == "sqlite"

    parallel.at_once(4, add)
    record.refresh_from_db()
    assert (record.replays, hours()) == (4, [(4, 4)])
    assert record.last_replayed_at == now + timedelta(seconds=3)


def test_record_that_is_gone_or_claimed_anew_is_not_counted() -> None:
    gone, anew = IdempotencyRecordFactory(completed=True), IdempotencyRecordFactory()
    replay(gone)
    replay(anew)
    gone.delete()
    write("default")
    anew.refresh_from_db()
    assert (anew.replays, anew.last_replayed_at, hours()) == (0, None, [(2, 0)])
    assert tally.take("default") == Counts()


def test_next_operation_of_an_expired_key_begins_at_none() -> None:
    post("k")
    IdempotencyRecord.objects.update(replays=7, last_replayed_at=timezone.now(), expires_at=timezone.now())
    post("k")
    record = IdempotencyRecord.objects.get()
    assert (record.attempt, record.replays, record.last_replayed_at) == (2, 0, None)


def test_replay_writes_nothing_while_its_own_record_is_locked(parallel: Parallel) -> None:
    """A storm on one key queues for no lock: replays pass while somebody holds the row."""
    post("k")
    if connection.vendor == "sqlite":
        assert parallel.at_once(4, lambda number: post("k").headers["Idempotent-Replayed"]) == ["true"] * 4
        return
    with transaction.atomic():
        IdempotencyRecord.objects.select_for_update().get()
        assert parallel.at_once(4, lambda number: post("k").headers["Idempotent-Replayed"]) == ["true"] * 4


def test_memory_is_bounded_and_sums_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "REMEMBERED", 2)
    monkeypatch.setattr(counting, "WRITTEN_AT_ONCE", 1)
    for record in IdempotencyRecordFactory.create_batch(3, completed=True):
        replay(record)
    write("default")
    assert (IdempotencyRecord.objects.filter(replays=1).count(), hours()) == (1, [(3, 0)])
    write("default")
    assert (IdempotencyRecord.objects.filter(replays=1).count(), hours()) == (2, [(3, 0)])


def test_table_that_is_missing_breaks_no_request(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    replay(IdempotencyRecordFactory(completed=True))
    with monkeypatch.context() as broken:
        broken.setattr(IdempotencyRecord._meta, "db_table", "not_migrated")
        clock[0] += 5
        assert Client().get("/probe/create/").status_code == 200
    write("default")
    assert IdempotencyRecord.objects.get().replays == 1


def test_nothing_is_written_inside_a_transaction(clock: list[float]) -> None:
    replay(IdempotencyRecordFactory(completed=True))
    clock[0] += 5
    with transaction.atomic():
        request_finished.send(None)
    assert IdempotencyRecord.objects.get().replays == 0
    clock[0] += 5
    request_finished.send(None)
    assert IdempotencyRecord.objects.get().replays == 1


def test_connection_that_was_closed_is_closed_again(clock: list[float]) -> None:
    """Django closes connections that are not persistent before we come."""
    seen = []

    def request() -> None:
        replay(record)
        clock[0] += 5
        after_request()
        seen.append(connection.connection)

    record = IdempotencyRecordFactory(completed=True)
    thread = threading.Thread(target=request)
    thread.start()
    thread.join(60)
    assert seen == [None]
    assert IdempotencyRecord.objects.get().replays == 1


def test_sums_of_last_week_go_with_the_purge() -> None:
    now: datetime = timezone.now()
    for days in (0, 6.9, 7.1, 30):
        IdempotencyHour.objects.create(hour=now - timedelta(days=days), replays=1)
    call_command("purge_idempotency_records", verbosity=0)
    assert len(hours()) == 2


def test_hour_says_what_it_counts() -> None:
    assert (
        str(IdempotencyHour(hour=datetime(2026, 1, 2, 3, tzinfo=zones.utc), replays=4, conflicts=5))
        == "2026-01-02 03:00: 4 / 5"
    )
