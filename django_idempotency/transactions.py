"""Keeps the operation's transaction in one piece while a project's code runs in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.db.transaction import TransactionManagementError

# Libraries that tag statements put a comment before them.
_BEFORE = r"(?:\s|;|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*"
_ENDS = re.compile(
    rf"{_BEFORE}(COMMIT|END|ABORT|BEGIN|START\s+TRANSACTION|PREPARE\s+TRANSACTION"
    r"|ROLLBACK(?!\s+((WORK|TRANSACTION)\s+)?TO\b))\b",
    re.IGNORECASE,
)
# What is no statement's beginning: strings, names, comments, and the bodies of PostgreSQL's functions.
_QUOTED = re.compile(
    r"""'(?:[^'\\]|\\.|'')*'|"[^"]*"|`[^`]*`|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/""", re.DOTALL
)
# https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
_COMMITS_TACITLY = re.compile(
    rf"{_BEFORE}(ALTER|RENAME|TRUNCATE|GRANT|REVOKE|FLUSH|RESET|LOCK\s+TABLES?"
    r"|EXECUTE\s+IMMEDIATE(?=\s+['\"]\s*(COMMIT|ROLLBACK|BEGIN|START)\b)"
    r"|(ANALYZE|CHECK|OPTIMIZE|REPAIR)\s+(\w+\s+)?TABLES?|SET\s+(SESSION\s+|@@(SESSION\.)?)?AUTOCOMMIT|SET\s+PASSWORD"
    r"|(CREATE|DROP)(?!\s+(OR\s+REPLACE\s+)?TEMPORARY\b))\b",
    re.IGNORECASE,
)
_REFUSED = (
    "{} would end the transaction that keeps the record and the effects together, so it was not sent: leave the end of"
    " the transaction to django_idempotency, use atomic() for a part of it, and change tables elsewhere."
)


class KeptInOnePiece:
    """Refuse SQL that ends the transaction: the view's writes would be committed without the record, or lost under it.

    Django refuses ``commit()``, ``rollback()`` and ``set_autocommit()`` inside ``atomic()`` by itself, and sees no SQL.
    MariaDB, MySQL and Oracle also commit before a statement that changes a table. Raises TransactionManagementError
    from the call that sends such a statement; what a stored procedure does is not seen.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._refused = [_ENDS] if connection.features.can_rollback_ddl else [_ENDS, _COMMITS_TACITLY]

    def __enter__(self) -> None:
        self._connection.execute_wrappers.append(self._execute)

    def __exit__(self, *error: object) -> None:
        # Not the last one: the view may have put up a wrapper of its own that stays.
        self._connection.execute_wrappers.remove(self._execute)

    def _execute(self, execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        if isinstance(sql, str):
            self._look_at(sql)
        return execute(sql, *rest)

    def _look_at(self, sql: str) -> None:
        for statement in _QUOTED.sub(" ", sql).split(";") if ";" in sql else [sql]:
            for pattern in self._refused:
                if match := pattern.match(statement):
                    raise TransactionManagementError(_REFUSED.format(match[1].upper()))
