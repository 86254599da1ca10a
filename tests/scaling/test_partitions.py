"""The partitions of docs/guide/scaling.md: its SQL is what runs here, in a schema of its own."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone as django_timezone

from django_idempotency.claims.retention import PurgeLimits, purge_expired
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Parallel
from tests.factories import IdempotencyRecordFactory
from tests.machine import TOP
from tests.views import effects

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.vendors("postgresql"),
    pytest.mark.processes,  # the database's own work, on the newest row only
]

GUIDE = (TOP / "docs" / "guide" / "scaling.md").read_text(encoding="utf-8")
BY_HASH, BY_DAY, DROP_DAY = re.findall(r"```sql\n(.*?)```", GUIDE, re.DOTALL)
TABLE = IdempotencyRecord._meta.db_table
DAY = timedelta(days=1)


def run(sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def divided(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Divide a copy of the table that every connection of this test finds first; it has two records already."""
    run(f"CREATE SCHEMA divided; CREATE TABLE divided.{TABLE} (LIKE public.{TABLE} INCLUDING ALL)")
    connection.close()
    options = {"options": "-c search_path=divided,public"}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    try:
        IdempotencyRecordFactory(scope="before", key=key_of(today()), completed=True)
        IdempotencyRecordFactory(scope="before", key="other", completed=True)
        run(request.param)
        yield
    finally:
        connection.close()
        monkeypatch.undo()
        run("DROP SCHEMA divided CASCADE")


def today() -> date:
    return datetime.now(tz=timezone.utc).date()


def key_of(day: date) -> str:
    """Return a UUID of version 7 of that day's noon (UTC)."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=timezone.utc)
    value = int(noon.timestamp() * 1000) << 80 | uuid.uuid4().int & ((1 << 80) - 1)
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


def post(key: str) -> Any:
    return Client(headers={"Idempotency-Key": key}).post("/probe/create/", b"{}", "application/json")


def places(key: str) -> list[str]:
    """Return the partitions that have a record of this key."""
    return [name for (name,) in run(f"SELECT tableoid::regclass::text FROM {TABLE} WHERE key = '{key}'")]


both = pytest.mark.parametrize("divided", [BY_HASH, BY_DAY], ids=["hash", "day"], indirect=True)
by_day = pytest.mark.parametrize("divided", [BY_DAY], ids=["day"], indirect=True)


@both
def test_requests_replays_and_a_crowd_of_retries(divided: None, parallel: Parallel) -> None:
    for number, key in enumerate([key_of(today()), str(uuid.uuid4())]):
        answers = parallel.at_once(16, lambda _, key=key: post(key))
        bodies = {answer.content for answer in answers if answer.status_code == 201}
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert bodies == {post(key).content}
        assert (effects(), len(places(key))) == (number + 1, 1)
    assert IdempotencyRecord.objects.filter(scope="before").count() == 2


@both
def test_look_up_reads_one_partition(divided: None) -> None:
    post("k")
    row = IdempotencyRecord.objects.get(key="k")
    plan = "\n".join(line for (line,) in run(f"EXPLAIN SELECT * FROM {TABLE} WHERE id = '{row.id}'"))
    assert plan.count("Scan") == 1, plan
    assert "Append" not in plan


@both
def test_purge_and_the_row_lock_work_on_partitions(divided: None, settings: Any) -> None:
    settings.IDEMPOTENCY = {"CLAIM": "row_lock"}
    assert post("k").content == post("k").content
    IdempotencyRecord.objects.filter(key="k").update(expires_at=django_timezone.now() - DAY)
    assert purge_expired("default", PurgeLimits()).deleted == 1
    post("k")
    assert effects() == 2


@by_day
def test_day_is_dropped_when_all_of_it_has_expired_and_not_before(divided: None) -> None:
    day = today() - 2 * DAY
    key, late, name = key_of(day), key_of(day), f"idempotency_{day:%Y%m%d}"
    first = post(key)
    assert places(key) == [name]
    drop = DROP_DAY.replace("CURRENT_DATE - 3", f"date '{day}'")
    assert drop != DROP_DAY
    assert run(drop) == [(False,)]
    assert post(key).content == first.content
    IdempotencyRecord.objects.filter(key=key).update(expires_at=django_timezone.now() - DAY)
    assert run(drop) == [(True,)]
    assert places(key) == []
    assert (post(late).status_code, places(late)) == (201, ["idempotency_other"])


@by_day
def test_each_record_is_where_its_key_says(divided: None) -> None:
    key = key_of(today())
    post(key)
    post("timeless")
    assert places(key) == [f"idempotency_{today():%Y%m%d}"]
    assert places("timeless") == ["idempotency_other"]
    assert IdempotencyRecord.objects.filter(scope="before").count() == 2
