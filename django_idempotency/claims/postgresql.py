"""The claim in the fewest round trips: PostgreSQL's advisory lock stands for the record that does not exist yet.

Whoever inserts a record or runs its operation holds the key's advisory lock until the end of the transaction, here
and in ``row_lock`` alike, so both may serve one database. A record that exists is claimed by its row lock as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from django.utils import timezone

from django_idempotency.claims.advisory import lock_and_read
from django_idempotency.claims.base import ClaimLost, answer_fields, binding_answer, new_record
from django_idempotency.claims.inserts import insert_if_absent
from django_idempotency.claims.row_lock import RowLockClaims
from django_idempotency.core.operations import Claim, Operation, Snapshot
from django_idempotency.exceptions import InProgress
from django_idempotency.models import IdempotencyRecord

_IDLE = 0  # PQTRANS_IDLE
_IN_ERROR = 3  # libpq's PQTRANS_INERROR: somebody swallowed an error, and PostgreSQL takes no more statements


@dataclass(frozen=True)
class _Unwritten(Claim):
    """A claim without a row: the record is inserted when it is finished, and never before."""

    record: IdempotencyRecord = field(repr=False, compare=False)


class PostgreSQLClaims(RowLockClaims):
    """Claims by ``pg_try_advisory_xact_lock`` alone where there is no row yet; a row is locked as well.

    At REPEATABLE READ the snapshot may be older than the lock: the INSERT then meets the record and fails with 40001.
    """

    def joins(self) -> bool:
        """Take a healthy transaction: each statement has a snapshot of its own, or the INSERT fails with 40001."""
        return self._status() != _IN_ERROR and not self.connection.needs_rollback

    def has_begun(self) -> bool:
        """Ask the driver, which sends BEGIN with the first statement."""
        return self._status() != _IDLE

    def _status(self) -> int:
        info = getattr(self.connection.connection, "info", None)
        return int(getattr(info, "transaction_status", _IN_ERROR))

    def prepare(self, operation: Operation) -> Snapshot | None:
        """Leave the look-up to ``claim()``, which makes it in the round trip that it needs anyway."""
        return None

    def claim(self, operation: Operation) -> Claim | Snapshot:
        locked, record = lock_and_read(operation, self.using)
        if (answer := binding_answer(record, operation)) is not None:
            return answer
        if not locked:
            raise InProgress
        if record is not None:
            return super().claim(operation)
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
