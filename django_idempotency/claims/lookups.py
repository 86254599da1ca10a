"""Writes that touch the rows that they name and no other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db import connections

from django_idempotency.models import IdempotencyRecord


def by_primary_key(using: str) -> AbstractContextManager[None]:
    """Let a DELETE of records with these ids find each by the primary key on MariaDB and MySQL.

    Their optimizer answers an IN over many of a table's rows by a scan, whatever index a hint names, and a scanning
    DELETE waits for another's lock on a row that it does not want (seen). A join that begins with the ids does not, and
    takes a tenth of the time of a statement a row.
    """
    connection = connections[using]
    return connection.execute_wrapper(_joined) if connection.vendor == "mysql" else nullcontext()


def _joined(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    connection = context["connection"]
    field = IdempotencyRecord._meta.pk
    table, column = map(connection.ops.quote_name, (IdempotencyRecord._meta.db_table, field.column))
    if sql.startswith(f"DELETE FROM {table} WHERE {table}.{column} IN (%s"):
        first = f"SELECT CAST(%s AS {field.db_type(connection)}) AS id"
        ids = " UNION ALL ".join([first, *["SELECT %s"] * (len(params) - 1)])
        join = f"STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY) ON {table}.{column} = ids.id"
        sql = f"DELETE {table} FROM ({ids}) ids {join}"
    return execute(sql, params, many, context)
