"""A DELETE of records by id that reads and locks those records and no other, in one statement."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db import connections

from django_idempotency.models import IdempotencyRecord


def by_primary_key(using: str) -> AbstractContextManager[None]:
    """Let the DELETE of records whose ids are given find each of them by the primary key.

    MariaDB answers an IN over many of a table's rows by a scan, whatever index a hint names, and a scanning DELETE
    waits for another's lock on a row that it does not want (seen). A join that begins with the ids does not, and takes
    a seventh of the time of a statement a row. PostgreSQL may run a SELECT … LIMIT behind an IN more than once; an
    array of its ids is made once.
    """
    connection = connections[using]
    wrapper = {"mysql": _joined, "postgresql": _from_array}.get(connection.vendor)
    return connection.execute_wrapper(wrapper) if wrapper else nullcontext()


def _joined(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    connection = context["connection"]
    table, column = _names(connection)
    if sql.startswith(f"DELETE FROM {table} WHERE {table}.{column} IN (%s"):
        first = f"SELECT CAST(%s AS {IdempotencyRecord._meta.pk.db_type(connection)}) AS id"
        ids = " UNION ALL ".join([first, *["SELECT %s"] * (len(params) - 1)])
        join = f"STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY) ON {table}.{column} = ids.id"
        sql = f"DELETE {table} FROM ({ids}) ids {join}"
    return execute(sql, params, many, context)


def _from_array(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    table, column = _names(context["connection"])
    begin = f"DELETE FROM {table} WHERE {table}.{column} IN (SELECT "
    if sql.startswith(begin):
        chosen = sql[len(begin) : -1]
        sql = f"DELETE FROM {table} WHERE {table}.{column} = ANY (ARRAY(SELECT {chosen}))"
    return execute(sql, params, many, context)


def _names(connection: Any) -> tuple[str, str]:
    quote = connection.ops.quote_name
    return quote(IdempotencyRecord._meta.db_table), quote(IdempotencyRecord._meta.pk.column)
