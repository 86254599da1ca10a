"""The row lock is the claim: every database that has ``SELECT … FOR UPDATE NOWAIT``.

A short transaction of its own puts the row there; the main transaction locks it, bumps ``attempt`` and runs the
view. If the owner dies, the database drops the lock with the connection, and the very next retry gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from django_idempotency.claims.base import ClaimLost, Claims, binding_answer, new_record, one_or_none
from django_idempotency.claims.errors import is_lock_refused
from django_idempotency.core.operations import Claim, Operation, Snapshot
from django_idempotency.exceptions import InProgress
from django_idempotency.models import IdempotencyRecord

# How long our INSERT may wait behind an uncommitted one of the same key: long enough for the short transaction of
# a peer, far too short to sit out somebody's outer block. PostgreSQL only; MariaDB does not wait at all.
_INSERT_LOCK_TIMEOUT = "250ms"


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
        records = self._records().filter(id=operation.id).defer("request_payload")
        try:
            return one_or_none(records.select_for_update(nowait=True))
        except DatabaseError as error:
            raise _refusal(error) from error

    def _create(self, operation: Operation) -> None:
        """Put the row there, or find that somebody was faster.

        Never INSERT IGNORE: it swallows data errors, and on an existing row it takes a shared lock that hangs behind
        a running owner and makes the owner's own NOWAIT fail.
        """
        record = new_record(operation, timezone.now(), attempt=0)
        try:
            with self._bounded_wait():
                record.save(using=self.using, force_insert=True)
        except IntegrityError:
            return
        except DatabaseError as error:
            raise _refusal(error) from error

    def _bounded_wait(self) -> AbstractContextManager[None]:
        """Bound the INSERT's wait for the uncommitted row of a peer who inserts the same key in an outer block."""
        if self.connection.vendor == "postgresql":
            return self._lock_timeout()
        if getattr(self.connection, "mysql_is_mariadb", False):
            return self._set_statement()
        return self._savepoint_if_nested()

    @contextmanager
    def _lock_timeout(self) -> Iterator[None]:
        nested = self.connection.in_atomic_block
        with transaction.atomic(using=self.using), self.connection.cursor() as cursor:
            if nested:
                cursor.execute("SELECT current_setting('lock_timeout')")
                before = cursor.fetchone()
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [_INSERT_LOCK_TIMEOUT])
            yield
            if nested:  # the setting would outlive the release of our savepoint
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", before)

    @contextmanager
    def _set_statement(self) -> Iterator[None]:
        with self._savepoint_if_nested(), self.connection.execute_wrapper(_without_waiting):
            yield

    def _savepoint_if_nested(self) -> AbstractContextManager[None]:
        return transaction.atomic(using=self.using) if self.connection.in_atomic_block else nullcontext()


def _refusal(error: DatabaseError) -> Exception:
    return InProgress() if is_lock_refused(error) else error


def _without_waiting(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    return execute(f"SET STATEMENT innodb_lock_wait_timeout=0 FOR {sql}", params, many, context)
