"""``manage.py forget_idempotency_records``: one caller's records go, and nobody else's."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Parallel, printed
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db(transaction=True)

OTHERS = [
    "user:10 api/orders/",
    "USER:1 api/orders/",
    "user:1api/orders/",
    "user:2 user:1 ",
    " user:1 api/orders/",
    "user_1 api/orders/",
]


def forget(*arguments: str) -> str:
    return printed("forget_idempotency_records", *arguments)


def report(*arguments: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(forget(*arguments, "--format", "json"))
    return value


def left() -> set[tuple[str, str]]:
    return set(IdempotencyRecord.objects.values_list("scope", "key"))


def test_records_of_a_principal_go_on_every_route_and_of_nobody_else() -> None:
    for scope in OTHERS:
        IdempotencyRecordFactory(scope=scope, key="theirs")
    IdempotencyRecordFactory(scope="user:1 api/orders/", completed=True)
    IdempotencyRecordFactory(scope="user:1 api/wallet/", expired=True)
    IdempotencyRecordFactory(scope="user:1")
    assert forget("--scope", "user:1") == (
        "Deleted 3 of 3 records on 'default', 2 of them live: a retry with the key of a live one runs again.\n"
    )
    assert left() == {(scope, "theirs") for scope in OTHERS}


def test_whole_scope_is_one_route() -> None:
    IdempotencyRecordFactory(scope="user:1 api/orders/")
    IdempotencyRecordFactory(scope="user:1 api/wallet/", key="kept")
    assert report("--scope", "user:1 api/orders/")["deleted"] == 1
    assert left() == {("user:1 api/wallet/", "kept")}


def test_wildcards_of_sql_mean_themselves() -> None:
    IdempotencyRecordFactory(scope="user:1 api/orders/", key="kept")
    for scope in ("%", "user:_", "user:%"):
        assert report("--scope", scope)["found"] == 0
    IdempotencyRecordFactory(scope="acme%20inc api/orders/")
    assert report("--scope", "acme%20inc")["deleted"] == 1
    assert left() == {("user:1 api/orders/", "kept")}


def test_key_chooses_exactly_one_of_the_principals() -> None:
    for key in ("a", "A", "a ", "b"):
        IdempotencyRecordFactory(key=key)
    IdempotencyRecordFactory(scope="user:2 api/orders/", key="a")
    assert report("--scope", "user:1", "--key", "a")["deleted"] == 1
    assert {key for scope, key in left() if scope.startswith("user:1")} == {"A", "a ", "b"}
    assert ("user:2 api/orders/", "a") in left()


def test_dry_run_says_what_would_go_and_deletes_nothing() -> None:
    IdempotencyRecordFactory.create_batch(2)
    IdempotencyRecordFactory(expired=True)
    assert forget("--scope", "user:1", "--dry-run") == (
        "Would delete 3 records on 'default', 2 of them live: a retry with the key of a live one would run again. "
        "Nothing was deleted.\n"
    )
    expected = {"database": "default", "dry_run": True, "found": 3, "live": 2, "deleted": 0, "held": 0}
    assert report("--scope", "user:1", "--dry-run") == expected
    assert len(left()) == 3


def test_one_record_is_one_record() -> None:
    IdempotencyRecordFactory()
    assert forget("--scope", "user:1", "--dry-run").startswith(
        "Would delete 1 record on 'default', 1 of them"
    )
    assert forget("--scope", "user:1").startswith("Deleted 1 of 1 record on 'default', 1 of them live")


@pytest.mark.parametrize("size", ["1", "2", "5", "100"])
def test_batches_reach_every_record_once(size: str) -> None:
    IdempotencyRecordFactory.create_batch(5)
    IdempotencyRecordFactory.create_batch(2, scope="user:10 api/orders/")
    expected = {"database": "default", "dry_run": False, "found": 5, "live": 5, "deleted": 5, "held": 0}
    assert report("--scope", "user:1", "--batch-size", size) == expected
    assert len(left()) == 2


def test_each_batch_is_a_transaction_of_its_own() -> None:
    IdempotencyRecordFactory.create_batch(4)
    with CaptureQueriesContext(connection) as captured:
        forget("--scope", "user:1", "--batch-size", "2")
    assert [query["sql"] for query in captured].count("COMMIT") == 2


@pytest.mark.vendors("postgresql", "mysql")
def test_record_that_a_running_request_holds_is_left_and_told(parallel: Parallel) -> None:
    held, free = IdempotencyRecordFactory(), IdempotencyRecordFactory()
    locked, end = Event(), Event()

    def hold() -> None:
        with transaction.atomic():
            IdempotencyRecord.objects.select_for_update().get(id=held.id)
            locked.set()
            assert end.wait(30)

    finished: Callable[[], Any] = parallel.start(hold)
    assert locked.wait(30)
    out = io.StringIO()
    try:
        with pytest.raises(CommandError, match="1 record is held by a running request: run this again"):
            call_command("forget_idempotency_records", "--scope", "user:1", stdout=out)
    finally:
        end.set()
        finished()
    assert "Deleted 1 of 2 records" in out.getvalue()
    assert left() == {(held.scope, held.key)}
    assert (free.scope, free.key) not in left()


def test_nothing_found_says_how_a_scope_is_written() -> None:
    assert "No such records on 'default'. A scope is written as the admin shows it" in forget(
        "--scope", "alice"
    )


@pytest.mark.parametrize(
    "arguments", [("--scope", ""), ("--scope", "user:1", "--key", " "), ("--scope", "\udcff"), ()]
)
def test_scope_or_key_that_is_empty_is_refused(arguments: tuple[str, ...]) -> None:
    IdempotencyRecordFactory()
    with pytest.raises(CommandError, match=r"it is empty|cannot be printed|--scope"):
        forget(*arguments)
    assert len(left()) == 1


def test_missing_table_and_unknown_database_are_errors_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(CommandError, match=r"There is no database 'elsewhere': choose one of default\."):
        forget("--scope", "user:1", "--database", "elsewhere")
    monkeypatch.setattr(IdempotencyRecord._meta, "db_table", "not_migrated")
    with pytest.raises(
        CommandError,
        match=r"The records on 'default' cannot be deleted: (?s:.*)not_migrated(?s:.*): run manage.py migrate",
    ):
        forget("--scope", "user:1")


def test_verbosity_0_is_silent() -> None:
    IdempotencyRecordFactory()
    assert forget("--scope", "user:1", "--verbosity", "0") == ""
    assert left() == set()
