"""The panel above the list: what there is, what is about to expire, and whether the purge keeps up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.db import connections
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.charts import Chart, charts
from django_idempotency.admin.ranges import (
    COUNT_LIMIT,
    PROBE_LIMIT,
    by_owner,
    capped_count,
    in_expiry,
    unfinished,
)
from django_idempotency.admin.texts import Text, number
from django_idempotency.conf import conf
from django_idempotency.models import IdempotencyHour, IdempotencyRecord, IdempotencyRecordQuerySet
from django_idempotency.stats import LATE, bytes_kept, last_day, running_now


@dataclass(frozen=True)
class Tile:
    """A figure that leads to its records."""

    label: Text
    value: str
    note: Text
    query: str
    tone: str = "calm"


@dataclass(frozen=True)
class Panel:
    """Everything above the list; ``late`` tells for how long the oldest expired record has waited, if too long."""

    tiles: list[Tile]
    charts: list[Chart]
    late: str | None
    empty: bool


def panel(records: IdempotencyRecordQuerySet, order_column: int | None) -> Panel:
    """Return the panel; each query counts to a limit, or reads one end of an index."""
    oldest = records.order_by("expires_at").values_list("expires_at", flat=True).first()
    now = timezone.now()
    waiting = now - oldest if oldest is not None and oldest <= now else None
    day = last_day(records.db)
    tiles = [
        *_expiry_tiles(records),
        *_owner_tiles(records),
        _oldest_tile(oldest if waiting else None, now, order_column),
        *([_replays_tile(day)] if conf.COUNT_REPLAYS else []),
        _size_tile(records.db),
    ]
    late = timesince(oldest, now, depth=1) if oldest and waiting and waiting > LATE else None
    replays = {row.hour: row.replays for row in day} if conf.COUNT_REPLAYS else None
    return Panel(tiles, charts(records, replays) if oldest else [], late, empty=oldest is None)


def _expiry_tiles(records: IdempotencyRecordQuerySet) -> list[Tile]:
    counts = {value: capped_count(in_expiry(records, value)) for value in ("live", "soon", "expired")}
    shown = {value: number(count, COUNT_LIMIT) for value, count in counts.items()}
    return [
        Tile(_("Live"), shown["live"], _("keys that bind"), _query(expiry="live")),
        Tile(_("Expiring soon"), shown["soon"], _("within 1 hour"), _query(expiry="soon")),
        Tile(_("Expired"), shown["expired"], _("awaiting the purge"), _query(expiry="expired")),
    ]


def _owner_tiles(records: IdempotencyRecordQuerySet) -> list[Tile]:
    """Return what is unfinished; PostgreSQL's locks tell of what runs without a row too."""
    held, free = by_owner(records.live())
    # Whoever runs with a row holds both locks, so the longer list has the other in it.
    running = running_now(records.db) or 0
    unknown = capped_count(unfinished(records.live()).filter(state=IdempotencyRecord.State.UNKNOWN))
    tiles = [
        Tile(
            _("In progress") if free is not None else _("In progress or interrupted"),
            number(max(len(held), running), PROBE_LIMIT),
            _held_note(running - len(held)) if free is not None else gettext("this database does not tell"),
            _query(expiry="live", state="in_progress"),
        )
    ]
    if free is not None:
        tone = "warn" if free else "calm"
        query = _query(expiry="live", state="interrupted")
        tiles.append(
            Tile(_("Interrupted"), number(len(free), PROBE_LIMIT), _("a retry runs at once"), query, tone)
        )
    if unknown:
        query = _query(expiry="live", state="unknown")
        tiles.append(
            Tile(_("Outcome unknown"), number(unknown, COUNT_LIMIT), _("to be settled"), query, "alarm")
        )
    return tiles


def _held_note(without_row: int) -> str:
    if without_row <= 0:
        return gettext("their owner holds the lock")
    return (
        ngettext("%d of them without a record yet", "%d of them without a record yet", without_row)
        % without_row
    )


def _oldest_tile(oldest: datetime | None, now: datetime, order_column: int | None) -> Tile:
    order = {} if order_column is None else {"o": str(order_column)}
    query = _query(expiry="expired", **order)
    if oldest is None:
        return Tile(_("Oldest expired"), "–", _("nothing awaits the purge"), query)
    if now - oldest < timedelta(minutes=1):
        return Tile(_("Oldest expired"), gettext("just now"), "", query)
    tone = "alarm" if now - oldest > LATE else "calm"
    waited = timesince(oldest, now, depth=1).replace("\xa0", " ")
    return Tile(_("Oldest expired"), waited, _("ago"), query, tone)


def _replays_tile(day: list[IdempotencyHour]) -> Tile:
    """Return the sums of the last day; by the filter, what was replayed and is still there."""
    conflicts = sum(row.conflicts for row in day)
    text = ngettext("in 24 hours, and %s conflict", "in 24 hours, and %s conflicts", conflicts)
    replays = f"{sum(row.replays for row in day):,}"
    return Tile(_("Replayed"), replays, text % f"{conflicts:,}", _query(replayed="24"))


def _size_tile(using: str) -> Tile:
    note = (
        gettext("the whole database file")
        if connections[using].vendor == "sqlite"
        else gettext("table and indexes")
    )
    return Tile(_("Kept on disk"), filesizeformat(bytes_kept(using)).replace("\xa0", " "), note, "?")


def _query(**parameters: str) -> str:
    return f"?{urlencode(parameters)}"
