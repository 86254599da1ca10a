"""INSERT … ON CONFLICT DO NOTHING that tells who won, which ``bulk_create(ignore_conflicts=True)`` does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.db import connections, models


def insert_if_absent(record: models.Model, using: str) -> bool:
    """Insert ``record`` unless its primary key exists; tell whether it was inserted."""
    connection = connections[using]
    fields = record._meta.local_concrete_fields
    values = [field.get_db_prep_save(getattr(record, field.attname), connection) for field in fields]
    with connection.cursor() as cursor:
        cursor.execute(_statement(type(record), using), values)
        return cursor.rowcount == 1


@lru_cache(maxsize=16)
def _statement(model: type[models.Model], using: str) -> str:
    quote: Callable[[Any], str] = connections[using].ops.quote_name
    fields = model._meta.local_concrete_fields
    columns = ", ".join(quote(field.column) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    return f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING"
