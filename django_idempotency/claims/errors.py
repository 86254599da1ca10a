"""What a database error means for a claim: PostgreSQL tells by SQLSTATE, MariaDB and MySQL by number."""

from __future__ import annotations

from django.db import DatabaseError, Error, InterfaceError, OperationalError

_REFUSED = {"55P03", 1205, 3572}
# 1020: a row changed since the snapshot (MariaDB, innodb_snapshot_isolation).
_REPEATABLE = {"40001", "40P01", 1020, 1213}
# PostgreSQL ended a session whose transaction was idle or open for too long: no OperationalError to its drivers.
_ENDED = {"25P03", "25P04"}
_NO_TABLE = {"42P01", "42703", 1146, 1054}
# 1053, 1927: MariaDB shuts down, or killed the connection. 4031: MySQL dropped it as idle. 1047, 1180: a Galera node
# lost the majority of its cluster, before a statement or at COMMIT.
_LOST = {"57P01", "57P02", "57P03", 1047, 1053, 1180, 1927, 2002, 2003, 2006, 2013, 2055, 4031}


def error_code(error: BaseException) -> str | int | None:
    """Return the SQLSTATE (psycopg, psycopg2) or the error number (MariaDB, MySQL) of a Django database error."""
    # The number first: PyMySQL has a SQLSTATE too, and it says HY000 of nearly everything.
    if error.args and isinstance(error.args[0], int):
        return error.args[0]
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def is_lock_refused(error: BaseException) -> bool:
    """Tell whether a NOWAIT lock, or one bounded by a time-out, was refused: somebody else holds it.

    Oracle reports ORA-00054 on the driver's error object.
    """
    if not isinstance(error, DatabaseError):
        return False
    return error_code(error) in _REFUSED or "ORA-00054" in str(error)


def is_repeatable(error: BaseException) -> bool:
    """Tell whether the database undid the transaction so that it may run again: serialization failure or deadlock."""
    return isinstance(error, DatabaseError) and error_code(error) in _REPEATABLE


def remedy(error: BaseException | None) -> str:
    """Return what to do, to put behind an error: nothing, or ``migrate`` where a table or column is missing."""
    if not isinstance(error, DatabaseError):
        return ""
    missing = error_code(error) in _NO_TABLE or str(error).startswith(("no such table", "no such column"))
    return ": run manage.py migrate" if missing else ""


def is_connection_lost(error: BaseException) -> bool:
    """Tell whether the server is out of reach, so that only a later read can tell what became of the transaction.

    Drivers report a loss with a code, or, when it happens on their own side, without any: psycopg raises an
    OperationalError that has no SQLSTATE, PyMySQL an InterfaceError ``(0, '')``.
    """
    if isinstance(error, InterfaceError):
        return "cursor" not in str(error)  # used after its end: a bug, which a retry meets again
    if isinstance(error, DatabaseError) and error_code(error) in _ENDED:
        return True
    if not isinstance(error, OperationalError):
        return False
    code = error_code(error)
    if isinstance(code, str):
        return code in _LOST or code.startswith("08")
    return code in _LOST or (code is None and _is_postgresql(error))


def _is_postgresql(error: Error) -> bool:
    return type(error.__cause__).__module__.partition(".")[0] in {"psycopg", "psycopg2"}
