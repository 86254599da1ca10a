"""The look-up of a record by its id, compiled once per connection: every keyed request makes it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections

from django_idempotency.models import IdempotencyRecord, Recorded

_KEPT = "_idempotency_read"


class FoundRecord(Recorded):
    """A record as the look-up reads it: no model, which takes longer to make than all the rest."""

    def __init__(self, *values: Any) -> None:
        self.__dict__.update(zip(_FIELDS, values, strict=True))


_FIELDS = tuple(Recorded.__annotations__)


class Read:
    """One SELECT of what binds a retry, and how its row becomes a record."""

    def __init__(self, using: str) -> None:
        records = IdempotencyRecord.objects.using(using).filter(id=UUID(int=0)).values_list(*_FIELDS)
        self._compiler: Any = records.query.get_compiler(using)
        #: With one ``%s``, for the id.
        self.sql: str = self._compiler.as_sql()[0]
        self._converters = self._compiler.get_converters([column for column, _, _ in self._compiler.select])

    def record(self, row: Any) -> FoundRecord | None:
        """Return the record of a row as a cursor gives it, or None for none."""
        if row is None:
            return None
        (values,) = self._compiler.apply_converters([row], self._converters)
        return FoundRecord(*values)


def read_on(using: str) -> Read:
    """Return the look-up of this thread's connection, which keeps it; MariaDB's converters depend on USE_TZ."""
    kept: dict[bool, Read] = connections[using].__dict__.setdefault(_KEPT, {})
    read = kept.get(settings.USE_TZ)
    if read is None:
        read = kept[settings.USE_TZ] = Read(using)
    return read


def find_record(record_id: UUID, using: str) -> FoundRecord | None:
    """Return the record with this id, or None, in one statement."""
    read, connection = read_on(using), connections[using]
    field = IdempotencyRecord._meta.pk
    with connection.cursor() as cursor:
        cursor.execute(read.sql, [field.get_db_prep_value(record_id, connection)])
        return read.record(cursor.fetchone())
