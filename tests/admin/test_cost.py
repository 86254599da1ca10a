"""What a page costs: statements that do not grow in number, and read a bounded part of an index."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.admin import actions, ranges
from django_idempotency.models import IdempotencyRecord
from tests.admin.pages import LIST, TABLE, page, url_of
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db

QUERIES = [
    {}, {"expiry": "live"}, {"expiry": "soon"}, {"expiry": "expired", "o": "3"}, {"state": "completed"},
    {"state": "in_progress"}, {"state": "interrupted", "expiry": "live"}, {"state": "unknown"}, {"status": "4"},
    {"method": "PATCH", "expiry": "live"}, {"created": "1"}, {"created": "24", "status": "2", "method": "POST"},
    {"q": "key-3"}, {"q": "user:1 api/orders/ key-3"}, {"q": "key-3", "status": "2"}, {"_facets": "1"}, {"p": "2"},
    {"replayed": "yes"}, {"replayed": "24", "expiry": "live"},
]  # fmt: skip
BULKY = ("request_payload", "response_body", "response_headers")


def statements(client: Client, url: str = LIST, **query: str) -> list[str]:
    """Return the statements on the records' table that a page needs."""
    with CaptureQueriesContext(connection) as queries:
        page(client, url, **query)
    return [found["sql"] for found in queries if TABLE in found["sql"]]


def fill(count: int) -> None:
    """Copy one record: half of the copies have expired, one expires each minute, and one in 500 is unfinished."""
    record = IdempotencyRecordFactory(completed=True, expires_at=timezone.now())
    ids = {"postgresql": "gen_random_uuid()", "mysql": "uuid()", "sqlite": "lower(hex(randomblob(16)))"}
    minutes = {
        "postgresql": "expires_at + n * interval '1 minute'",
        "mysql": "expires_at + interval n minute",
        "sqlite": "datetime(expires_at, n || ' minutes')",
    }
    changed = {
        "id": ids[connection.vendor],
        "key": "concat('key-', n)" if connection.vendor == "mysql" else "'key-' || n",
        "expires_at": minutes[connection.vendor],
        "completed_at": "CASE WHEN n % 500 = 0 THEN NULL ELSE completed_at END",
        "state": "CASE WHEN n % 500 = 0 THEN 'in_progress' ELSE state END",
    }
    columns = [
        connection.ops.quote_name(field.column) for field in IdempotencyRecord._meta.local_concrete_fields
    ]
    values = ", ".join(changed.get(column.strip('"`'), column) for column in columns)
    series = f"SELECT {-count // 2} UNION ALL SELECT n + 1 FROM numbers WHERE n < {count // 2}"
    numbers = f"WITH RECURSIVE numbers (n) AS ({series})"
    select = f"{numbers} SELECT {values} FROM {TABLE}, numbers"
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(f"SET max_recursive_iterations = {count + 2}")
        cursor.execute(f"INSERT INTO {TABLE} ({', '.join(columns)}) {select}")
        cursor.execute(f"ANALYZE {'TABLE' * (connection.vendor == 'mysql')} {TABLE}")
    IdempotencyRecord.objects.filter(pk=record.pk).delete()


def plan_of(sql: str) -> str:
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {sql}")
        return "\n".join(" ".join(map(str, row)) for row in cursor.fetchall())


#: How a plan says that it reads a table from end to end, past every index.
SCANS = {
    "postgresql": "Seq Scan on " + TABLE,
    "mysql": rf"{TABLE} ALL",
    "sqlite": rf"SCAN {TABLE}(?! USING (COVERING )?INDEX)",
}


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_list_counts_to_a_limit_and_leaves_payloads_where_they_are(
    admin_client: Client, query: dict[str, str]
) -> None:
    IdempotencyRecordFactory.create_batch(5, completed=True)
    for sql in statements(admin_client, **query):
        assert "DISTINCT" not in sql
        assert "COUNT" not in sql or re.search("LIMIT (10001|100001)", sql), sql
        for column in BULKY:
            assert column not in sql


def test_number_of_statements_does_not_grow_with_the_list(admin_client: Client) -> None:
    IdempotencyRecordFactory()
    page(admin_client)
    before = len(statements(admin_client))
    IdempotencyRecordFactory.create_batch(30)
    IdempotencyRecordFactory.create_batch(30, completed=True)
    assert len(statements(admin_client)) == before <= 13


@pytest.mark.django_db(transaction=True)  # MariaDB's ANALYZE commits
def test_page_of_a_record_and_its_bytes_are_look_ups(admin_client: Client) -> None:
    record = IdempotencyRecordFactory(completed=True)
    fill(2000)
    found = statements(admin_client, url_of(record))
    found += statements(admin_client, url_of(record, "stored", "body"))
    assert len(found) == 2
    for sql in found:
        assert not re.search(SCANS[connection.vendor], plan_of(sql)), sql


@pytest.mark.django_db(transaction=True)
def test_list_panel_and_actions_read_20000_records_by_index(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half of the table would be worth a scan; 10,000 of millions are not, nor are 100 of these.
    monkeypatch.setattr(ranges, "COUNT_LIMIT", 100)
    monkeypatch.setattr(actions, "ACTION_LIMIT", 50)
    fill(20_000)
    found = [sql for query in QUERIES for sql in statements(admin_client, **query)]
    assert len(found) > 48 + 8 * len(QUERIES)
    with CaptureQueriesContext(connection) as queries:
        chosen = str(IdempotencyRecord.objects.values_list("pk", flat=True).order_by("expires_at")[0])
        client_data = {
            "action": "purge_expired",
            "_selected_action": chosen,
            "select_across": "1",
            "post": "yes",
        }
        admin_client.post(LIST, client_data)
    assert IdempotencyRecord.objects.expired().count() == 9_951
    found += [
        query["sql"] for query in queries if query["sql"].startswith("SELECT") and TABLE in query["sql"]
    ]
    for sql in {without_dates(sql): sql for sql in found}.values():
        plan = plan_of(sql)
        assert not re.search(SCANS[connection.vendor], plan), f"{sql}\n{plan}"


def without_dates(sql: str) -> str:
    """Return what tells one statement from another, so that those of another second are not explained again."""
    return re.sub("'[0-9-]+ [0-9:.+]+'", "?", sql)
