"""Whether the owner of a record lives is told by its lock, and asking gets in nobody's way."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from django_idempotency.claims.liveness import interrupted
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Parallel
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db(transaction=True)

ROW_LOCKS = pytest.mark.vendors("postgresql", "mysql")


def lock(record: IdempotencyRecord, *, nowait: bool = False) -> None:
    assert IdempotencyRecord.objects.filter(pk=record.pk).select_for_update(nowait=nowait).get()


@ROW_LOCKS
def test_record_whose_lock_is_held_has_an_owner(parallel: Parallel) -> None:
    held, free, done = (*IdempotencyRecordFactory.create_batch(2), IdempotencyRecordFactory(completed=True))
    with transaction.atomic():
        lock(held)
        assert parallel.call(interrupted, "default", [held.pk, free.pk, done.pk]) == {free.pk}
    assert interrupted("default", [held.pk, free.pk]) == {held.pk, free.pk}


@ROW_LOCKS
def test_asking_leaves_no_lock_behind(parallel: Parallel) -> None:
    record = IdempotencyRecordFactory()
    assert interrupted("default", [record.pk]) == {record.pk}
    parallel.call(lock_at_once, record)


def lock_at_once(record: IdempotencyRecord) -> None:
    with transaction.atomic():
        lock(record, nowait=True)


@pytest.mark.vendors("postgresql")
def test_inside_a_transaction_the_lock_is_given_back_at_once(parallel: Parallel) -> None:
    record = IdempotencyRecordFactory()
    with transaction.atomic():
        assert interrupted("default", [record.pk]) == {record.pk}
        parallel.call(lock_at_once, record)
        assert not connection.needs_rollback


@pytest.mark.vendors("mysql")
def test_inside_a_transaction_innodb_is_not_asked_since_it_would_keep_the_lock(parallel: Parallel) -> None:
    record = IdempotencyRecordFactory()
    with transaction.atomic():
        assert interrupted("default", [record.pk]) is None
        parallel.call(lock_at_once, record)


@pytest.mark.vendors("sqlite")
def test_sqlite_cannot_tell() -> None:
    assert interrupted("default", [IdempotencyRecordFactory().pk]) is None


def test_nothing_is_asked_about_nothing(django_assert_num_queries: object) -> None:
    with django_assert_num_queries(0):  # type: ignore[operator]
        assert interrupted("default", []) == set()
