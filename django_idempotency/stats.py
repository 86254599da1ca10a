"""What an operator watches, at a price that does not grow with the table."""

from __future__ import annotations

from datetime import timedelta

from django.db import connections
from django.utils import timezone

from django_idempotency.models import IdempotencyHour, IdempotencyRecord

#: The purge is behind when what expired first has waited for longer.
LATE = timedelta(days=1)


def last_day(using: str) -> list[IdempotencyHour]:
    """Return the sums of the last 24 hours, the one that has begun among them; hours without any are left out."""
    since = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
    return list(IdempotencyHour.objects.using(using).filter(hour__gte=since).order_by("hour"))


_SIZES = {
    "postgresql": "SELECT pg_total_relation_size(%s::regclass)",
    "mysql": "SELECT data_length + index_length FROM information_schema.tables "
    "WHERE table_schema = DATABASE() AND table_name = %s",
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size() WHERE %s <> ''",
}


def bytes_kept(using: str) -> int:
    """Ask the database for the table's size as it knows it, without reading the table."""
    connection = connections[using]
    if connection.vendor not in _SIZES:
        return 0
    table = IdempotencyRecord._meta.db_table
    named = connection.ops.quote_name(table) if connection.vendor == "postgresql" else table
    with connection.cursor() as cursor:
        cursor.execute(_SIZES[connection.vendor], [named])
        row = cursor.fetchone()
    return int(row[0] or 0) if row else 0
