"""The look-up that every keyed request makes."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection
from django.db.models.sql.compiler import SQLCompiler
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.claims.reads import find_record, read_on
from django_idempotency.models import IdempotencyRecord, Recorded
from tests.conftest import Parallel
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db(transaction=True)


def test_record_is_what_the_orm_reads() -> None:
    record = IdempotencyRecordFactory(completed=True, response_body=b"\0body", response_headers=[["A", "ä"]])
    found, expected = find_record(record.id, "default"), IdempotencyRecord.objects.get(pk=record.pk)
    assert found is not None
    assert vars(found).keys() == Recorded.__annotations__.keys()
    values = [[getattr(each, name) for name in vars(found)] for each in (found, expected)]
    plain = [[bytes(value) if isinstance(value, memoryview) else value for value in each] for each in values]
    assert plain[0] == plain[1]
    assert found.as_stored() == expected.as_stored()
    assert found.as_snapshot() == expected.as_snapshot()


def test_unknown_id_is_none() -> None:
    assert find_record(uuid.uuid4(), "default") is None


def test_second_look_up_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    record = IdempotencyRecordFactory(completed=True)
    find_record(record.id, "default")

    def compiled(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("it was compiled again")

    monkeypatch.setattr(SQLCompiler, "as_sql", compiled)
    with CaptureQueriesContext(connection) as captured:
        found = find_record(record.id, "default")
    assert found is not None
    assert found.key == record.key
    assert len(captured) == 1


def test_each_connection_keeps_its_own(parallel: Parallel) -> None:
    assert read_on("default") is read_on("default")
    assert parallel.call(read_on, "default") is not read_on("default")


def test_time_zones_may_be_turned_off_and_on(settings: Any) -> None:
    """As a project's tests do."""
    record = IdempotencyRecordFactory(completed=True)
    for use_tz in (True, False, True):
        settings.USE_TZ = use_tz
        found = find_record(record.id, "default")
        assert found is not None
        assert timezone.is_aware(found.expires_at) is use_tz
