"""INSERT … ON CONFLICT DO NOTHING that tells who won, which ``bulk_create(ignore_conflicts=True)`` does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connections, models


def insert_if_absent(record: models.Model, using: str) -> bool:
    """Insert ``record`` unless its primary key exists; tell whether it was inserted."""
    connection = connections[using]
    quote: Callable[[Any], str] = connection.ops.quote_name
    fields = record._meta.local_concrete_fields
    columns = ", ".join(quote(field.column) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    sql = f"INSERT INTO {quote(record._meta.db_table)} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING"
    with connection.cursor() as cursor:
        cursor.execute(
            sql, [field.get_db_prep_save(getattr(record, field.attname), connection) for field in fields]
        )
        return cursor.rowcount == 1
