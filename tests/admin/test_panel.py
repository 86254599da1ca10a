"""The panel above the list: tiles that lead to their records, the warning, and charts for every reader."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import Mock
from xml.etree import ElementTree

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.template.defaultfilters import filesizeformat
from django.test import Client
from django.utils import timezone

from django_idempotency import stats
from django_idempotency.admin import charts, panel, ranges
from django_idempotency.claims.registry import claims_for
from django_idempotency.core.operations import Operation
from django_idempotency.models import IdempotencyHour, IdempotencyRecord
from tests.admin.pages import LIST, keys, page, text_of, tiles
from tests.conftest import Parallel
from tests.factories import IdempotencyRecordFactory

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def half_past(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Stop the application's clock at half past eleven, and return the full hour before."""
    hour = timezone.localtime().replace(hour=11, minute=0, second=0, microsecond=0)
    monkeypatch.setattr(timezone, "now", lambda: hour + HOUR / 2)
    return hour


def chart(client: Client, name: str) -> dict[str, str]:
    """Return the rows of a chart's table that have records."""
    figure = page(client).partition(f'id="idem-{name}"')[2].partition("</figure>")[0]
    found = re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td>(?:<td>\d+</td>)?</tr>', figure)
    assert len(found) == 24
    return {hour.partition(" ")[2].partition(" ")[2]: count for hour, count in found if count != "0"}


def test_tiles_show_what_there_is_and_lead_to_it(admin_client: Client) -> None:
    now = timezone.now()
    IdempotencyRecordFactory(key="late", completed=True)
    IdempotencyRecordFactory(key="soon", completed=True, expires_at=now + HOUR / 2)
    IdempotencyRecordFactory(key="old", completed=True, expires_at=now - 3 * HOUR)
    IdempotencyRecordFactory(key="older", completed=True, expires_at=now - 5 * HOUR - HOUR / 2)
    IdempotencyRecordFactory(key="lost", state="unknown")
    found = tiles(admin_client)
    shown = {label: value for label, (value, _) in found.items()}
    expected = {
        "Live": "3",
        "Expiring soon": "1",
        "Expired": "2",
        "Oldest expired": "5 hours",
        "Outcome unknown": "1",
    }
    assert {label: shown[label] for label in expected} == expected
    listed = {
        label: set(keys(admin_client, **dict(re.findall(r"(\w+)=([^&]+)", found[label][1]))))
        for label in expected
    }
    assert listed == {
        "Live": {"late", "soon", "lost"}, "Expiring soon": {"soon"}, "Expired": {"old", "older"},
        "Oldest expired": {"old", "older"}, "Outcome unknown": {"lost"},
    }  # fmt: skip
    assert keys(admin_client, **dict(re.findall(r"(\w+)=([^&]+)", found["Oldest expired"][1])))[0] == "older"


def test_tiles_count_to_a_limit(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "COUNT_LIMIT", 3)
    monkeypatch.setattr(panel, "COUNT_LIMIT", 3)
    IdempotencyRecordFactory.create_batch(5, completed=True)
    assert tiles(admin_client)["Live"][0] == "3+"


def test_table_without_records_says_how_to_begin(admin_client: Client) -> None:
    html = page(admin_client)
    assert "There is no record yet" in html
    assert "<svg role" not in html
    assert tiles(admin_client)["Oldest expired"] == ("–", "?expiry=expired&o=3")


def test_tile_of_unknown_outcomes_is_there_when_there_are_some(admin_client: Client) -> None:
    IdempotencyRecordFactory(completed=True)
    assert "Outcome unknown" not in tiles(admin_client)


@pytest.mark.django_db(transaction=True)
@pytest.mark.vendors("postgresql", "mysql")
def test_owners_are_told_by_their_locks(admin_client: Client, parallel: Parallel) -> None:
    IdempotencyRecordFactory(key="left", expires_at=timezone.now() + HOUR)
    IdempotencyRecordFactory(key="gone", expired=True)
    held = IdempotencyRecordFactory(key="held")

    def look() -> list[Any]:
        found = tiles(admin_client)
        states = ({"state": state, "expiry": "live"} for state in ("in_progress", "interrupted"))
        badges = re.findall(r'idem-badge idem-\w+">(.*?)<', page(admin_client))
        return [
            found["In progress"][0],
            found["Interrupted"][0],
            *(keys(admin_client, **state) for state in states),
            badges,
        ]

    with transaction.atomic():
        IdempotencyRecord.objects.select_for_update().get(pk=held.pk)
        seen = parallel.call(look)
    assert seen == ["1", "1", ["held"], ["left"], ["in progress", "interrupted", "interrupted"]]
    assert look()[:2] == ["0", "2"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.vendors("postgresql")
def test_operations_without_a_record_are_counted_by_their_locks(
    admin_client: Client, parallel: Parallel
) -> None:
    """Two run: one has no row yet, the other runs again on the row that an earlier run has left."""
    IdempotencyRecordFactory(key="again", scope="s")
    claims = claims_for("default")

    def look() -> tuple[str, str]:
        return tiles(admin_client)["In progress"][0], text_of(page(admin_client).partition("In progress")[2])

    with transaction.atomic():
        for key in ("new", "again"):
            claims.claim(Operation("s", key, "1:f", HOUR))
        value, text = parallel.call(look)
    assert value == "2"
    assert "1 of them without a record yet" in text[:100]
    assert look()[0] == "0"


@pytest.mark.vendors("sqlite")
def test_sqlite_says_that_it_does_not_tell(admin_client: Client) -> None:
    IdempotencyRecordFactory(key="one")
    assert tiles(admin_client)["In progress or interrupted"] == ("1", "?expiry=live&state=in_progress")
    assert keys(admin_client, state="in_progress") == ["one"]
    assert keys(admin_client, state="interrupted") == []
    assert "this database does not tell" in page(admin_client)


@pytest.mark.parametrize(("days", "late"), [(0.5, None), (2.5, "2 days")])
def test_purge_that_falls_behind_is_told(admin_client: Client, days: float, late: str | None) -> None:
    IdempotencyRecordFactory(expires_at=timezone.now() - timedelta(days=days))
    text = text_of(page(admin_client)).replace(" .", ".")
    assert ("The purge does not keep up." in text) is bool(late)
    if late:
        assert (
            f"The oldest expired record has waited for {late}. Let cron run manage.py purge_idempotency_records."
            in text
        )


def test_size_is_the_table_s_own(admin_client: Client) -> None:
    IdempotencyRecordFactory()
    size = stats.bytes_kept(connection.alias)
    assert size > 8192
    assert tiles(admin_client)["Kept on disk"] == (text_of(filesizeformat(size)), "?")


def test_size_is_left_out_where_nobody_knows_how_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "_SIZES", {})
    assert stats.bytes_kept(connection.alias) == 0


# The charts


def test_claims_and_expiries_are_counted_by_the_hour(
    admin_client: Client, half_past: datetime, settings: Any
) -> None:
    settings.IDEMPOTENCY = {"RETENTION": 48 * 3600}
    for hours in (-8.5, -8, -0.01, 0, 0.9, 15.9, 16):
        IdempotencyRecordFactory(expires_at=half_past + timedelta(hours=hours))
    for hours in (-23.1, -23, -1, -0.5, 0.99, 1):
        IdempotencyRecordFactory(expires_at=half_past + timedelta(hours=48 + hours))
    assert chart(admin_client, "expiring") == {"03:00": "1", "10:00": "1", "11:00": "2", "02:00": "1"}
    assert chart(admin_client, "claimed") == {"12:00": "1", "10:00": "2", "11:00": "1"}


def test_replays_and_conflicts_of_a_day_are_summed_and_drawn_beside_the_claims(
    admin_client: Client, half_past: datetime
) -> None:
    IdempotencyRecordFactory(key="again", completed=True, replays=3, last_replayed_at=half_past)
    IdempotencyRecordFactory(key="once", completed=True)
    for hours, replays in ((-24, 100), (-23, 1), (-2, 1500), (0, 4)):
        IdempotencyHour.objects.create(hour=half_past + hours * HOUR, replays=replays, conflicts=1)
    value, query = tiles(admin_client)["Replayed"]
    assert (value, keys(admin_client, replayed="24")) == ("1,505", ["again"])
    assert query == "?replayed=24"
    html = page(admin_client)
    assert "in 24 hours, and 3 conflicts" in text_of(html)
    assert "Claimed and replayed per hour" in html
    drawn = {hour[-5:]: replays for hour, _, replays in re.findall(
        r'<tr><th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td></tr>', html) if replays != "0"}  # fmt: skip
    assert drawn == {"12:00": "1", "09:00": "1,500", "11:00": "4"}


def test_replays_of_a_zone_half_an_hour_off_are_drawn_in_its_hours(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Kolkata"
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    (claims, _) = charts.charts(IdempotencyRecord.objects.using("default"), {hour: 7})
    assert sum(int(counts[1]) for _, counts in claims.rows) == 7


def test_nothing_is_said_of_replays_that_are_not_counted(admin_client: Client, settings: Any) -> None:
    settings.IDEMPOTENCY = {"COUNT_REPLAYS": False}
    IdempotencyRecordFactory()
    assert "Replayed" not in tiles(admin_client)
    assert "Claimed and replayed" not in page(admin_client)


def test_bars_are_as_high_as_their_hours_and_end_at_a_limit(
    admin_client: Client, half_past: datetime, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.IDEMPOTENCY = {"RETENTION": timedelta(hours=1)}
    monkeypatch.setattr(charts, "BAR_LIMIT", 4)
    for hours, count in ((-2, 2), (3, 5)):
        IdempotencyRecordFactory.create_batch(count, expires_at=half_past + timedelta(hours=hours))
    expiring = charts.charts(IdempotencyRecord.objects.using("default"))[1]
    drawn = {bar.hour.split()[-1]: (bar.height, bar.count, bar.kind) for bar in expiring.bars if bar.height}
    assert drawn == {"09:00": (35, "2", "overdue"), "14:00": (88, "4+", "due")}
    assert (expiring.most, expiring.now) == ("4+", 8 * charts.PITCH)
    assert [hour for _, hour in expiring.ticks] == ["03:00", "09:00", "15:00", "21:00"]


def test_one_among_thousands_is_to_be_seen() -> None:
    hours, series = [timezone.now()] * 2, charts.Series("due", "records", [1, 100_000])
    assert [bar.height for bar in charts._marks(hours, series, 100_000, None, 0, 19)] == [2, 88]


def test_charts_can_be_read_without_seeing_them(admin_client: Client) -> None:
    IdempotencyRecordFactory()
    html = page(admin_client)
    pictures = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg role.*?</svg>", html, re.DOTALL)]
    assert len(pictures) == 2
    for picture in pictures:
        assert picture.get("role") == "img"
        label, note = picture.get("aria-labelledby"), picture.get("aria-describedby")
        assert (html.count(f'id="{label}"'), html.count(f'id="{note}"')) == (1, 1)
    assert html.count("<summary>As a table") == 2


def test_charts_are_counted_once_a_minute(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    IdempotencyRecordFactory()
    counting = Mock(wraps=ranges.capped_count)
    monkeypatch.setattr(charts, "capped_count", counting)
    page(admin_client)
    page(admin_client)
    assert counting.call_count == 48
    cache.clear()
    page(admin_client)
    assert counting.call_count == 96


@pytest.mark.parametrize("method", ["get", "set"])
def test_cache_that_fails_is_done_without(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    IdempotencyRecordFactory()
    monkeypatch.setattr(charts, "cache", Mock(**{"get.return_value": None, f"{method}.side_effect": OSError}))
    assert sum(map(int, chart(admin_client, "expiring").values())) == 0
    assert sum(map(int, chart(admin_client, "claimed").values())) == 1


def test_chart_without_a_bar_says_so(admin_client: Client, half_past: datetime) -> None:
    record = IdempotencyRecordFactory(expires_at=half_past + 20 * HOUR)
    assert page(admin_client).count("Nothing expires in this range.") == 1
    cache.clear()
    record.expires_at = half_past
    record.save()
    assert "Nothing expires in this range." not in page(admin_client)


def test_what_has_just_expired_waits_for_no_minutes(admin_client: Client) -> None:
    IdempotencyRecordFactory(expires_at=timezone.now())
    assert tiles(admin_client)["Oldest expired"][0] == "just now"


def test_popup_has_no_panel(admin_client: Client) -> None:
    assert "idem-panel" not in page(admin_client, _popup="1")
    assert admin_client.post(LIST, {"action": ""}).status_code in (200, 302)
