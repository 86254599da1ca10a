"""What only the claims on PostgreSQL do: the advisory lock, alone and beside the row lock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from django_idempotency.claims.advisory import lock_number, running
from django_idempotency.claims.base import ClaimLost, Claims
from django_idempotency.claims.errors import error_code
from django_idempotency.claims.postgresql import PostgreSQLClaims
from django_idempotency.claims.row_lock import RowLockClaims
from django_idempotency.core.operations import Claim, Operation, Snapshot, operation_id
from django_idempotency.exceptions import InProgress
from django_idempotency.models import IdempotencyRecord
from tests.claims.test_contract import ANSWER, retry, run, win
from tests.conftest import Parallel
from tests.factories import IdempotencyRecordFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.vendors("postgresql")]

SCOPE = "user:1 orders/"
KINDS: list[type[Claims]] = [PostgreSQLClaims, RowLockClaims]


def operation(key: str = "k", fingerprint: str = "1:a") -> Operation:
    return Operation(SCOPE, key, fingerprint, timedelta(hours=1))


@pytest.fixture
def claims() -> Claims:
    return PostgreSQLClaims("default")


def test_first_claim_writes_nothing_before_it_is_finished(claims: Claims) -> None:
    with transaction.atomic():
        claim = win(claims, operation())
        assert not IdempotencyRecord.objects.exists()
        claims.complete(claim, ANSWER)
    assert (claim.attempt, IdempotencyRecord.objects.get().attempt) == (1, 1)


def test_rolled_back_claim_leaves_nothing_at_all(claims: Claims) -> None:
    with transaction.atomic():
        claims.complete(win(claims, operation()), ANSWER)
        transaction.set_rollback(True)
    assert not IdempotencyRecord.objects.exists()


def test_claim_shows_nothing_of_its_record(claims: Claims) -> None:
    """Views and logs see it as ``request.idempotency``."""
    with transaction.atomic():
        assert "orders" not in repr(win(claims, operation()))


def test_record_that_somebody_inserted_without_the_lock_ends_the_claim(claims: Claims) -> None:
    with pytest.raises(ClaimLost), transaction.atomic():
        claim = win(claims, operation())
        IdempotencyRecordFactory(scope=SCOPE, key="k", completed=True)
        claims.complete(claim, ANSWER)


@pytest.mark.parametrize("rival", KINDS)
@pytest.mark.parametrize("owner", KINDS)
def test_each_claim_refuses_the_other_at_once(
    owner: type[Claims], rival: type[Claims], parallel: Parallel
) -> None:
    """A rolling deploy: while one of them runs, with a row or without, nobody else does (I3)."""
    claims = owner("default")
    claims.prepare(operation())
    with transaction.atomic():
        claim = win(claims, operation())
        with pytest.raises(InProgress):
            parallel.call(retry, rival("default"), operation())
        claims.complete(claim, ANSWER)
        with pytest.raises(InProgress):
            parallel.call(retry, rival("default"), operation())
    assert parallel.call(retry, rival("default"), operation()) == ANSWER


@pytest.mark.parametrize("rival", KINDS)
@pytest.mark.parametrize("owner", KINDS)
@pytest.mark.parametrize("traits", [{}, {"completed": True, "expired": True}], ids=["interrupted", "expired"])
def test_existing_record_is_claimed_by_its_row_lock(
    owner: type[Claims], rival: type[Claims], traits: dict[str, bool], parallel: Parallel
) -> None:
    IdempotencyRecordFactory(scope=SCOPE, key="k", attempt=3, **traits)
    with transaction.atomic():
        assert win(owner("default"), operation()).attempt == 4
        with pytest.raises(InProgress):
            parallel.call(retry, rival("default"), operation())
    assert isinstance(parallel.call(retry, rival("default"), operation()), Claim)


def test_row_of_the_other_that_is_not_locked_yet_is_free_to_take(claims: Claims, parallel: Parallel) -> None:
    """The row lock commits its row first: whoever locks it then owns it, and its creator is refused."""
    creator = RowLockClaims("default")
    creator.prepare(operation())
    with transaction.atomic():
        claim = win(claims, operation())
        with pytest.raises(InProgress):
            parallel.call(lambda: _claim(creator))
        claims.complete(claim, ANSWER)
    assert parallel.call(lambda: _claim(creator)) == ANSWER


def _claim(claims: Claims) -> Claim | Snapshot:
    with transaction.atomic():
        return claims.claim(operation())


def test_row_that_a_stale_snapshot_cannot_see_is_not_run_beside(claims: Claims, parallel: Parallel) -> None:
    """At REPEATABLE READ the claim without a row misses one that was committed since, so the row's own waits too."""
    creator = RowLockClaims("default")
    with transaction.atomic():
        repeatable_read()
        parallel.call(creator.prepare, operation())
        win(claims, operation())
        with pytest.raises(InProgress):
            parallel.call(lambda: _claim(creator))


def repeatable_read() -> None:
    """Take the transaction's snapshot now."""
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    IdempotencyRecord.objects.exists()


def test_expired_record_that_a_stale_snapshot_cannot_see_is_not_run_beside(
    claims: Claims, parallel: Parallel
) -> None:
    with transaction.atomic():
        repeatable_read()
        parallel.call(lambda: IdempotencyRecordFactory(scope=SCOPE, key="k", completed=True, expired=True))
        win(claims, operation())
        with pytest.raises(InProgress):
            parallel.call(retry, claims, operation())


@pytest.mark.parametrize("kind", KINDS)
def test_row_that_changed_since_the_snapshot_is_a_serialization_failure(
    kind: type[Claims], parallel: Parallel
) -> None:
    """The execution knows it by its SQLSTATE, and runs again."""
    IdempotencyRecordFactory(scope=SCOPE, key="k")
    with transaction.atomic():
        repeatable_read()
        parallel.call(run, kind("default"), operation())
        with pytest.raises(OperationalError) as caught, transaction.atomic():
            kind("default").claim(operation())
    assert error_code(caught.value) == "40001"


def test_claim_of_an_inner_block_is_free_when_that_rolls_back(claims: Claims, parallel: Parallel) -> None:
    with transaction.atomic():
        with transaction.atomic():
            win(claims, operation())
            transaction.set_rollback(True)
        assert isinstance(parallel.call(retry, claims, operation()), Claim)


@pytest.fixture(
    params=[
        {},
        {"server_side_binding": True},
        {"prepare_threshold": 0},
        {"prepare_threshold": 1},
        {"pool": {"min_size": 1, "max_size": 3}},
    ],
    ids=str,
)
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Connect with these OPTIONS, in every thread of the test."""
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", request.param)
    yield request.param
    connection.close()
    if "pool" in request.param:
        connection.close_pool()


def test_lock_and_record_come_in_one_statement_if_the_driver_can(
    driver: dict[str, Any], claims: Claims, parallel: Parallel
) -> None:
    """Prepared statements are single; so are psycopg2's, which gives the last result only."""
    connection.ensure_connection()
    for number in range(7):
        with transaction.atomic(), CaptureQueriesContext(connection) as captured:
            claim = win(claims, operation(f"k{number}"))
        assert len(captured) == (2 if driver.get("prepare_threshold") == 0 else 1)
        assert isinstance(claim, Claim)
    run(claims, operation())
    for _ in range(7):
        assert retry(claims, operation()) == ANSWER
    with transaction.atomic():
        win(claims, operation("other"))
        with pytest.raises(InProgress):
            parallel.call(retry, claims, operation("other"))


def test_number_of_the_lock_is_ours_and_tells_keys_apart_that_share_no_id() -> None:
    numbers = {lock_number(SCOPE, f"k{number}") for number in range(1000)}
    assert len(numbers) == 1000
    assert {number >> 48 for number in numbers} == {0x1DE0}
    assert max(numbers) < 2**63
    identity = operation_id(SCOPE, "k").bytes.hex()
    assert f"{lock_number(SCOPE, 'k') & 0xFFFFFFFFFFFF:012x}" not in identity


def test_operator_sees_what_runs_now(claims: Claims, parallel: Parallel) -> None:
    assert running("default") == []
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(1), pg_advisory_xact_lock(2, 3), pg_backend_pid(), now()"
        )
        _, _, pid, since = cursor.fetchone()
        win(claims, operation())
        assert parallel.call(running, "default") == [(pid, since, lock_number(SCOPE, "k"))]
        win(claims, operation("other"))
        assert {found.number for found in running("default")} == {
            lock_number(SCOPE, "k"),
            lock_number(SCOPE, "other"),
        }
    assert running("default") == []


def test_stale_snapshot_of_an_outer_block_is_a_serialization_failure(
    claims: Claims, parallel: Parallel
) -> None:
    with transaction.atomic():
        repeatable_read()
        parallel.call(run, claims, operation())
        claim = win(claims, operation())
        with pytest.raises(OperationalError, match="could not serialize"), transaction.atomic():
            claims.complete(claim, ANSWER)
