"""Driver errors, told apart by their codes."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, InterfaceError, InternalError, OperationalError

from django_idempotency.claims.errors import is_connection_lost, is_lock_refused, is_repeatable

pytestmark = pytest.mark.once


def error(
    kind: type[Exception], *args: Any, sqlstate: str | None = None, driver: str = "psycopg"
) -> Exception:
    """Return Django's error with the driver's as its cause."""
    made = kind(*args)
    made.__cause__ = type("E", (Exception,), {"sqlstate": sqlstate, "__module__": f"{driver}.errors"})()
    return made


CASES = [
    (error(OperationalError, "x", sqlstate="55P03"), "refused"),
    (error(OperationalError, 1205, "x", sqlstate="HY000", driver="pymysql"), "refused"),
    (error(OperationalError, 3572, "x", driver="MySQLdb"), "refused"),
    (error(DatabaseError, "ORA-00054: resource busy", driver="oracledb"), "refused"),
    (error(OperationalError, "x", sqlstate="40001"), "repeatable"),
    (error(OperationalError, "x", sqlstate="40P01"), "repeatable"),
    (error(OperationalError, 1213, "x", sqlstate="40001", driver="pymysql"), "repeatable"),
    (error(OperationalError, 1020, "x", sqlstate="HY000", driver="pymysql"), "repeatable"),
    (error(OperationalError, "x", sqlstate="57P01"), "lost"),
    (error(OperationalError, "x", sqlstate="08006"), "lost"),
    (error(InternalError, "x", sqlstate="25P03"), "lost"),
    (error(InternalError, "x", sqlstate="25P04"), "lost"),
    (error(OperationalError, "the connection is closed"), "lost"),
    (error(OperationalError, 2013, "x", driver="pymysql"), "lost"),
    (error(OperationalError, 1927, "x", sqlstate="HY000", driver="pymysql"), "lost"),
    (error(OperationalError, 1047, "x", sqlstate="08S01", driver="pymysql"), "lost"),
    (error(OperationalError, 1180, "x", sqlstate="HY000", driver="pymysql"), "lost"),
    (error(InterfaceError, 0, "", driver="pymysql"), "lost"),
    (error(InterfaceError, "connection already closed"), "lost"),
    (error(InterfaceError, "the cursor is closed"), "other"),
    (error(InterfaceError, "cursor already closed", driver="psycopg2"), "other"),
    (error(OperationalError, "database is locked", driver="sqlite3"), "other"),
    (error(OperationalError, "x", sqlstate="53300"), "other"),
    (error(IntegrityError, 1062, "x", driver="pymysql"), "other"),
    (error(DatabaseError, "x", sqlstate="25P02"), "other"),
    (ValueError(1213), "other"),
]


@pytest.mark.parametrize(("failure", "meaning"), CASES)
def test_meaning(failure: Exception, meaning: str) -> None:
    tests = {"refused": is_lock_refused, "repeatable": is_repeatable, "lost": is_connection_lost}
    assert [name for name, test in tests.items() if test(failure)] == [meaning] * (meaning != "other")
