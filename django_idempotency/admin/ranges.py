"""What may be asked of millions of records: ranges of an index, counted and looked through to a limit."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.functional import cached_property

from django_idempotency.admin.texts import number
from django_idempotency.claims.liveness import interrupted
from django_idempotency.models import IdempotencyRecord, IdempotencyRecordQuerySet
from django_idempotency.stats import count_to

COUNT_LIMIT = 10_000
PROBE_LIMIT = 1000


class CappedCount(int):
    """COUNT_LIMIT + 1 that is written "10,000+": there are that many, or millions."""

    def __str__(self) -> str:
        # Django groups the digits of this text itself, and knows no plus sign.
        return super().__str__() if settings.USE_THOUSAND_SEPARATOR else number(self, COUNT_LIMIT)


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Pages through the first COUNT_LIMIT + 1 records; a filter or a search leads to the others."""

    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:  # of records, or of the log entries on a record's history page
        if self.object_list.model is not IdempotencyRecord:
            return int(self.object_list.count())
        found = capped_count(self.object_list)
        return CappedCount(found) if found > COUNT_LIMIT else found


def capped_count(records: QuerySet[IdempotencyRecord], limit: int | None = None) -> int:
    """Count at most one more than ``limit`` rows, COUNT_LIMIT unless told: COUNT(*) over millions outlasts the page."""
    return count_to(records, COUNT_LIMIT if limit is None else limit)


def in_expiry(records: IdempotencyRecordQuerySet, value: str | None) -> IdempotencyRecordQuerySet:
    """Return the records that are live, expire within the hour ("soon"), or have expired; all for None."""
    now = timezone.now()
    ranges: dict[str | None, dict[str, datetime]] = {
        "live": {"expires_at__gt": now},
        "soon": {"expires_at__gt": now, "expires_at__lte": now + timedelta(hours=1)},
        "expired": {"expires_at__lte": now},
    }
    return records.filter(**ranges.get(value, {}))


def edge_of(records: IdempotencyRecordQuerySet) -> datetime | None:
    """Return the expiry beyond which a filter without an index must not look, or None where all may be looked at."""
    expiries: Any = records.order_by("-expires_at").values_list("expires_at", flat=True)
    return next(iter(expiries[COUNT_LIMIT : COUNT_LIMIT + 1]), None)


def within(records: IdempotencyRecordQuerySet, edge: datetime | None) -> IdempotencyRecordQuerySet:
    """Return those of the records that expire last, COUNT_LIMIT of them."""
    return records if edge is None else records.filter(expires_at__gt=edge)


def unfinished(records: IdempotencyRecordQuerySet) -> IdempotencyRecordQuerySet:
    """Return what is unfinished, by its own index, and of that what expires last."""
    found = records.unfinished()
    return within(found, edge_of(found))


def by_owner(records: IdempotencyRecordQuerySet) -> tuple[list[UUID], list[UUID] | None]:
    """Return the ids of up to PROBE_LIMIT + 1 records in progress: held by an owner, and interrupted.

    The second is None, and the first holds both, where the database cannot tell.
    """
    running = unfinished(records).in_progress().order_by("-expires_at")
    ids = list(running.values_list("id", flat=True)[: PROBE_LIMIT + 1])
    free = interrupted(records.db, ids)
    if free is None:
        return ids, None
    return [each for each in ids if each not in free], [each for each in ids if each in free]
