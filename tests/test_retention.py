"""The end of a record: expired early, purged by choice, purged in batches."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.claims import retention
from django_idempotency.claims.retention import (
    PurgeLimits,
    PurgeResult,
    delete_batch,
    delete_chosen,
    expire_now,
    extend,
    purge_chosen,
    purge_expired,
)
from django_idempotency.models import IdempotencyRecord, IdempotencyRecordQuerySet
from django_idempotency.signals import purged
from tests.conftest import Parallel
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db(transaction=True)

MILLISECOND = timedelta(milliseconds=1)
NOWAIT_DATABASES = pytest.mark.vendors("postgresql", "mysql")


def records() -> IdempotencyRecordQuerySet:
    return IdempotencyRecord.objects.using("default")


def purge(*limits: Any) -> PurgeResult:
    return purge_expired("default", PurgeLimits(*limits))


def lock(*chosen: IdempotencyRecord) -> None:
    """Hold the rows as a running operation does, until the transaction of this thread ends."""
    ids = [record.id for record in chosen]
    assert len(records().filter(id__in=ids).select_for_update()) == len(chosen)


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Stop the application's clock."""
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    return now


@pytest.fixture
def counts() -> Iterator[list[tuple[int, str]]]:
    """Collect what the signal ``purged`` tells."""
    told: list[tuple[int, str]] = []

    def receive(count: int, using: str, **kwargs: Any) -> None:
        told.append((count, using))

    purged.connect(receive)
    yield told
    purged.disconnect(receive)


def test_purge_deletes_what_has_expired_and_nothing_that_expires_a_millisecond_later(noon: datetime) -> None:
    IdempotencyRecordFactory(expires_at=noon)
    IdempotencyRecordFactory(expires_at=noon - MILLISECOND, completed=True)
    live = IdempotencyRecordFactory(expires_at=noon + MILLISECOND)
    assert purge() == PurgeResult(2, 1, finished=True)
    assert list(records()) == [live]


def test_purge_goes_by_batches_and_reports_each(counts: list[tuple[int, str]]) -> None:
    IdempotencyRecordFactory.create_batch(5, expired=True)
    sizes: list[int] = []
    assert purge_expired("default", PurgeLimits(2), sizes.append) == PurgeResult(5, 3, finished=True)
    assert sizes == [2, 2, 1]
    assert counts == [(2, "default"), (2, "default"), (1, "default")]


def test_purge_of_nothing_tells_nothing(counts: list[tuple[int, str]]) -> None:
    IdempotencyRecordFactory()
    sizes: list[int] = []
    assert purge_expired("default", PurgeLimits(), sizes.append) == PurgeResult(0, 0, finished=True)
    assert (sizes, counts) == ([], [])


def test_purged_is_not_told_of_what_was_rolled_back(counts: list[tuple[int, str]]) -> None:
    IdempotencyRecordFactory(expired=True)
    with transaction.atomic():
        assert purge().deleted == 1
        transaction.set_rollback(True)
    assert counts == []
    assert records().count() == 1


@pytest.mark.parametrize(("rows", "left", "finished"), [(3, 2, False), (5, 0, True), (9, 0, True)])
def test_max_rows_bounds_the_purge_across_batches(rows: int, left: int, finished: bool) -> None:
    IdempotencyRecordFactory.create_batch(5, expired=True)
    result = purge(2, rows)
    assert (result.deleted, result.finished) == (5 - left, finished)
    assert records().count() == left


def test_oldest_expiry_goes_first(noon: datetime) -> None:
    young, *_ = (IdempotencyRecordFactory(expires_at=noon - timedelta(days=days)) for days in (1, 3, 2))
    assert delete_batch(records().expired(), 2) == 2
    assert list(records()) == [young]


def test_no_batch_begins_after_max_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    IdempotencyRecordFactory.create_batch(5, expired=True)
    clock = itertools.count()
    monkeypatch.setattr(retention, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=time.sleep))
    assert purge(1, None, 3) == PurgeResult(2, 2, finished=False)


@pytest.mark.parametrize("size", [5, 10])
@NOWAIT_DATABASES
def test_purge_passes_over_a_record_that_is_in_use(parallel: Parallel, size: int) -> None:
    held, *_ = IdempotencyRecordFactory.create_batch(5, expired=True)
    with transaction.atomic():
        lock(held)
        assert parallel.call(purge, size).deleted == 4
    assert list(records()) == [held]


@NOWAIT_DATABASES
def test_purge_of_nearly_the_whole_table_does_not_wait_for_the_record_in_use(parallel: Parallel) -> None:
    """MariaDB deletes many of few rows by a scan, which would wait for each lock in its way."""
    records().bulk_create(IdempotencyRecordFactory.build_batch(300, expired=True))
    with connection.cursor() as cursor:
        cursor.execute(
            f"ANALYZE {'TABLE' * (connection.vendor == 'mysql')} {IdempotencyRecord._meta.db_table}"
        )
    held = records().earliest("expires_at")
    with transaction.atomic():
        lock(held)
        assert parallel.call(purge).deleted == 299
    assert list(records()) == [held]


@NOWAIT_DATABASES
def test_two_purgers_share_the_work(parallel: Parallel) -> None:
    records().bulk_create(IdempotencyRecordFactory.build_batch(200, expired=True))
    live = IdempotencyRecordFactory()
    results = parallel.at_once(2, lambda number: purge(10))
    assert sum(result.deleted for result in results) == 200
    assert list(records()) == [live]


@NOWAIT_DATABASES
def test_batch_of_another_purger_is_left_to_it(parallel: Parallel) -> None:
    IdempotencyRecordFactory.create_batch(5, expired=True)
    with transaction.atomic():
        assert delete_batch(records().expired(), 2) == 2
        assert parallel.call(purge, 2) == PurgeResult(3, 2, finished=True)
    assert not records().exists()


@NOWAIT_DATABASES
def test_purge_locks_and_skips_in_one_statement() -> None:
    IdempotencyRecordFactory(expired=True)
    with CaptureQueriesContext(connection) as queries:
        purge()
    (locking,) = (query["sql"] for query in queries if "FOR UPDATE SKIP LOCKED" in query["sql"])
    (delete,) = (
        each["sql"]
        for each in queries
        if each["sql"].startswith("DELETE") and IdempotencyRecord._meta.db_table in each["sql"]
    )
    if connection.vendor == "postgresql":
        assert locking == delete
        assert "= ANY (ARRAY(SELECT" in delete
    else:
        assert "STRAIGHT_JOIN" in delete


def test_purge_tells_a_project_that_listens_of_each_record() -> None:
    """Django then reads the records first, and deletes them by their ids."""
    told: list[Any] = []

    def listen(instance: IdempotencyRecord, **kwargs: Any) -> None:
        told.append(instance.pk)

    gone = {record.pk for record in IdempotencyRecordFactory.create_batch(3, expired=True)}
    IdempotencyRecordFactory()
    pre_delete.connect(listen, sender=IdempotencyRecord)
    try:
        assert purge(2) == PurgeResult(3, 2, finished=True)
    finally:
        pre_delete.disconnect(listen, sender=IdempotencyRecord)
    assert set(told) == gone
    assert records().count() == 1


@pytest.mark.parametrize(
    "call", [purge, lambda: purge_chosen(records(), records().values_list("id", flat=True))]
)
@NOWAIT_DATABASES
def test_record_that_is_claimed_anew_survives_where_locks_cannot_be_skipped(
    parallel: Parallel, monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]
) -> None:
    """The purger has chosen the record before its next operation commits, and deletes after that."""
    monkeypatch.setattr(retention, "_can_skip", lambda using: False)
    record, deleting = IdempotencyRecordFactory(expired=True), Event()

    def announce(execute: Any, sql: str, *args: Any) -> Any:
        if sql.startswith("DELETE"):
            deleting.set()
        return execute(sql, *args)

    def watched() -> None:
        with connection.execute_wrapper(announce):
            call()

    with transaction.atomic():
        records().filter(id=record.id).update(expires_at=timezone.now() + timedelta(days=1))
        purging = parallel.start(watched)
        assert deleting.wait(30)
    purging()
    assert records().exists()


def test_expire_now_ends_the_retention_of_the_chosen(noon: datetime) -> None:
    chosen, other = IdempotencyRecordFactory.create_batch(2, completed=True)
    assert expire_now(records(), [chosen.id]) == {chosen.id}
    assert list(records().expired()) == [chosen]
    assert list(records().live()) == [other]


def test_expire_now_leaves_the_date_of_what_had_expired_before() -> None:
    record = IdempotencyRecordFactory(expired=True)
    assert expire_now(records(), [record.id]) == set()
    assert records().get().expires_at == record.expires_at


@NOWAIT_DATABASES
def test_expire_now_passes_over_a_record_that_is_in_use(parallel: Parallel) -> None:
    held, free = IdempotencyRecordFactory.create_batch(2)
    with transaction.atomic():
        lock(held)
        assert parallel.call(expire_now, records(), [held.id, free.id]) == {free.id}
    assert list(records().live()) == [held]


def test_extend_moves_the_expiry_of_what_is_live(noon: datetime) -> None:
    live, other, old = (
        IdempotencyRecordFactory(expires_at=noon + timedelta(hours=hours)) for hours in (1, 2, -1)
    )
    assert extend(records(), [live.id, old.id], timedelta(days=7)) == {live.id}
    found = {record.id: record.expires_at for record in records()}
    assert found == {
        live.id: live.expires_at + timedelta(days=7), other.id: other.expires_at, old.id: old.expires_at
    }  # fmt: skip


def test_delete_chosen_deletes_what_is_live_too(counts: list[tuple[int, str]]) -> None:
    live, old, other = (*IdempotencyRecordFactory.create_batch(2), IdempotencyRecordFactory(expired=True))
    assert delete_chosen(records(), [live.id, old.id]) == {live.id, old.id}
    assert list(records()) == [other]
    assert counts == [(2, "default")]


@pytest.mark.parametrize(
    "change", [delete_chosen, lambda records, ids: extend(records, ids, timedelta(days=7))]
)
@NOWAIT_DATABASES
def test_record_in_use_is_neither_extended_nor_deleted(
    parallel: Parallel, change: Callable[..., Any]
) -> None:
    held, free = IdempotencyRecordFactory.create_batch(2)
    with transaction.atomic():
        lock(held)
        assert parallel.call(change, records(), [held.id, free.id]) == {free.id}
    assert records().get(id=held.id).expires_at == held.expires_at


def test_purge_chosen_deletes_only_what_is_chosen_and_has_expired(counts: list[tuple[int, str]]) -> None:
    live = IdempotencyRecordFactory()
    chosen, other = IdempotencyRecordFactory.create_batch(2, expired=True)
    assert purge_chosen(records(), [live.id, chosen.id]) == {chosen.id}
    assert set(records()) == {live, other}
    assert counts == [(1, "default")]


@NOWAIT_DATABASES
def test_purge_chosen_passes_over_a_record_that_is_in_use(parallel: Parallel) -> None:
    held, free = IdempotencyRecordFactory.create_batch(2, expired=True)
    with transaction.atomic():
        lock(held)
        assert parallel.call(purge_chosen, records(), [held.id, free.id]) == {free.id}
    assert list(records()) == [held]
