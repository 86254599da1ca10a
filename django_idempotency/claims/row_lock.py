"""The row lock is the claim: every database that has ``SELECT … FOR UPDATE NOWAIT``.

A short transaction of its own puts the row there; the main transaction locks it, bumps ``attempt`` and runs the
view. If the owner dies, the database drops the lock with the connection, and the very next retry gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from django_idempotency.claims.advisory import try_lock
from django_idempotency.claims.base import ClaimLost, Claims, binding_answer, new_record, one_or_none
from django_idempotency.claims.errors import is_lock_refused
from django_idempotency.core.operations import Claim, Operation, Snapshot
from django_idempotency.exceptions import InProgress
from django_idempotency.models import IdempotencyRecord


class RowLockClaims(Claims):
    """Claims by ``select_for_update(nowait=True)``."""

    def prepare(self, operation: Operation) -> Snapshot | None:
        record = self._read(operation)
        if record is None:
            self._create(operation)
        return binding_answer(record, operation)

    def claim(self, operation: Operation) -> Claim | Snapshot:
        record = self._lock(operation)
        if record is None:  # purged between our INSERT and our lock
            raise ClaimLost
        return binding_answer(record, operation) or self._take_over(record, operation)

    def _lock(self, operation: Operation) -> IdempotencyRecord | None:
        # First the lock that says who may run: a row locked by one who then leaves would refuse the one who stays.
        if self.connection.vendor == "postgresql" and not try_lock(operation, self.using):
            raise InProgress
        records = self._records().filter(id=operation.id).defer("request_payload")
        with _refusing():
            return one_or_none(records.select_for_update(nowait=True))

    def _create(self, operation: Operation) -> None:
        """Put the row there, or find that somebody was faster.

        Never INSERT IGNORE: it swallows data errors, and on an existing row it takes a shared lock that hangs behind
        a running owner and makes the owner's own NOWAIT fail.
        """
        record = new_record(operation, timezone.now(), attempt=0)
        with suppress(IntegrityError), _refusing(), self._without_waiting_for_a_peer(operation):
            record.save(using=self.using, force_insert=True)

    def _without_waiting_for_a_peer(self, operation: Operation) -> AbstractContextManager[None]:
        """Refuse an INSERT that would wait for the uncommitted row of a peer who inserts the same key."""
        if self.connection.vendor == "postgresql":
            return self._advisory_lock(operation)
        if getattr(self.connection, "mysql_is_mariadb", False):
            return self._set_statement()
        return self._savepoint_if_nested()

    @contextmanager
    def _advisory_lock(self, operation: Operation) -> Iterator[None]:
        """Hold what every inserter of this key holds, and ``claims.postgresql`` while it runs without a row."""
        with transaction.atomic(using=self.using):
            if not try_lock(operation, self.using):
                raise InProgress
            yield

    @contextmanager
    def _set_statement(self) -> Iterator[None]:
        with self._savepoint_if_nested(), self.connection.execute_wrapper(_without_waiting):
            yield

    def _savepoint_if_nested(self) -> AbstractContextManager[None]:
        return transaction.atomic(using=self.using) if self.connection.in_atomic_block else nullcontext()


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn a refused lock into InProgress, and leave every other error as it is: its cause has the SQLSTATE."""
    try:
        yield
    except DatabaseError as error:
        if is_lock_refused(error):
            raise InProgress from error
        raise


def _without_waiting(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    return execute(f"SET STATEMENT innodb_lock_wait_timeout=0 FOR {sql}", params, many, context)
