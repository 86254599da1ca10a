"""The contract of a claim: winning and finishing the right to execute one operation.

The order of calls, and what each one guarantees:

1. ``prepare(operation)`` outside the execution's transaction: a stored answer, or None. No lock is kept. Where
   ``claim()`` finds the answer in the same round trip, it is None and costs nothing.
2. ``claim(operation)`` as the first statement of the transaction: a Claim, or the stored answer. While a Claim
   is open, every other ``claim()`` of this operation, in any process, raises InProgress or waits (SQLite).
3. ``complete(claim, snapshot)`` as the last statement: the record is finished by the very transaction that holds
   the view's writes, or ClaimLost is raised and the transaction must be rolled back.

A roll-back at any point gives the claim back, and so does the death of the process or of its connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from django_idempotency.claims.reads import FoundRecord, find_record
from django_idempotency.core.decisions import COMPLETED, IN_PROGRESS, Decision, decide
from django_idempotency.core.operations import Claim, Operation, Snapshot
from django_idempotency.encryption import sealed
from django_idempotency.exceptions import FingerprintMismatch, IdempotencyError, KeyInvalid, OutcomeUnknown
from django_idempotency.models import IdempotencyRecord, IdempotencyRecordQuerySet, Recorded


class ClaimLost(Exception):
    """The record is not as this claim left it: roll back and start again.

    MariaDB undoes the whole transaction on a deadlock; when user code swallows that error, only this fence tells.
    """


class Claims(ABC):
    """Claims on the records of one database alias."""

    def __init__(self, using: str) -> None:
        self.using = using

    @property
    def connection(self) -> BaseDatabaseWrapper:
        return connections[self.using]

    def joins(self) -> bool:
        """Tell whether ``claim()`` may come without ``prepare()``, after other statements of the open transaction."""
        return False

    def has_begun(self) -> bool:
        """Tell whether the open transaction has sent anything; where the driver does not tell, it has."""
        return True

    @abstractmethod
    def prepare(self, operation: Operation) -> Snapshot | None:
        """Return the stored answer if it is known here; otherwise see to it that ``claim()`` can be called."""

    @abstractmethod
    def claim(self, operation: Operation) -> Claim | Snapshot:
        """Win the right to execute, or return the answer that somebody stored meanwhile; raise InProgress if held."""

    def complete(self, claim: Claim, snapshot: Snapshot) -> None:
        """Finish the record of ``claim``, and no other: raise ClaimLost unless exactly this claim still stands."""
        finished = (
            self._records()
            .filter(id=claim.record_id, state=IN_PROGRESS, attempt=claim.attempt)
            .update(**answer_fields(snapshot))
        )
        if finished != 1:
            raise ClaimLost

    def _records(self) -> IdempotencyRecordQuerySet:
        return IdempotencyRecord.objects.using(self.using)

    def _read(self, operation: Operation) -> FoundRecord | None:
        return find_record(operation.id, self.using)

    def _take_over(self, record: Recorded, operation: Operation) -> Claim:
        """Rewrite a record that binds nobody, under its lock; the bumped attempt is the fence of ``complete()``."""
        now = timezone.now()
        fields = {**claimed_fields(operation, now), "attempt": record.attempt + 1}
        if record.state != IN_PROGRESS:
            fields["created_at"] = now
        self._records().filter(id=operation.id).update(**fields)
        return Claim(operation.key, operation.id, record.attempt + 1)


def one_or_none(records: models.QuerySet[IdempotencyRecord]) -> IdempotencyRecord | None:
    """Return the record of a query by primary key, in one statement without ORDER BY or LIMIT."""
    return next(iter(records), None)


def claimed_fields(operation: Operation, now: datetime) -> dict[str, Any]:
    """Return the columns that a claim sets: the request as it is claimed, and no answer."""
    return {
        "method": operation.method,
        "path": operation.path,
        "fingerprint": operation.fingerprint,
        "request_payload": sealed(operation.request_payload),
        "state": IN_PROGRESS,
        "response_status": None,
        "response_headers": [],
        "response_body": None,
        "completed_at": None,
        "replays": 0,
        "last_replayed_at": None,
        "expires_at": now + operation.retention,
    }


def answer_fields(snapshot: Snapshot) -> dict[str, Any]:
    """Return the columns that finish a record."""
    return {
        "state": COMPLETED,
        "response_status": snapshot.status,
        "response_headers": [list(header) for header in snapshot.headers],
        "response_body": sealed(snapshot.body),
        "completed_at": timezone.now(),
    }


def new_record(operation: Operation, now: datetime, attempt: int) -> IdempotencyRecord:
    """Return an unsaved record of ``operation``, in progress."""
    identity = {"id": operation.id, "scope": operation.scope, "key": operation.key}
    return IdempotencyRecord(**identity, created_at=now, attempt=attempt, **claimed_fields(operation, now))


def binding_answer(record: Recorded | None, operation: Operation) -> Snapshot | None:
    """Return the answer that binds this operation, or None when whoever holds the lock may execute.

    Raises FingerprintMismatch, OutcomeUnknown, or KeyInvalid (two keys with one id: never seen, and refused).
    """
    if record is None:
        return None
    decision = decide(record.as_stored(), operation, timezone.now())
    if decision is Decision.TAKE_OVER:
        return None
    if decision is Decision.REPLAY:
        return record.as_snapshot()
    refusal = _REFUSALS[decision]
    raise refusal()


_REFUSALS: dict[Decision, Callable[[], IdempotencyError]] = {
    Decision.MISMATCH: FingerprintMismatch,
    Decision.UNKNOWN: OutcomeUnknown,
    Decision.COLLISION: lambda: KeyInvalid("This key cannot be told from another one: send a different key."),
}
