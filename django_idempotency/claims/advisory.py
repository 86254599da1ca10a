"""PostgreSQL's advisory locks: who inserts a record holds its number until the end of the transaction.

Always the transaction's lock, never the session's, which leaks through PgBouncer.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.db import connections

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

    Two operations that share a number refuse each other while both run for the first time, and no longer.
    """
    return _OURS << 48 | int.from_bytes(operation_digest(scope, key)[16:22], "big")


def try_lock(operation: Operation, using: str) -> bool:
    """Take the lock of ``operation`` until the end of the transaction; tell whether it was free. Never waits."""
    with connections[using].cursor() as cursor:
        cursor.execute(lock_statement(operation))
        return bool(cursor.fetchone()[0])


def lock_statement(operation: Operation) -> str:
    """Return the statement that tries the lock, without parameters: its one number is of our own making."""
    return f"SELECT pg_try_advisory_xact_lock({lock_number(operation.scope, operation.key)})"


def running(using: str) -> list[Running]:
    """Return the operations that run now in this database, the oldest transaction first.

    A first request has no row before it is finished, so rows in progress do not tell. Whoever may ask for a key
    finds it by ``lock_number(scope, key)``. A replay is in the list for its moment. PostgreSQL only.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(_RUNNING)
        return [Running(*row) for row in cursor.fetchall()]
