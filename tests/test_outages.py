"""PostgreSQL behind a pooler, and a database that ends the session in the middle of an operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.claims.advisory import running
from django_idempotency.claims.registry import claims_for
from django_idempotency.exceptions import InProgress
from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Product
from tests import views
from tests.claims.test_contract import ANSWER, operation, retry, run, win
from tests.conftest import Parallel
from tests.doors.live import wait_for
from tests.servers import ServerMissing, pgbouncer
from tests.test_races import Watch, assert_one_effect_each, attempt, race

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.vendors("postgresql", "mysql"),
    pytest.mark.processes,
]

BACKENDS = 4


@pytest.fixture(params=["auto", "row_lock"])
def claim(request: pytest.FixtureRequest, settings: Any) -> str:
    settings.IDEMPOTENCY = {"CLAIM": request.param}
    name: str = request.param
    return name


@pytest.fixture(
    params=[{}, {"server_side_binding": True}, {"pool": {"min_size": 1, "max_size": 40}}], ids=str
)
def pooled(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> Iterator[None]:
    """Connect through PgBouncer in transaction mode, in every thread of the test."""
    try:
        pooler = pgbouncer(str(connection.settings_dict["HOST"]), backends=BACKENDS)
        with pooler as (folder, port), monkeypatch.context() as patch:
            connection.close()
            for name, value in {"HOST": folder, "PORT": port, "OPTIONS": request.param}.items():
                patch.setitem(connection.settings_dict, name, value)
            yield
            connection.close()
            if "pool" in request.param:
                connection.close_pool()
    except ServerMissing as missing:
        pytest.skip(str(missing))


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {'pg_backend_pid' if connection.vendor == 'postgresql' else 'connection_id'}()"
        )
        number: int = cursor.fetchone()[0]
        return number


@pytest.mark.vendors("postgresql")
def test_crowd_behind_pgbouncer_has_one_effect(pooled: None, claim: str, parallel: Parallel) -> None:
    watch = Watch()
    answers = race(parallel, lambda number, turn: attempt(f"k{turn}", watch), rounds=10)
    assert len(set(parallel.at_once(32, lambda _: backend()))) <= BACKENDS
    assert_one_effect_each(watch, answers)


@pytest.mark.vendors("postgresql")
def test_nothing_of_a_claim_stays_with_the_poolers_connection(
    pooled: None, claim: str, parallel: Parallel
) -> None:
    claims = claims_for("default")
    for end in (True, False):
        claims.prepare(operation())
        with transaction.atomic():
            held = win(claims, operation())
            with pytest.raises(InProgress):
                parallel.call(retry, claims, operation())
            if not end:
                claims.complete(held, ANSWER)
            transaction.set_rollback(end)
        assert parallel.call(running, "default") == []
    assert parallel.call(retry, claims, operation()) == ANSWER
    run(claims, operation("other"))


# The session is ended


def terminate(number: int) -> None:
    """End a session, and wait until it is gone."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [number])
            assert cursor.fetchone() == (True,)
        else:
            cursor.execute("KILL CONNECTION %s", [number])
            wait_for(lambda: not listed(cursor, number))


def listed(cursor: Any, number: int) -> bool:
    cursor.execute("SELECT 1 FROM information_schema.processlist WHERE id = %s", [number])
    return cursor.fetchone() is not None


def post() -> HttpResponse:
    headers = {"Idempotency-Key": "k"}
    return Client(headers=headers).post("/probe/terminate/", b"{}", content_type="application/json")


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch, parallel: Parallel) -> list[Callable[[int], Any]]:
    """Let the view have one accident: the list holds what to do with the number of its session."""
    accidents: list[Callable[[int], Any]] = []

    def act(request: Request) -> Response:
        if accidents:
            accidents.pop()(backend())
        return Response({"id": 1}, status=201)

    monkeypatch.setitem(views.ACTS, "terminate", act)
    return accidents


def before_commit(parallel: Parallel) -> Callable[[int], None]:
    """End the session between the statement that finishes the record and COMMIT."""

    def watch(execute: Any, sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if IdempotencyRecord._meta.db_table in sql and not sql.startswith("SELECT"):
            connection.execute_wrappers.remove(watch)
            parallel.call(terminate, number[0])
        return result

    number: list[int] = []

    def arm(pid: int) -> None:
        number.append(pid)
        connection.execute_wrappers.append(watch)

    return arm


def in_the_view(parallel: Parallel) -> Callable[[int], None]:
    return lambda pid: parallel.call(terminate, pid)


def under_the_view(parallel: Parallel) -> Callable[[int], None]:
    """End the session, and let the view notice by itself."""

    def accident(pid: int) -> None:
        parallel.call(terminate, pid)
        Product.objects.count()

    return accident


@pytest.mark.parametrize("moment", [in_the_view, under_the_view, before_commit])
def test_session_that_is_ended_is_503_and_the_retry_runs(
    moment: Callable[[Parallel], Callable[[int], None]],
    claim: str,
    atomic_requests: bool,
    once: list[Callable[[int], Any]],
    parallel: Parallel,
) -> None:
    once.append(moment(parallel))
    response = post()
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert "unknown" in response.json()["detail"]
    assert once == []
    assert views.effects() == 0
    again, replay = post(), post()
    assert (again.status_code, replay.status_code) == (201, 201)
    assert "Idempotent-Replayed" not in again.headers
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert views.effects() == 1
