"""The database's one write lock is the claim: SQLite has no row locks, and ignores NOWAIT without a word.

A duplicate waits for the writer as every SQLite writer does (``timeout`` of the database's OPTIONS), then finds
the stored answer and replays it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections
from django.utils import timezone

from django_idempotency.claims.base import ClaimLost, Claims, binding_answer, new_record
from django_idempotency.claims.inserts import insert_if_absent
from django_idempotency.core.operations import Claim, Operation, Snapshot


class SQLiteClaims(Claims):
    """Claims by the write lock that the claim's INSERT takes, with ``transaction_mode`` IMMEDIATE or without."""

    def prepare(self, operation: Operation) -> Snapshot | None:
        """Read in autocommit, so that replays do not queue for the write lock."""
        return binding_answer(self._read(operation), operation)

    def claim(self, operation: Operation) -> Claim | Snapshot:
        if insert_if_absent(new_record(operation, timezone.now(), attempt=1), self.using):
            return Claim(operation.key, operation.id, 1)
        record = self._read(operation)
        if (
            record is None
        ):  # cannot vanish under the write lock, unless a trigger or a RULE of the project eats inserts
            raise ClaimLost
        return binding_answer(record, operation) or self._take_over(record, operation)


@contextmanager
def without_waiting(using: str) -> Iterator[None]:
    """Let SQLite refuse at once when its write lock is taken, instead of waiting; other databases are as they are."""
    connection = connections[using]
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        before = int(cursor.execute("PRAGMA busy_timeout").fetchone()[0])
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {before}")
