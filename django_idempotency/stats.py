"""What an operator watches, at a price that does not grow with the table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import QuerySet
from django.utils import timezone

from django_idempotency.claims.advisory import running
from django_idempotency.models import IdempotencyHour, IdempotencyRecord

#: The purge is behind when what expired first has waited for longer.
LATE = timedelta(days=1)
#: Counts end here: further on, a count would read as much of the table as there is.
COUNT_LIMIT = 100_000


@dataclass(frozen=True)
class Stats:
    """How it stands with the records of one alias; ``live`` and ``expired`` end at COUNT_LIMIT + 1.

    ``running`` is None where operations in progress cannot be seen, ``oldest_expired`` where nothing has expired.
    """

    live: int
    expired: int
    unfinished: int
    running: int | None
    replays: int
    conflicts: int
    bytes_kept: int
    oldest_expired: timedelta | None


def read_stats(using: str) -> Stats:
    """Return the figures of an alias, by a few short statements."""
    records, now, day = IdempotencyRecord.objects.using(using), timezone.now(), last_day(using)
    return Stats(
        live=count_to(records.live(now), COUNT_LIMIT),
        expired=count_to(records.expired(now), COUNT_LIMIT),
        unfinished=count_to(records.unfinished(), COUNT_LIMIT),
        running=running_now(using),
        replays=sum(hour.replays for hour in day),
        conflicts=sum(hour.conflicts for hour in day),
        bytes_kept=bytes_kept(using),
        oldest_expired=oldest_expired(using, now),
    )


def oldest_expired(using: str, now: datetime) -> timedelta | None:
    """Return for how long what expired first has waited for the purge, or None if nothing waits."""
    records = IdempotencyRecord.objects.using(using).expired(now)
    oldest = records.order_by("expires_at").values_list("expires_at", flat=True).first()
    return None if oldest is None else now - oldest


def running_now(using: str) -> int | None:
    """Return how many operations run now, those without a row too, or None where no lock tells (PostgreSQL's do)."""
    return len(running(using)) if connections[using].vendor == "postgresql" else None


def count_to(records: QuerySet[Any], limit: int) -> int:
    """Count at most one more than ``limit`` records, off the expiry index."""
    return records.order_by("expires_at").values("expires_at")[: limit + 1].count()


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
