"""One contract for all claims: those that the database of the run has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from django_idempotency.claims.base import ClaimLost, Claims
from django_idempotency.claims.registry import claims_for
from django_idempotency.core.operations import Claim, Operation, Snapshot
from django_idempotency.exceptions import FingerprintMismatch, InProgress, KeyInvalid, OutcomeUnknown
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Parallel
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db(transaction=True)

ANSWER = Snapshot(201, (("Content-Type", "application/json"), ("Location", "/1/")), b'{"id": 1}\x00\xff')


def operation(key: str = "k", fingerprint: str = "1:a", **fields: Any) -> Operation:
    return Operation("user:1 orders/", key, fingerprint, timedelta(hours=1), **fields)


@pytest.fixture(
    params=["auto", pytest.param("row_lock", marks=pytest.mark.vendors("postgresql"))], autouse=True
)
def claims(request: pytest.FixtureRequest, settings: Any) -> Claims:
    settings.IDEMPOTENCY = {"CLAIM": request.param}
    return claims_for("default")


def win(claims: Claims, wanted: Operation) -> Claim:
    claim = claims.claim(wanted)
    assert isinstance(claim, Claim)
    return claim


def run(claims: Claims, wanted: Operation, answer: Snapshot = ANSWER) -> Claim:
    assert claims.prepare(wanted) is None
    with transaction.atomic():
        claim = win(claims, wanted)
        claims.complete(claim, answer)
    return claim


def retry(claims: Claims, wanted: Operation) -> Claim | Snapshot:
    """Do what an execution does before its view."""
    if (answer := claims.prepare(wanted)) is not None:
        return answer
    with transaction.atomic():
        return claims.claim(wanted)


def stored() -> IdempotencyRecord:
    return IdempotencyRecord.objects.get()


def test_completed_operation_gives_its_answer_to_every_retry(claims: Claims) -> None:
    run(claims, operation())
    assert retry(claims, operation()) == ANSWER
    with transaction.atomic():
        assert claims.claim(operation()) == ANSWER


def test_record_holds_request_answer_and_times(claims: Claims) -> None:
    before = timezone.now()
    run(claims, operation(method="PATCH", path="/orders/?a=%00", request_payload=b"\x00payload"))
    record = stored()
    assert (record.scope, record.key, record.fingerprint) == ("user:1 orders/", "k", "1:a")
    assert (record.method, record.path, bytes(record.request_payload or b"")) == (
        "PATCH",
        "/orders/?a=%00",
        b"\x00payload",
    )
    assert (record.state, record.attempt) == ("completed", 1)
    assert before <= record.created_at <= record.completed_at <= timezone.now()  # type: ignore[operator]
    assert record.expires_at - record.created_at == pytest.approx(
        timedelta(hours=1), abs=timedelta(seconds=1)
    )


def test_body_that_is_not_kept_is_none_and_an_empty_one_is_empty(claims: Claims) -> None:
    run(claims, operation("omitted"), Snapshot(200, (), None))
    run(claims, operation("empty"), Snapshot(204, (), b""))
    assert retry(claims, operation("omitted")) == Snapshot(200, (), None)
    assert retry(claims, operation("empty")) == Snapshot(204, (), b"")


def test_other_fingerprint_is_refused_and_the_record_untouched(claims: Claims) -> None:
    run(claims, operation())
    before = IdempotencyRecord.objects.values().get()
    with pytest.raises(FingerprintMismatch):
        retry(claims, operation(fingerprint="1:b"))
    with pytest.raises(FingerprintMismatch), transaction.atomic():
        claims.claim(operation(fingerprint="1:b"))
    assert IdempotencyRecord.objects.values().get() == before


@pytest.mark.parametrize("key", ["K", "k ", "ｋ", "k\u0301"])
def test_keys_that_collations_confuse_are_different_keys(claims: Claims, key: str) -> None:
    run(claims, operation("k"))
    assert isinstance(retry(claims, operation(key)), Claim)


def test_rolled_back_claim_leaves_nothing_that_binds(claims: Claims) -> None:
    claims.prepare(operation())
    with transaction.atomic():
        win(claims, operation())
        transaction.set_rollback(True)
    run(claims, operation(fingerprint="1:other"))
    assert stored().fingerprint == "1:other"


def test_interrupted_record_is_taken_over_with_the_new_request(claims: Claims) -> None:
    IdempotencyRecordFactory(
        scope="user:1 orders/", key="k", attempt=3, fingerprint="1:old", request_payload=b"old"
    )
    claim = run(claims, operation(request_payload=b"new"))
    record = stored()
    assert claim.attempt == record.attempt == 4
    assert (record.fingerprint, bytes(record.request_payload or b"")) == ("1:a", b"new")


def test_expired_record_counts_as_unused_and_starts_anew(claims: Claims) -> None:
    old = IdempotencyRecordFactory(scope="user:1 orders/", key="k", completed=True, expired=True)
    assert claims.prepare(operation()) is None
    with transaction.atomic():
        win(claims, operation())
        record = stored()
        assert (record.state, record.response_status, record.response_body) == ("in_progress", None, None)
        assert (record.completed_at, record.response_headers) == (None, [])
    assert record.created_at > old.created_at
    assert record.expires_at > timezone.now()


def test_unknown_outcome_is_refused(claims: Claims) -> None:
    IdempotencyRecordFactory(scope="user:1 orders/", key="k", state="unknown")
    with pytest.raises(OutcomeUnknown):
        retry(claims, operation())


def test_record_of_another_key_with_the_same_id_is_refused(claims: Claims) -> None:
    run(claims, operation())
    IdempotencyRecord.objects.update(key="other")
    with pytest.raises(KeyInvalid):
        retry(claims, operation())


@pytest.fixture
def held(claims: Claims) -> Iterator[Claim]:
    """Hold the claim in this thread's open transaction."""
    claims.prepare(operation())
    with transaction.atomic():
        yield win(claims, operation())


def try_claim(fingerprint: str = "1:a") -> Claim | Snapshot:
    return retry(claims_for("default"), operation(fingerprint=fingerprint))


@pytest.mark.parametrize("fingerprint", ["1:a", "1:b"])
@pytest.mark.vendors("postgresql", "mysql")
def test_held_claim_refuses_everybody_else_at_once(held: Claim, parallel: Parallel, fingerprint: str) -> None:
    """409 goes before 422: while it runs, nobody knows yet whether its fingerprint will bind."""
    with pytest.raises(InProgress):
        parallel.call(try_claim, fingerprint)


@pytest.mark.vendors("sqlite")
def test_duplicate_on_sqlite_waits_and_gets_the_answer(claims: Claims, parallel: Parallel) -> None:
    with transaction.atomic():
        claim = win(claims, operation())
        waiting = parallel.start(try_claim)
        claims.complete(claim, ANSWER)
    assert waiting() == ANSWER


def test_claim_is_free_again_after_roll_back(claims: Claims, parallel: Parallel) -> None:
    claims.prepare(operation())
    with transaction.atomic():
        win(claims, operation())
        transaction.set_rollback(True)
    assert isinstance(parallel.call(try_claim), Claim)


@pytest.mark.vendors("postgresql", "mysql")
def test_claim_of_another_key_is_not_in_the_way(held: Claim, parallel: Parallel) -> None:
    parallel.call(run, claims_for("default"), operation("other"))


def test_replays_do_not_wait_for_a_lock(claims: Claims, parallel: Parallel) -> None:
    run(claims, operation())
    with transaction.atomic():
        IdempotencyRecord.objects.select_for_update().get()
        IdempotencyRecord.objects.update(attempt=9)
        assert parallel.call(try_claim) == ANSWER


@pytest.mark.parametrize("change", [{"attempt": 7}, {"state": "completed"}])
def test_complete_needs_the_record_as_it_was_claimed(claims: Claims, change: dict[str, Any]) -> None:
    IdempotencyRecordFactory(scope="user:1 orders/", key="k")
    with pytest.raises(ClaimLost), transaction.atomic():
        claim = win(claims, operation())
        IdempotencyRecord.objects.update(**change)
        claims.complete(claim, ANSWER)


def test_complete_notices_a_record_that_is_gone(claims: Claims) -> None:
    IdempotencyRecordFactory(scope="user:1 orders/", key="k")
    with pytest.raises(ClaimLost), transaction.atomic():
        claim = win(claims, operation())
        IdempotencyRecord.objects.all().delete()
        claims.complete(claim, ANSWER)


def test_claims_work_inside_somebody_elses_transaction(claims: Claims) -> None:
    with transaction.atomic():
        run(claims, operation())
        assert retry(claims, operation()) == ANSWER
    assert retry(claims, operation()) == ANSWER


@pytest.mark.vendors("postgresql", "mysql")
def test_uncommitted_claim_of_an_outer_block_is_in_progress(claims: Claims, parallel: Parallel) -> None:
    """The row itself is not committed yet: a duplicate's INSERT must not sit out the whole outer block."""
    with transaction.atomic():
        run(claims, operation())
        with pytest.raises(InProgress):
            parallel.call(try_claim)
    assert parallel.call(try_claim) == ANSWER


@pytest.mark.vendors("postgresql", "mysql")
def test_record_purged_between_look_and_lock_starts_again(claims: Claims) -> None:
    IdempotencyRecordFactory(scope="user:1 orders/", key="k")
    assert claims.prepare(operation()) is None

    def purge_before_the_lock(execute: Any, sql: str, *args: Any) -> Any:
        if "FOR UPDATE" in sql:
            IdempotencyRecord.objects.all().delete()
        return execute(sql, *args)

    with pytest.raises(ClaimLost), transaction.atomic(), connection.execute_wrapper(purge_before_the_lock):
        claims.claim(operation())
