"""PostgreSQL's advisory locks: who inserts a record or runs its operation holds its number to the transaction's end.

Always the transaction's lock, never the session's, which leaks through PgBouncer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from django.db import connections

from django_idempotency.claims.reads import FoundRecord, find_record, read_on
from django_idempotency.core.operations import Operation, operation_digest

# Marks our locks in pg_locks, in the upper half of ``classid``; the sign bit is clear.
_OURS = 0x1DE0

_RUNNING = f"""
    SELECT lock.pid, activity.xact_start, (lock.classid::bigint << 32) | lock.objid::bigint
    FROM pg_locks lock
    JOIN pg_database base ON base.oid = lock.database AND base.datname = current_database()
    LEFT JOIN pg_stat_activity activity USING (pid)
    WHERE lock.locktype = 'advisory' AND lock.objsubid = 1 AND lock.granted AND lock.classid::bigint >> 16 = {_OURS}
    ORDER BY activity.xact_start
"""


class Running(NamedTuple):
    """One operation that runs now: its server process, the start of its transaction, and the number of its lock."""

    pid: int
    since: datetime | None
    number: int


def lock_number(scope: str, key: str) -> int:
    """Return the number of the lock of (scope, key): 16 bits of ours, and 48 of the digest that are not in the id.

    Two operations that share a number refuse each other while one of them runs, and no longer.
    """
    return _number(operation_digest(scope, key))


def _number(digest: bytes) -> int:
    return _OURS << 48 | int.from_bytes(digest[16:22], "big")


def try_lock(operation: Operation, using: str) -> bool:
    """Take the lock of ``operation`` until the end of the transaction; tell whether it was free. Never waits."""
    with connections[using].cursor() as cursor:
        cursor.execute(_lock_statement(operation))
        return bool(cursor.fetchone()[0])


def lock_and_read(operation: Operation, using: str) -> tuple[bool, FoundRecord | None]:
    """Try the lock, then read the record by its id: in this order, and in one round trip if the driver can.

    A lock that we got was released after its holder's COMMIT. At READ COMMITTED the second statement's snapshot is
    younger than the lock and sees that COMMIT; at REPEATABLE READ both statements may see what was before it.
    """
    connection = connections[using]
    if not _sends_several_statements(connection.connection):
        return try_lock(operation, using), find_record(operation.id, using)
    read = read_on(using)
    look_up = read.sql % f"'{operation.id}'::uuid"
    with connection.cursor() as cursor:
        # Without parameters psycopg takes the simple protocol in every binding mode, and only that takes two.
        cursor.execute(f"{_lock_statement(operation)}; {look_up}")
        locked = bool(cursor.fetchone()[0])
        cursor.nextset()
        return locked, read.record(cursor.fetchone())


def _lock_statement(operation: Operation) -> str:
    """Return the statement without parameters: its one number is of our own making."""
    return f"SELECT pg_try_advisory_xact_lock({_number(operation.digest)})"


def _sends_several_statements(driver: Any) -> bool:
    """Tell whether the driver's connection takes two statements in one go and gives both results.

    psycopg2 has no such attribute, and gives the last result only; 0 prepares everything, which is for one each.
    """
    return getattr(driver, "prepare_threshold", 0) != 0


def running(using: str) -> list[Running]:
    """Return the operations that run now in this database, the oldest transaction first.

    A first request may have no row before it is finished, so rows in progress do not tell. Whoever may ask for a key
    finds it by ``lock_number(scope, key)``. A replay is in the list for its moment. PostgreSQL only.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(_RUNNING)
        return [Running(*row) for row in cursor.fetchall()]
