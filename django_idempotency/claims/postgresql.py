"""The claim in the fewest round trips: PostgreSQL's advisory lock stands for the record that does not exist yet.

Whoever inserts a record of this key holds its advisory lock until the end of the transaction, here and in
``row_lock`` alike, so both may serve one database. A record that exists is claimed by its row lock, as there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from django_idempotency.claims.advisory import lock_statement, try_lock
from django_idempotency.claims.base import ClaimLost, answer_fields, binding_answer, new_record
from django_idempotency.claims.inserts import insert_if_absent
from django_idempotency.claims.row_lock import RowLockClaims
from django_idempotency.core.operations import Claim, Operation, Snapshot
from django_idempotency.exceptions import InProgress
from django_idempotency.models import IdempotencyRecord


@dataclass(frozen=True)
class _Unwritten(Claim):
    """A claim without a row: the record is inserted when it is finished, and never before."""

    record: IdempotencyRecord = field(repr=False, compare=False)


class PostgreSQLClaims(RowLockClaims):
    """Claims by ``pg_try_advisory_xact_lock`` where there is no row yet, and by ``RowLockClaims`` where there is."""

    def prepare(self, operation: Operation) -> Snapshot | None:
        """Leave the look-up to ``claim()``, which makes it in the round trip that it needs anyway."""
        return None

    def claim(self, operation: Operation) -> Claim | Snapshot:
        locked, record = self._lock_and_read(operation)
        if record is not None:
            return binding_answer(record, operation) or super().claim(operation)
        if not locked:
            raise InProgress
        unwritten = new_record(operation, timezone.now(), attempt=1)
        return _Unwritten(operation.key, operation.id, unwritten.attempt, unwritten)

    def complete(self, claim: Claim, snapshot: Snapshot) -> None:
        """Insert the finished record, or finish the one that was locked."""
        if isinstance(claim, _Unwritten):
            self._insert(claim.record, snapshot)
        else:
            super().complete(claim, snapshot)

    def _insert(self, record: IdempotencyRecord, snapshot: Snapshot) -> None:
        for name, value in answer_fields(snapshot).items():
            setattr(record, name, value)
        if not insert_if_absent(record, self.using):
            raise ClaimLost

    def _lock_and_read(self, operation: Operation) -> tuple[bool, IdempotencyRecord | None]:
        """Try the lock, then read: in this order, for a lock that we got was released after its holder's COMMIT.

        At READ COMMITTED the second statement's snapshot is younger than the lock and sees that COMMIT. Where the
        snapshot is older (REPEATABLE READ), the final INSERT meets the record and fails with 40001.
        """
        if not self._sends_several_statements():
            return try_lock(operation, self.using), self._read(operation)
        first = _LockFirst(operation)
        with self.connection.execute_wrapper(first):
            record = self._read(operation)
        return first.locked, record

    def _sends_several_statements(self) -> bool:
        """Tell whether the driver takes two statements in one go and gives both results.

        psycopg2 has no such attribute, and gives the last result only; 0 prepares everything, which is for one each.
        """
        return getattr(self.connection.connection, "prepare_threshold", 0) != 0


class _LockFirst:
    """Sends the lock's statement and the ORM's SELECT in one go, and leaves the cursor at the SELECT's result.

    Without parameters psycopg takes the simple protocol in every binding mode, and only that takes two statements.
    """

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.locked = False

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        (record_id,) = params
        read = sql % f"'{record_id}'::uuid"
        result = execute(f"{lock_statement(self.operation)}; {read}", None, many, context)
        cursor = context["cursor"]
        self.locked = bool(cursor.fetchone()[0])
        cursor.nextset()
        return result
