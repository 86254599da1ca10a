"""Statements per request, exactly, and what they write: held to what docs/decisions/0002 and 0006 say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Product
from tests import servers
from tests.caching import use

pytestmark = pytest.mark.django_db(transaction=True)

# Statements beside the view's own two (INSERT and SELECT), COMMIT among them; BEGIN is one where Django sends it.
FIRST = {"sqlite": 5, "postgresql": 4, "postgresql by row_lock": 11, "mysql": 7}
REPLAY = {"sqlite": 1, "postgresql": 3, "postgresql by row_lock": 1, "mysql": 1}


@pytest.fixture(params=["", pytest.param(" by row_lock", marks=pytest.mark.vendors("postgresql"))])
def claim(request: pytest.FixtureRequest, settings: Any) -> str:
    settings.IDEMPOTENCY = {"CLAIM": "row_lock" if request.param else "auto"}
    return f"{connection.vendor}{request.param}"


@pytest.fixture
def cache(settings: Any) -> Iterator[None]:
    with servers.redis() as path:
        use(settings, path)
        yield


def post(key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}
    Client(headers=headers).post("/probe/create/", b"{}", content_type="application/json")


def statements(key: str | None) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        post(key)
    return [query["sql"] for query in captured]


def test_statements_of_a_first_request_and_of_a_replay(
    claim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    unprotected = statements(None)
    assert len(unprotected) == 2
    first, replay = statements("k"), statements("k")
    with capsys.disabled():
        print(f"\n{claim}: {len(first) - 2} statements beside the view's, and {len(replay)} to replay")
        print("".join(f"    {sql[:100]}\n" for sql in first), end="")
    assert len(first) - len(unprotected) == FIRST[claim]
    assert len(replay) == REPLAY[claim]


def test_replay_from_the_cache_costs_no_statement_and_a_first_request_no_more(
    claim: str, cache: None
) -> None:
    assert [len(statements("k")) - 2, len(statements("k"))] == [FIRST[claim], 0]


@pytest.mark.vendors("postgresql")
def test_first_request_on_postgresql_adds_two_statements_and_no_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside the same view under ATOMIC_REQUESTS; and a replay has one statement in the place of the view's."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    unprotected, first, replay = sent(statements(None)), sent(statements("k")), sent(statements("k"))
    assert len(first) - len(unprotected) == 2
    assert [each[0] + each[-1] for each in (unprotected, first, replay)] == ["BEGINCOMMIT"] * 3
    assert not {"BEGIN", "COMMIT"} & {*unprotected[1:-1], *first[1:-1], *replay[1:-1]}
    assert len(replay) == 3


def sent(reported: list[str]) -> list[str]:
    """Leave out a transaction without a statement: psycopg sends BEGIN with the first one only."""
    pairs = zip(["", *reported], [*reported, ""], strict=True)
    empty = {at for at, pair in enumerate(pairs) if pair == ("BEGIN", "COMMIT")}
    return [sql for at, sql in enumerate(reported) if not {at, at + 1} & empty]


def snapshot_end() -> int:
    """Return the next transaction number: each transaction that writes takes one."""
    return int(scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))


def scalar(sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


WRITES = {
    "postgresql": {"transactions": 1, "versions": 1},
    "postgresql by row_lock": {"transactions": 2, "versions": 3},
}


@pytest.mark.vendors("postgresql")
def test_first_request_on_postgresql_writes_one_row_version_in_one_transaction(
    claim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    post(None)  # what the first request of a process does once
    transactions = snapshot_end()
    written = scalar("SELECT pg_current_wal_insert_lsn()")
    post("k")
    wal = scalar(f"SELECT pg_current_wal_insert_lsn() - '{written}'")
    transactions = snapshot_end() - transactions
    place = scalar(f"SELECT ctid::text FROM {IdempotencyRecord._meta.db_table}")
    with capsys.disabled():
        print(f"\n{claim}: {transactions} transactions, row at {place}, {wal} bytes of WAL")
    assert Product.objects.count() == 2
    assert {"transactions": transactions, "versions": int(place.strip("()").split(",")[1])} == WRITES[claim]
