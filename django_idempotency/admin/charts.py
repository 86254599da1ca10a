"""Two charts, drawn by the server as SVG: claims of the last day, and expiries around now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.cache import cache
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.ranges import capped_count
from django_idempotency.admin.texts import Text, number
from django_idempotency.conf import conf
from django_idempotency.models import IdempotencyRecordQuerySet

BAR_LIMIT = 100_000
CACHE_SECONDS = 60
HOUR = timedelta(hours=1)
WIDTH, HEIGHT, PITCH = 600, 96, 25
_TICKS_EVERY = 6


@dataclass(frozen=True)
class Bar:
    """One hour: where its bar stands in the picture, and what it says in the table."""

    x: int
    y: int
    width: int
    height: int
    hour: str
    count: str
    kind: str


@dataclass(frozen=True)
class Series:
    """What is counted by the hour: a word for the style sheet, a label, and the counts."""

    kind: str
    label: Text
    counts: list[int]


@dataclass(frozen=True)
class Chart:
    """A picture of counts per hour, and the same numbers as rows of a table."""

    name: str
    title: Text
    note: Text
    series: list[tuple[str, Text]]
    bars: list[Bar]
    rows: list[tuple[str, list[str]]]
    ticks: list[tuple[int, str]]
    now: int | None
    most: str
    empty: bool

    width, height = WIDTH, HEIGHT


def charts(records: IdempotencyRecordQuerySet, replays: dict[datetime, int] | None = None) -> list[Chart]:
    """Return the charts, and ``replays`` by hour beside the claims; counts of records are a minute old at most."""
    hour = timezone.localtime().replace(minute=0, second=0, microsecond=0)
    retention = conf.RETENTION if isinstance(conf.RETENTION, timedelta) else timedelta(seconds=conf.RETENTION)
    claimed, expiring = _hours(hour, -23, 1), _hours(hour, -8, 16)
    # A claim sets the expiry to its own time plus the retention: so the expiry index tells when records were claimed.
    claims = Series(
        "due", _("claimed"), _counts(records, "claimed", [start + retention for start in claimed])
    )
    expiries = Series("due", _("records"), _counts(records, "expiring", expiring))
    if replays is None:
        title, shown = _("Claimed per hour"), [claims]
    else:
        title = _("Claimed and replayed per hour")
        shown = [claims, Series("replayed", _("replayed"), _by_hour(replays, claimed))]
    return [
        _chart(
            "claimed",
            title,
            _("Last 24 hours; a claim’s hour is worked out from its expiry and RETENTION."),
            claimed,
            shown,
            None,
        ),
        _chart(
            "expiring",
            _("Expiring per hour"),
            _("8 hours back and 16 ahead; what stands before now awaits the purge."),
            expiring,
            [expiries],
            hour,
        ),
    ]


def _by_hour(replays: dict[datetime, int], hours: list[datetime]) -> list[int]:
    """Return the replays of each hour of the clock on the wall, which may begin at half past of another zone."""
    return [
        sum(count for moment, count in replays.items() if start <= moment < start + HOUR) for start in hours
    ]


def _hours(hour: datetime, first: int, end: int) -> list[datetime]:
    return [hour + number * HOUR for number in range(first, end)]


def _counts(records: IdempotencyRecordQuerySet, name: str, hours: list[datetime]) -> list[int]:
    """Count each hour's range of the expiry index up to BAR_LIMIT."""
    key = f"django_idempotency.admin.{records.db}.{name}.{hours[0].timestamp():.0f}"
    return _remembered(
        key, lambda: [capped_count(records.expiring(start, start + HOUR), BAR_LIMIT) for start in hours]
    )


def _remembered(key: str, count: Callable[[], list[int]]) -> list[int]:
    """Return what was counted less than a minute ago, kept as text; a cache that fails is done without."""
    with suppress(Exception):  # each backend has its own
        kept = cache.get(key)
        if isinstance(kept, str):
            return list(json.loads(kept))
    counted = count()
    with suppress(Exception):
        cache.set(key, json.dumps(counted), CACHE_SECONDS)
    return counted


def _chart(
    name: str,
    title: Text,
    note: Text,
    hours: list[datetime],
    shown: list[Series],
    now: datetime | None,
) -> Chart:
    most = max([1, *(count for series in shown for count in series.counts)])
    width = (PITCH - 6) // len(shown)
    marks = [
        bar for at, series in enumerate(shown) for bar in _marks(hours, series, most, now, at * width, width)
    ]
    labels = [date_format(hour, "j M H:i") for hour in hours]
    counts = zip(*(series.counts for series in shown), strict=True)
    rows = [
        (label, [number(count, BAR_LIMIT) for count in each])
        for label, each in zip(labels, counts, strict=True)
    ]
    ticks = [(at * PITCH + PITCH // 2, date_format(hour, "H:i")) for at, hour in enumerate(hours)]
    line = None if now is None else hours.index(now) * PITCH
    empty = not any(any(series.counts) for series in shown)
    legend = [(series.kind, series.label) for series in shown]
    return Chart(
        name, title, note, legend, marks, rows, ticks[::_TICKS_EVERY], line, number(most, BAR_LIMIT), empty
    )


def _marks(
    hours: list[datetime], series: Series, most: int, now: datetime | None, left: int, width: int
) -> Iterator[Bar]:
    for at, (hour, count) in enumerate(zip(hours, series.counts, strict=True)):
        # One record among thousands still is to be seen.
        height = max(2, round(count / most * (HEIGHT - 8))) if count else 0
        kind = "overdue" if now is not None and hour < now else series.kind
        label = date_format(hour, "j M H:i")
        x = at * PITCH + 3 + left
        yield Bar(x, HEIGHT - height, width, height, label, number(count, BAR_LIMIT), kind)
