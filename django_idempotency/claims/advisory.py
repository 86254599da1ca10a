"""PostgreSQL's advisory locks: who inserts a record or runs its operation holds its number to the transaction's end.

Always the transaction's lock, never the session's, which leaks through PgBouncer.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connections

from django_idempotency.core.operations import Operation, operation_digest
from django_idempotency.models import IdempotencyRecord

# Marks our locks in pg_locks, in the upper half of ``classid``; the sign bit is clear.
_OURS = 0x1DE0

# In the order of the model's fields, as from_db() takes them.
_COLUMNS = (
    "scope", "key", "fingerprint", "state", "response_status", "response_headers", "response_body", "expires_at",
)  # fmt: skip
_READ = f'SELECT {", ".join(_COLUMNS)} FROM "{IdempotencyRecord._meta.db_table}"'

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
    return _OURS << 48 | int.from_bytes(operation_digest(scope, key)[16:22], "big")


def try_lock(operation: Operation, using: str) -> bool:
    """Take the lock of ``operation`` until the end of the transaction; tell whether it was free. Never waits."""
    with connections[using].cursor() as cursor:
        cursor.execute(_lock_statement(operation))
        return bool(cursor.fetchone()[0])


def lock_and_read(operation: Operation, using: str) -> tuple[bool, IdempotencyRecord | None]:
    """Try the lock, then read the record by its id: in this order, and in one round trip if the driver can.

    A lock that we got was released after its holder's COMMIT. At READ COMMITTED the second statement's snapshot is
    younger than the lock and sees that COMMIT; at REPEATABLE READ both statements may see what was before it.
    The SQL is written out: the ORM would compile this one query anew for each request, at three times its cost.
    """
    lock, read = _lock_statement(operation), f"{_READ} WHERE id = '{operation.id}'::uuid"
    connection = connections[using]
    with connection.cursor() as cursor:
        if _sends_several_statements(connection.connection):
            # Without parameters psycopg takes the simple protocol in every binding mode, and only that takes two.
            cursor.execute(f"{lock}; {read}")
            (locked,) = cursor.fetchone()
            cursor.nextset()
        else:
            cursor.execute(lock)
            (locked,) = cursor.fetchone()
            cursor.execute(read)
        row = cursor.fetchone()
    return bool(locked), None if row is None else _record(row, using)


def _record(row: tuple[Any, ...], using: str) -> IdempotencyRecord:
    headers = _COLUMNS.index("response_headers")
    values = [*row[:headers], json.loads(row[headers]), *row[headers + 1 :]]
    return IdempotencyRecord.from_db(using, _COLUMNS, values)


def _lock_statement(operation: Operation) -> str:
    """Return the statement without parameters: its one number is of our own making."""
    return f"SELECT pg_try_advisory_xact_lock({lock_number(operation.scope, operation.key)})"


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
