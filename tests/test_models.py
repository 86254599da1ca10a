"""The record: its vocabulary, its indexes, and what it shows of itself."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from django_idempotency.core.operations import Snapshot, StoredRecord
from django_idempotency.models import IdempotencyRecord
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db

records = IdempotencyRecord.objects


def test_states_divide_the_records() -> None:
    running, done = IdempotencyRecordFactory(in_progress=True), IdempotencyRecordFactory(completed=True)
    IdempotencyRecordFactory(state=IdempotencyRecord.State.UNKNOWN)
    assert list(records.in_progress()) == [running]
    assert list(records.completed()) == [done]


def test_record_is_expired_from_the_very_moment_on() -> None:
    now = timezone.now()
    moments = [now - timedelta(microseconds=1), now, now + timedelta(microseconds=1)]
    before, at, after = (IdempotencyRecordFactory(expires_at=moment) for moment in moments)
    assert set(records.expired(now)) == {before, at}
    assert list(records.live(now)) == [after]


def test_now_is_the_default_moment() -> None:
    old, new = IdempotencyRecordFactory(expired=True), IdempotencyRecordFactory()
    assert (records.expired().get(), records.live().get()) == (old, new)


def test_vocabulary_can_be_chained() -> None:
    wanted = IdempotencyRecordFactory(completed=True, expired=True)
    IdempotencyRecordFactory(completed=True)
    IdempotencyRecordFactory(expired=True)
    assert records.completed().expired().get() == wanted


ANSWERS = [(b'{"id":1}', b'{"id":1}'), (b"\x00\xff", b"\x00\xff"), (b"", b""), (None, None)]


@pytest.mark.parametrize(("stored", "body"), ANSWERS)
def test_snapshot_is_the_stored_answer(stored: bytes | None, body: bytes | None) -> None:
    headers = [["Content-Type", "application/json"], ["Link", "<a>"], ["Link", "<b>"]]
    IdempotencyRecordFactory(
        completed=True, response_status=202, response_headers=headers, response_body=stored
    )
    expected = Snapshot(202, tuple((name, value) for name, value in headers), body)
    assert records.get().as_snapshot() == expected


def test_stored_record_is_what_a_decision_needs() -> None:
    record = IdempotencyRecordFactory(completed=True)
    expected = StoredRecord(record.scope, record.key, record.fingerprint, "completed", record.expires_at)
    assert records.get().as_stored() == expected


def test_record_does_not_show_what_was_sent() -> None:
    record = IdempotencyRecordFactory(
        key="s3cr3t", scope="s3cr3t", fingerprint="s3cr3t", request_payload=b"s3cr3t", response_body=b"s3cr3t"
    )
    assert str(record) == "POST /api/orders/ (in_progress)"
    for shown in (str(record), repr(record), repr(record.as_stored()), repr(record.as_snapshot())):
        assert "s3cr3t" not in shown
    assert str(IdempotencyRecord(state="completed")) == "(completed)"


def indexed_columns() -> list[list[str]]:
    """Return the columns of every index that the database keeps for the table."""
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, IdempotencyRecord._meta.db_table)
    kept = [
        found for found in constraints.values() if found["index"] or found["primary_key"] or found["unique"]
    ]
    return sorted(found["columns"] for found in kept)


COUNT_INDEXES = {
    "sqlite": "SELECT COUNT(*) FROM pragma_index_list(%s)",
    "postgresql": "SELECT COUNT(*) FROM pg_indexes WHERE tablename = %s",
    "mysql": "SELECT COUNT(DISTINCT index_name) FROM information_schema.statistics "
    "WHERE table_schema = DATABASE() AND table_name = %s",
}


def test_table_has_exactly_four_indexes() -> None:
    assert indexed_columns() == [["completed_at", "expires_at"], ["expires_at"], ["id"], ["key"]]
    with connection.cursor() as cursor:
        cursor.execute(COUNT_INDEXES[connection.vendor], [IdempotencyRecord._meta.db_table])
        assert cursor.fetchone() == (4,)


def test_database_without_partial_indexes_is_no_reason_for_a_warning() -> None:
    assert IdempotencyRecord.check(databases=["default"]) == []


def test_unfinished_is_what_has_no_answer() -> None:
    running = IdempotencyRecordFactory()
    unknown = IdempotencyRecordFactory(state=IdempotencyRecord.State.UNKNOWN)
    IdempotencyRecordFactory(completed=True)
    assert set(records.unfinished()) == {running, unknown}


def test_expiring_is_from_the_start_on_and_before_the_end() -> None:
    start = timezone.now()
    moments = [start - timedelta(microseconds=1), start, start + timedelta(hours=1)]
    _, first, _ = (IdempotencyRecordFactory(expires_at=moment) for moment in moments)
    assert list(records.expiring(start, start + timedelta(hours=1))) == [first]


def test_migrations_are_complete() -> None:
    call_command("makemigrations", "django_idempotency", check=True, dry_run=True, stdout=io.StringIO())


ACTIONS = ("view", "view_bodies", "expire", "extend", "purge", "delete", "export")


def test_each_thing_that_can_be_done_has_its_permission() -> None:
    permissions = Permission.objects.filter(content_type__model="idempotencyrecord")
    expected = {f"{action}_idempotencyrecord" for action in ACTIONS}
    assert {permission.codename for permission in permissions} == expected
